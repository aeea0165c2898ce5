"""MuProp, and the simpler one without its linear term: the objective at the means as control variate."""

from __future__ import annotations

import tensorflow as tf

from rebar_tf.distributions.math import per_unit, sum_units
from rebar_tf.estimators.base import ALL_FAMILIES, ControlSpec, Estimate, Estimator, Objective, derivatives, evaluate
from rebar_tf.estimators.baseline import predict
from rebar_tf.estimators.registry import register
from rebar_tf.sampling import MeanSampler, check_same_number


@register
class SimpleMuProp(Estimator):
    """SimpleMuProp: `(f(b) - s0 f(mu) - baseline(x)) dlog p(b)/dl`, mu the mean-field pass.

    Each layer of the mean-field pass outputs its mean, so `f(mu)` does not depend on the samples. The scale
    `s0 = 2 sigmoid(raw)`, one for each layer, is trained with the baseline to make the learning signal small. It is the
    limit of REBAR with eq. 7 for large lambda (appendix E).

    Unbiased; 2 evaluations of the objective, which need not be differentiable but must take means for samples.

    Example:
    >>> import rebar_tf as rt
    >>> layer = rt.layers.StochasticBinary(estimator="simple_muprop")

    Reference: Tucker et al. 2017, appendix E; Gu et al. 2016.
    """

    estimator_name = "simple_muprop"
    families = ALL_FAMILIES
    evaluations = "2"

    def build_variables(self, spec: ControlSpec) -> None:
        self.baseline = spec.build_baseline()
        self.raw_mean_scale = self.add_weight(shape=(len(spec.layer_shapes),), initializer="zeros", name="raw_s0")

    def estimate(self, objective: Objective, step: tf.Tensor, context: tf.Tensor | None = None) -> Estimate:
        trace, f = self.hard_pass(objective, step)
        with MeanSampler():
            f_mean = evaluate(objective)
        baseline = predict(self.baseline, context)
        scales = 2.0 * tf.sigmoid(self.raw_mean_scale.value)
        plain, losses = [], []
        for site in trace:
            signal = tf.stop_gradient(f) - scales[site.layer] * tf.stop_gradient(f_mean) - baseline
            plain.append(per_unit(signal, site.score) * site.score)
            losses.append(tf.reduce_mean(tf.square(signal)))
        return Estimate(value=f, direct=f, sites=trace.sites, plain=plain, control_loss=tf.add_n(losses))


@register
class MuProp(SimpleMuProp):
    """MuProp: the first-order Taylor expansion about the mean-field pass as control variate.

    For each layer, with `f'` the derivative of `f(mu)` with respect to the layer's mean,

        (f(b) - s0 f(mu) - s1 f'(mu) (b - mu) - baseline(x)) dlog p(b)/dl  +  s1 f'(mu) dE[b]/dl.

    Both scales are `2 sigmoid(raw)` and trained with the baseline to make the learning signal small; that of the linear
    term is the paper's addition (appendix G.1).

    Unbiased; 2 evaluations of the objective, which must be differentiable in the samples.

    Example:
    >>> import rebar_tf as rt
    >>> layer = rt.layers.StochasticBinary(estimator="muprop")

    Reference: Gu et al. 2016; Tucker et al. 2017, appendix G.1.
    """

    estimator_name = "muprop"
    needs_derivative = True

    def build_variables(self, spec: ControlSpec) -> None:
        super().build_variables(spec)
        self.raw_linear_scale = self.add_weight(shape=(len(spec.layer_shapes),), initializer="zeros", name="raw_s1")

    def estimate(self, objective: Objective, step: tf.Tensor, context: tf.Tensor | None = None) -> Estimate:
        trace, f = self.hard_pass(objective, step)
        with MeanSampler() as mean_field:
            f_mean = evaluate(objective)
        check_same_number(trace, len(mean_field.outputs))
        slopes = derivatives(mean_field, f_mean)
        baseline = predict(self.baseline, context)
        mean_scales = 2.0 * tf.sigmoid(self.raw_mean_scale.value)
        linear_scales = 2.0 * tf.sigmoid(self.raw_linear_scale.value)
        plain, losses = [], []
        for site, mean, slope in zip(trace, mean_field.outputs, slopes, strict=True):
            slope = tf.stop_gradient(slope)
            linear = sum_units(slope * (site.sample - tf.stop_gradient(mean)))
            constant = tf.stop_gradient(f) - mean_scales[site.layer] * tf.stop_gradient(f_mean) - baseline
            signal = constant - linear_scales[site.layer] * linear
            correction = linear_scales[site.layer] * site.distribution.mean_vjp(slope)
            plain.append(per_unit(signal, site.score) * site.score + correction)
            losses.append(tf.reduce_mean(tf.square(signal)))
        return Estimate(value=f, direct=f, sites=trace.sites, plain=plain, control_loss=tf.add_n(losses))
