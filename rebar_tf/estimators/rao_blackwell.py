"""REINFORCE with the likeliest states summed out."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from rebar_tf.distributions.math import per_unit
from rebar_tf.estimators.base import ALL_FAMILIES, Estimate, Estimator, Objective, evaluate_at
from rebar_tf.estimators.joint_states import JointStates
from rebar_tf.estimators.registry import register
from rebar_tf.sampling import HardSampler, Site
from rebar_tf.validation import check_integer


@register
class RaoBlackwell(Estimator):
    """Rao-Blackwellised REINFORCE: a sum over the likeliest states C of a layer, and one sample of the others.

        sum_{s in C} p(s) (f(s) - c) dlog p(s)/dl  +  p(not in C) (f(b~) - c) dlog p(b~)/dl,    b~ ~ p(b | b not in C),

    with the baseline c, the mean of f over C. For layer i of several, the layers before it stay as sampled and those
    after it are drawn from their own noise.

    Unbiased. `1 + n (k + 1)` evaluations of the objective, which need not be differentiable and may not mix the
    examples of a batch. Layers of at most 4,096 joint states: a categorical variable, or some 12 binary units.

    Args:
        num_likeliest: k, the size of C, 1 or more. A layer of no more states has the exact sum.

    Raises:
        ValueError: for a `num_likeliest` below 1, and for a layer of too many states, at the first step.

    Example:
    >>> import rebar_tf as rt
    >>> estimator = rt.estimators.RaoBlackwell(num_likeliest=3)
    >>> layer = rt.layers.StochasticCategorical(100, estimator=estimator)

    Reference: Liu et al. 2019, "Rao-Blackwellized stochastic gradients for discrete distributions", eq. 7; the baseline
    is an addition.
    """

    estimator_name = "rao_blackwell"
    families = ALL_FAMILIES
    evaluations = "1 + n (k + 1)"
    enumerates = True
    serves_coupled = False

    def __init__(self, num_likeliest: int = 2, **kwargs: Any):
        super().__init__(**kwargs)
        check_integer("num_likeliest", num_likeliest, least=1)
        self.num_likeliest = int(num_likeliest)

    def estimate(self, objective: Objective, step: tf.Tensor, context: tf.Tensor | None = None) -> Estimate:
        trace, f = self.hard_pass(objective, step)
        plain = [self.cotangent(objective, trace, site) for site in trace]
        return Estimate(value=f, direct=f, sites=trace.sites, plain=plain)

    def cotangent(self, objective: Objective, trace: HardSampler, site: Site) -> tf.Tensor:
        """Of a layer's logits."""
        states = JointStates(site, trace.step)
        count = min(self.num_likeliest, states.num_states)
        likeliest = tf.math.top_k(states.log_p, count).indices
        places, p = tf.unstack(likeliest, axis=1), tf.unstack(tf.exp(states.log_p_at(likeliest)), axis=1)
        f = [evaluate_at(objective, trace, site, states.sample(place)) for place in places]
        baseline = sum(p_s * f_s for p_s, f_s in zip(p, f, strict=True)) / sum(p)
        if count < states.num_states:
            places.append(states.draw(1, without=likeliest)[:, 0])
            p.append(tf.exp(states.log_p_without(likeliest)))
            f.append(evaluate_at(objective, trace, site, states.sample(places[-1])))
        scores = [site.distribution.score(states.sample(place)) for place in places]
        terms = zip(p, f, scores, strict=True)
        return tf.stop_gradient(sum(per_unit(p_s * (f_s - baseline), score) * score for p_s, f_s, score in terms))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_likeliest": self.num_likeliest}
