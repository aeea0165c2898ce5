"""Reweighted wake-sleep."""

from __future__ import annotations

import tensorflow as tf

from rebar_tf.estimators.base import ALL_FAMILIES, Estimate, Objective
from rebar_tf.estimators.multi_sample import MultiSampleEstimator
from rebar_tf.estimators.registry import register
from rebar_tf.estimators.vimco import all_sets, multi_sample_bound


@register
class WakeSleep(MultiSampleEstimator):
    """Reweighted wake-sleep: the K-sample bound for the generative model, the posterior for the inference network.

    With the normalised weights `v_k` of the samples, `v_k ~ p(x, b_k) / q(b_k|x)`, the generative model follows the
    gradient of the bound `L = log 1/K sum_k exp(-f(b_k))`, and the stochastic layers that of

        -sum_k v_k log q(b_k|x),

    by which q comes near the posterior `p(b|x)` (the wake phase of q). This is the gradient of no one objective, and
    has no score of f: its variance falls as K grows. It is for generative models, whose f is
    `log q(b|x) - log p(x, b)`; of any other f it moves q towards `q(b) exp(-f(b))`. The reported objective is `-L`.

    Unbiased for what it says, at any K; K evaluations of f, which need not be differentiable in the samples.

    Args:
        num_samples: K, 2 or more.

    Raises:
        ValueError: for a `num_samples` below 2.

    Example:
    >>> import rebar_tf as rt
    >>> layer = rt.layers.StochasticBinary(estimator=rt.estimators.WakeSleep(num_samples=10))

    Reference: Bornschein & Bengio 2015, "Reweighted wake-sleep", eq. 5 and 6.
    """

    estimator_name = "wake_sleep"
    families = ALL_FAMILIES
    objective = "bound"
    through_density = False
    serves_coupled = False
    evaluations = "K"

    def estimate(self, objective: Objective, step: tf.Tensor, context: tf.Tensor | None = None) -> Estimate:
        traces, f = self.hard_passes(objective, step)
        bound = multi_sample_bound(-tf.stack(f))
        shares = tf.nn.softmax(-tf.stop_gradient(tf.stack(f)), axis=0)
        sites, plain = self.scored(traces, -shares)
        return Estimate(value=-bound, direct=-bound, sites=sites, plain=plain)

    def exact_target(self, f: tf.Tensor, log_p: tf.Tensor) -> tf.Tensor:
        f, log_q = all_sets(f, log_p, self.num_samples)
        bound = multi_sample_bound(-f, axis=1)
        of_q = tf.reduce_sum(tf.stop_gradient(tf.nn.softmax(-f, axis=1)) * log_q, axis=1)
        p = tf.stop_gradient(tf.exp(tf.reduce_sum(log_q, axis=1)))
        return tf.reduce_sum(-p * (bound + of_q - tf.stop_gradient(of_q)), axis=0)
