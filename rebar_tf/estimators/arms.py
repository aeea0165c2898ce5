"""ARMS: several samples that avoid each other."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from rebar_tf.distributions.math import per_unit
from rebar_tf.estimators.base import Estimate, Objective, evaluate_at
from rebar_tf.estimators.decisions import Decisions
from rebar_tf.estimators.multi_sample import MultiSampleEstimator
from rebar_tf.estimators.registry import register
from rebar_tf.sampling import HardSampler, Site

_FIRST_STREAM = 9  # after that of `Decisions`


@register
class Arms(MultiSampleEstimator):
    """ARMS: K samples of each layer that are antithetic in pairs, each compared with their mean.

        1/(K-1) sum_k (f(b_k) - mean_j f(b_j)) b_k / (1 - rho),

    rho the correlation of two samples of a unit. The samples come from a Dirichlet copula: with `(d_1, ..., d_K)`
    uniform on the simplex, `w_k = (1 - d_k)^(K-1)` are uniform in (0, 1) each, and sample k has the rarer value of
    probability q where `w_k < q`. Two have it with probability `max(0, 2 q^(1/(K-1)) - 1)^(K-1) < q^2`.

    For layer i of several, the layers before it stay as sampled and those after it are drawn from their own noise. The
    first sample is that of the hard pass. With K = 2 this is DisARM. A categorical unit is a path of binary decisions
    through a balanced tree of its classes; `Carms` couples the classes themselves.

    Unbiased; `1 + n (K - 1)` evaluations of the objective, which need not be differentiable.

    Args:
        num_samples: K, 2 or more.

    Raises:
        ValueError: for a `num_samples` below 2.

    Example:
    >>> import rebar_tf as rt
    >>> layer = rt.layers.StochasticBinary(estimator=rt.estimators.Arms(num_samples=4))

    Reference: Dimitriev & Zhou 2021, "ARMS: Antithetic-REINFORCE-multi-sample gradient for binary variables", section
    3 (Dirichlet copula).
    """

    estimator_name = "arms"
    evaluations = "1 + n (K - 1)"

    def __init__(self, num_samples: int = 4, **kwargs: Any):
        super().__init__(num_samples, **kwargs)

    def estimate(self, objective: Objective, step: tf.Tensor, context: tf.Tensor | None = None) -> Estimate:
        trace, f = self.hard_pass(objective, step)
        plain = [self.cotangent(objective, trace, tf.stop_gradient(f), site) for site in trace]
        return Estimate(value=f, direct=f, sites=trace.sites, plain=plain)

    def cotangent(self, objective: Objective, trace: HardSampler, f: tf.Tensor, site: Site) -> tf.Tensor:
        """That of a layer's logits; f at the hard sample."""
        decisions = Decisions(site, trace.step)
        made = [decisions.drawn, *self.antithetic(decisions)]
        others = [evaluate_at(objective, trace, site, decisions.sample(each)) for each in made[1:]]
        values = tf.stack([f, *others])
        signals = (values - tf.reduce_mean(values, axis=0)) / (self.num_samples - 1)
        # The signals add up to 0: less the first sample, a unit that has one value in all gets exactly nothing.
        total = sum(per_unit(signals[k], each) * (each - made[0]) for k, each in enumerate(made))
        weight = one_over_one_less_correlation(decisions.logits, self.num_samples)
        return decisions.to_logits(total * weight * decisions.relevant(made))

    def antithetic(self, decisions: Decisions) -> list[tf.Tensor]:
        """K - 1 further samples of the decisions, by the copula given the noise of the first."""
        power = float(self.num_samples - 1)
        rarer = tf.cast(decisions.logits < 0.0, tf.float32)  # the rarer value, and the noise's place on its side
        first = rarer * (1.0 - decisions.noise) + (1.0 - rarer) * decisions.noise
        remaining = tf.pow(first, 1.0 / power)  # 1 - d_1
        streams = range(_FIRST_STREAM, _FIRST_STREAM + self.num_samples - 1)
        exponential = [-tf.math.log(decisions.uniform(stream)) for stream in streams]
        total = sum(exponential)
        w = [tf.pow(1.0 - remaining * each / total, power) for each in exponential]
        q = tf.sigmoid(-tf.abs(decisions.logits))
        return [tf.stop_gradient(tf.where(each < q, rarer, 1.0 - rarer)) for each in w]


def one_over_one_less_correlation(logits: tf.Tensor, num_samples: int) -> tf.Tensor:
    """`1 / (1 - rho) = (1 - q) / (1 - P / q)`, P the probability that two samples have the rarer value, q of one."""
    power = float(num_samples - 1)
    q = tf.sigmoid(-tf.abs(logits))
    both = tf.pow(tf.maximum(2.0 * tf.pow(q, 1.0 / power) - 1.0, 0.0), power)
    return (1.0 - q) / (1.0 - tf.math.divide_no_nan(both, q))  # q underflows where a decision is certain
