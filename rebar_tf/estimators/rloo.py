"""RLOO: the other samples as a baseline."""

from __future__ import annotations

import tensorflow as tf

from rebar_tf.estimators.base import ALL_FAMILIES, Estimate, Objective
from rebar_tf.estimators.multi_sample import MultiSampleEstimator, mean_of_others
from rebar_tf.estimators.registry import register


@register
class Rloo(MultiSampleEstimator):
    """RLOO: REINFORCE of K samples, each with the mean of the others as its baseline.

        1/K sum_k (f(b_k) - 1/(K-1) sum_{j != k} f(b_j)) dlog p(b_k)/dl.

    The reported objective is the mean over the samples. Unbiased; K evaluations of the objective, which need not be
    differentiable.

    Args:
        num_samples: K, 2 or more.

    Raises:
        ValueError: for a `num_samples` below 2.

    Example:
    >>> import rebar_tf as rt
    >>> layer = rt.layers.StochasticBinary(estimator=rt.estimators.Rloo(num_samples=4))

    Reference: Kool et al. 2019; Salimans & Knowles 2014.
    """

    estimator_name = "rloo"
    families = ALL_FAMILIES
    evaluations = "K"

    def estimate(self, objective: Objective, step: tf.Tensor, context: tf.Tensor | None = None) -> Estimate:
        traces, f = self.hard_passes(objective, step)
        values = tf.stop_gradient(tf.stack(f))
        signals = (values - mean_of_others(values)) / self.num_samples
        sites, plain = self.scored(traces, signals)
        mean = tf.reduce_mean(tf.stack(f), axis=0)
        return Estimate(value=mean, direct=mean, sites=sites, plain=plain)
