"""RLOO with a second, linear control variate."""

from __future__ import annotations

import tensorflow as tf

from rebar_tf.distributions.math import per_unit
from rebar_tf.estimators.base import ControlSpec, Estimate, Objective
from rebar_tf.estimators.multi_sample import MultiSampleEstimator, mean_of_others
from rebar_tf.estimators.registry import register


@register
class DoubleCv(MultiSampleEstimator):
    """RLOO with a second, linear control variate from the derivatives of the other samples.

    With `g_k` the mean over the other samples of `df/db`, and mu the mean of the units given the layers before,

        1/K sum_k (f_k - alpha g_k (b_k - mu) - baseline_k) dlog p(b_k)/dl  +  alpha g_k dE[b]/dl,
        baseline_k = 1/(K-1) sum_{j != k} (f_j - alpha df/db_j (b_j - mu_j)).

    Both parts that are subtracted depend on sample k by way of the linear term only, whose expectation is added back.
    `alpha = 2 sigmoid(raw)`, one for each layer, is trained on the single-sample variance.

    Unbiased; K evaluations of the objective, which must be differentiable in the samples.

    Args:
        num_samples: K, 2 or more.

    Raises:
        ValueError: for a `num_samples` below 2.

    Example:
    >>> import rebar_tf as rt
    >>> layer = rt.layers.StochasticBinary(estimator="double_cv")

    Reference: after Titsias & Shi 2022, "Double control variates for gradient estimation in discrete latent variable
    models".
    """

    estimator_name = "double_cv"
    evaluations = "K"
    needs_derivative = True
    minimizes_variance = True

    def build_variables(self, spec: ControlSpec) -> None:
        self.raw_alpha = self.add_weight(shape=(len(spec.layer_shapes),), initializer="zeros", name="raw_alpha")

    def estimate(self, objective: Objective, step: tf.Tensor, context: tf.Tensor | None = None) -> Estimate:
        estimate, values, layers = self.differentiated_passes(objective, step)
        alphas = 2.0 * tf.sigmoid(self.raw_alpha.value)
        for sites, slopes in layers:
            alpha = alphas[sites[0].layer]
            centred = tf.stack([site.sample - site.distribution.mean() for site in sites])
            others = mean_of_others(slopes)
            units = list(range(2, centred.shape.rank))
            linear = tf.reduce_sum(others * centred, axis=units)
            linear_of_own = tf.reduce_sum(slopes * centred, axis=units)
            signals = values - alpha * linear - mean_of_others(values - alpha * linear_of_own)
            for k, site in enumerate(sites):
                correction = alpha * site.distribution.mean_vjp(others[k])
                cotangent = per_unit(signals[k], site.score) * site.score + correction
                estimate.sites.append(site)
                estimate.plain.append(cotangent / self.num_samples)
        return estimate
