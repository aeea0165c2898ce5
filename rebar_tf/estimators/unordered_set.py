"""The unordered-set estimator: samples without replacement."""

from __future__ import annotations

import functools
from typing import Any

import tensorflow as tf

from rebar_tf.distributions.math import per_unit
from rebar_tf.estimators.base import ALL_FAMILIES, Estimate, Objective, evaluate_at
from rebar_tf.estimators.joint_states import JointStates
from rebar_tf.estimators.multi_sample import MultiSampleEstimator
from rebar_tf.estimators.registry import register
from rebar_tf.sampling import HardSampler, Site

_MOST_SAMPLES = 5  # the probability of a set is a sum over its subsets


@register
class UnorderedSet(MultiSampleEstimator):
    """Unordered set: a layer's state is drawn K times without replacement, and their order is averaged out.

    With S the set drawn, `p(S)` its probability in any order, and `p_s(.)` probabilities where s is left out,

        sum_{s in S} p(s) R(S, s) (f(s) - B(S, s)) dlog p(s)/dl,      R(S, s) = p_s(S without s) / p(S),
        B(S, s) = p(s) f(s) + sum_{t in S without s} p(t) R_s(S without s, t) f(t).

    The first of the set is the sample of the hard pass. For layer i of several, the layers before it stay as sampled
    and those after it are drawn from their own noise.

    Unbiased. `1 + n (K - 1)` evaluations of the objective, which need not be differentiable and may not mix the
    examples of a batch. Layers of at most 4,096 joint states: with more, draws repeat so rarely that this is `rloo`.

    Args:
        num_samples: K, 2 to 5, and no more than the states of a layer.

    Raises:
        ValueError: for another `num_samples`, and for a layer of too few or too many states, at the first step.

    Example:
    >>> import rebar_tf as rt
    >>> layer = rt.layers.StochasticCategorical(100, estimator=rt.estimators.UnorderedSet(num_samples=4))

    Reference: Kool, van Hoof & Welling 2020, "Estimating gradients for discrete random variables by sampling without
    replacement", theorems 1 and 2, with the built-in baseline.
    """

    estimator_name = "unordered_set"
    families = ALL_FAMILIES
    evaluations = "1 + n (K - 1)"
    enumerates = True
    serves_coupled = False

    def __init__(self, num_samples: int = 2, **kwargs: Any):
        super().__init__(num_samples, **kwargs)
        if num_samples > _MOST_SAMPLES:
            raise ValueError(
                f"`num_samples` must be an integer from 2 to {_MOST_SAMPLES}. Received: num_samples={num_samples!r}"
            )

    def estimate(self, objective: Objective, step: tf.Tensor, context: tf.Tensor | None = None) -> Estimate:
        trace, f = self.hard_pass(objective, step)
        plain = [self.cotangent(objective, trace, tf.stop_gradient(f), site) for site in trace]
        return Estimate(value=f, direct=f, sites=trace.sites, plain=plain)

    def cotangent(self, objective: Objective, trace: HardSampler, f: tf.Tensor, site: Site) -> tf.Tensor:
        """Of a layer's logits."""
        states = JointStates(site, trace.step)
        if states.num_states < self.num_samples:
            raise ValueError(
                f"`num_samples` must be at most the number of joint states of each layer. Received: "
                f"num_samples={self.num_samples}, and {states.num_states} states of layer {site.source.name!r}"
            )
        first = states.place_of(site.sample)[:, tf.newaxis]
        places = tf.concat([first, states.draw(self.num_samples - 1, without=first)], axis=1)
        samples = [states.sample(place) for place in tf.unstack(places, axis=1)]
        values = [f, *(evaluate_at(objective, trace, site, sample) for sample in samples[1:])]
        weights = weighted_differences(
            tf.unstack(states.log_p_at(places), axis=1), states.log_p_without(places), values
        )
        scores = [site.distribution.score(sample) for sample in samples]
        return tf.stop_gradient(sum(per_unit(w, score) * score for w, score in zip(weights, scores, strict=True)))


def weighted_differences(log_p: list[tf.Tensor], log_rest: tf.Tensor, f: list[tf.Tensor]) -> list[tf.Tensor]:
    """`p(s) R(S, s) (f(s) - B(S, s))` for each s of a set S, `[batch]`.

    Args:
        log_p: for each s, `[batch]`.
        log_rest: the log-probability of all states outside of S, `[batch]`.
        f: for each s, `[batch]`.
    """
    whole = frozenset(range(len(log_p)))

    @functools.cache
    def log_set(those: frozenset[int]) -> tf.Tensor:
        """Of drawing those of S in any order where the others of S are left out."""
        return log_probability(those, log_p, log_rest)

    weights = []
    for s in whole:
        without = whole - {s}
        ratios = {t: tf.exp(log_p[t] + log_set(without - {t}) - log_set(without)) for t in without}
        baseline = tf.exp(log_p[s]) * f[s] + sum(ratio * f[t] for t, ratio in ratios.items())
        weights.append(tf.exp(log_p[s] + log_set(without) - log_set(whole)) * (f[s] - baseline))
    return weights


def log_probability(those: frozenset[int], log_p: list[tf.Tensor], log_rest: tf.Tensor) -> tf.Tensor:
    """`[batch]`: the log-probability that draws without replacement yield those states first, in any order.

    The states are those and the rest. The last one drawn may be any of them, after a draw of the others.
    """

    @functools.cache
    def drawn_first(some: frozenset[int]) -> tf.Tensor:
        if not some:
            return tf.zeros_like(log_rest)
        return log_sum([drawn_first(some - {last}) + log_p[last] - remaining(some - {last}) for last in some])

    def remaining(drawn: frozenset[int]) -> tf.Tensor:
        return log_sum([log_rest, *(log_p[s] for s in those - drawn)])

    return drawn_first(those)


def log_sum(terms: list[tf.Tensor]) -> tf.Tensor:
    """The logarithm of a sum, from those of its terms."""
    return tf.reduce_logsumexp(tf.stack(terms), axis=0)
