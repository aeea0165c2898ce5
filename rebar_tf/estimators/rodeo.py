"""RODEO: RLOO with control variates from a discrete Stein operator."""

from __future__ import annotations

import tensorflow as tf

from rebar_tf.distributions.math import per_unit
from rebar_tf.estimators.base import ControlSpec, Estimate, Objective
from rebar_tf.estimators.multi_sample import MultiSampleEstimator, mean_of_others
from rebar_tf.estimators.registry import register
from rebar_tf.sampling import Site


@register
class Rodeo(MultiSampleEstimator):
    """RODEO with linear surrogates: RLOO with two control variates from a discrete Stein operator.

    The operator of Barker's chain, which flips one of a layer's d units,

        (A h)(b) = 1/d sum_i p(1 - b_i) (h(flip_i b) - h(b)),

    has expectation zero for every h. With the Taylor expansions `h_j(b) = f_j + df/db_j (b - b_j)` of the samples,

        1/K sum_k [ (f_k - 1/(K-1) sum_{j != k} (f_j + alpha (A h_j)(b_j))) dlog p(b_k)/dl
                    + beta A(h_{-k} dlog p/dl)(b_k) ],

    `h_{-k}` the mean of the others' expansions. For linear h both are sums over the units, without an evaluation of the
    objective. alpha and beta, one of each for each layer, start at 0, where this is RLOO, and are trained on the
    single-sample variance. The published estimator transforms the expansions by a learned network.

    Unbiased; K evaluations of the objective, which must be differentiable in the samples. Bernoulli units only.

    Args:
        num_samples: K, 2 or more.

    Raises:
        ValueError: for a `num_samples` below 2.

    Example:
    >>> import rebar_tf as rt
    >>> layer = rt.layers.StochasticBinary(estimator="rodeo")

    Reference: after Shi et al. 2022, "Gradient estimation with discrete Stein operators", section 4.
    """

    estimator_name = "rodeo"
    evaluations = "K"
    needs_derivative = True
    minimizes_variance = True
    families = ("bernoulli",)

    def build_variables(self, spec: ControlSpec) -> None:
        shape = (len(spec.layer_shapes),)
        self.alpha = self.add_weight(shape=shape, initializer="zeros", name="alpha")
        self.beta = self.add_weight(shape=shape, initializer="zeros", name="beta")

    def estimate(self, objective: Objective, step: tf.Tensor, context: tf.Tensor | None = None) -> Estimate:
        estimate, values, layers = self.differentiated_passes(objective, step)
        for sites, slopes in layers:
            layer = sites[0].layer
            samples = tf.stack([site.sample for site in sites])
            units = list(range(2, samples.shape.rank))
            flips = tf.stack([expected_flip(site) for site in sites])
            operator = tf.reduce_mean(flips * slopes, axis=units)  # (A h_j)(b_j): an expansion is linear
            signals = values - mean_of_others(values + self.alpha.value[layer] * operator)
            # h_{-k}(b) = intercept + slope b, and its value at b_k
            slope = mean_of_others(slopes)
            intercept = mean_of_others(values - tf.reduce_sum(slopes * samples, axis=units))
            expansion = intercept + tf.reduce_sum(slope * samples, axis=units)
            for k, site in enumerate(sites):
                stein = stein_of_score(site, flips[k], expansion[k], slope[k])
                cotangent = per_unit(signals[k], site.score) * site.score + self.beta.value[layer] * stein
                estimate.sites.append(site)
                estimate.plain.append(cotangent / self.num_samples)
        return estimate


def expected_flip(site: Site) -> tf.Tensor:
    """`p(1 - b_i) (1 - 2 b_i)`: the expected change of each unit when it is drawn anew."""
    sign = 1.0 - 2.0 * site.sample
    return sign * tf.sigmoid(sign * site.logits)


def stein_of_score(site: Site, flip: tf.Tensor, value: tf.Tensor, slope: tf.Tensor) -> tf.Tensor:
    """`A(h dlog p/dl)(b)` for a linear h of the given value at b and slope, like the logits.

    Flipping unit i changes h by `slope_i (1 - 2 b_i)` and the score of unit i by `1 - 2 b_i`:
    `A = 1/d (score sum_i flip_i slope_i + flip (h + slope (1 - 2 b)))`.
    """
    units = list(range(1, flip.shape.rank))
    size = tf.cast(tf.reduce_prod(tf.shape(flip)[1:]), tf.float32)
    change = per_unit(tf.reduce_sum(flip * slope, axis=units), flip) * site.score
    return (change + flip * (per_unit(value, flip) + slope * (1.0 - 2.0 * site.sample))) / size
