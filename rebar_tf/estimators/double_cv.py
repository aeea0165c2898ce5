"""Double control variates: RLOO with a linear one within each sample and within its baseline."""

from __future__ import annotations

import tensorflow as tf

from rebar_tf.distributions.math import per_unit
from rebar_tf.estimators.base import ALL_FAMILIES, ControlSpec, Estimate, Objective
from rebar_tf.estimators.multi_sample import MultiSampleEstimator, mean_of_others
from rebar_tf.estimators.registry import register


@register
class DoubleCv(MultiSampleEstimator):
    """Double control variates: RLOO with a linear term taken off each f, its own and those of its baseline.

    With `g_{-k}` the mean over the other samples of `df/db`, and mu the mean of the units given the layers before,

        c_k = f_k - alpha g_{-k} (b_k - mu_k),
        1/K sum_k [(c_k - 1/(K-1) sum_{j != k} c_j) dlog p(b_k)/dl  +  alpha g_{-k} dE[b_k]/dl].

    The linear term of sample k has the expectation that is added back, those of the others expectation zero. alpha, one
    for each layer, starts at 0, where this is RLOO, and is trained on the single-sample variance.

    Unbiased; K evaluations of the objective, which must be differentiable in the samples.

    Args:
        num_samples: K, 2 or more.

    Raises:
        ValueError: for a `num_samples` below 2.

    Example:
    >>> import rebar_tf as rt
    >>> layer = rt.layers.StochasticBinary(estimator="double_cv")

    Reference: Titsias & Shi 2022, "Double control variates for gradient estimation in discrete latent variable models";
    their alpha, one for the model, has the other sign.
    """

    estimator_name = "double_cv"
    families = ALL_FAMILIES
    evaluations = "K"
    needs_derivative = True
    minimizes_variance = True

    def build_variables(self, spec: ControlSpec) -> None:
        self.alpha = self.add_weight(shape=(len(spec.layer_shapes),), initializer="zeros", name="alpha")

    def estimate(self, objective: Objective, step: tf.Tensor, context: tf.Tensor | None = None) -> Estimate:
        estimate, values, layers = self.differentiated_passes(objective, step)
        for sites, slopes in layers:
            alpha = self.alpha.value[sites[0].layer]
            centred = tf.stack([site.sample - site.distribution.mean() for site in sites])
            others = mean_of_others(slopes)
            linear = tf.reduce_sum(others * centred, axis=list(range(2, centred.shape.rank)))
            less_linear = values - alpha * linear
            signals = less_linear - mean_of_others(less_linear)
            for k, site in enumerate(sites):
                correction = alpha * site.distribution.mean_vjp(others[k])
                cotangent = per_unit(signals[k], site.score) * site.score + correction
                estimate.sites.append(site)
                estimate.plain.append(cotangent / self.num_samples)
        return estimate
