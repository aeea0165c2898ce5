"""VIMCO: a bound of several samples."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from rebar_tf.estimators.base import ALL_FAMILIES, Estimate, Objective
from rebar_tf.estimators.multi_sample import MultiSampleEstimator, mean_of_others
from rebar_tf.estimators.registry import register


@register
class Vimco(MultiSampleEstimator):
    """VIMCO: the K-sample bound `L = log 1/K sum_k exp(-f(b_k))`, to maximise.

    The learning signal of sample k is L less the same bound with `-f(b_k)` replaced by the mean of the others (the
    geometric mean of their weights), eq. 10. Their second term, `sum_k v_k d(-f(b_k))` with the normalised weights v,
    is the ordinary gradient of L, by way of the density `log q(b_k|x)` within f, too. As published, without a baseline
    network.

    The objective is `-L`, not the mean of f: it is what is reported, and what the estimate is unbiased for. K
    evaluations of f, which need not be differentiable.

    Args:
        num_samples: K, 2 or more.

    Raises:
        ValueError: for a `num_samples` below 2.

    Example:
    >>> import rebar_tf as rt
    >>> layer = rt.layers.StochasticBinary(estimator=rt.estimators.Vimco(num_samples=5))

    Reference: Mnih & Rezende 2016, eq. 10.
    """

    estimator_name = "vimco"
    families = ALL_FAMILIES
    objective = "bound"
    serves_coupled = False
    evaluations = "K"
    score_in_density = True  # the bound is not linear in log q

    def estimate(self, objective: Objective, step: tf.Tensor, context: tf.Tensor | None = None) -> Estimate:
        traces, f = self.hard_passes(objective, step)
        bound = multi_sample_bound(-tf.stack(f))
        signals = self.signals(-tf.stop_gradient(tf.stack(f)), tf.stop_gradient(bound))
        sites, plain = self.scored(traces, -signals)
        return Estimate(value=-bound, direct=-bound, sites=sites, plain=plain)

    def signals(self, weights: tf.Tensor, bound: tf.Tensor) -> tf.Tensor:
        """What multiplies the score of each sample, to maximise the bound, `[K, batch]`.

        Args:
            weights: the log-weights `-f(b_k)`, `[K, batch]`.
            bound: of all samples, `[batch]`.
        """
        # [K, K, batch]: row k holds all log-weights, its own replaced by the mean of the others.
        own = tf.eye(self.num_samples)[:, :, tf.newaxis]
        replaced = weights[tf.newaxis] * (1.0 - own) + mean_of_others(weights)[:, tf.newaxis] * own
        return bound - multi_sample_bound(replaced, axis=1)

    def exact_target(self, f: tf.Tensor, log_p: tf.Tensor) -> tf.Tensor:
        f, log_p = all_sets(f, log_p, self.num_samples)
        return tf.reduce_sum(-multi_sample_bound(-f, axis=1) * tf.exp(tf.reduce_sum(log_p, axis=1)), axis=0)


def all_sets(f: tf.Tensor, log_p: tf.Tensor, num_samples: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Of all K-tuples of states f and `log p`, `[states^K, K, batch]`, from those of all states, `[states, batch]`."""
    states = np.indices((f.shape[0],) * num_samples).reshape(num_samples, -1).T
    return tf.gather(f, states), tf.gather(log_p, states)


def multi_sample_bound(log_weights: tf.Tensor, axis: int = 0) -> tf.Tensor:
    """`log 1/K sum_k w_k` over the axis of the samples."""
    return tf.reduce_logsumexp(log_weights, axis=axis) - tf.math.log(tf.cast(log_weights.shape[axis], tf.float32))
