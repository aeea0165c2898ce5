"""The score-function estimators: REINFORCE, and NVIL with its input-dependent baseline."""

from __future__ import annotations

import tensorflow as tf

from rebar_tf.distributions.math import per_unit
from rebar_tf.estimators.base import ALL_FAMILIES, ControlSpec, Estimate, Estimator, Objective
from rebar_tf.estimators.baseline import predict
from rebar_tf.estimators.registry import register


@register
class Reinforce(Estimator):
    """REINFORCE: `f(b) dlog p(b)/dl` for each stochastic layer.

    Unbiased; 1 evaluation of the objective, which need not be differentiable. High variance: a reference, rarely a
    choice.

    Example:
    >>> import rebar_tf as rt
    >>> layer = rt.layers.StochasticBinary(estimator=rt.estimators.Reinforce())

    Reference: Williams 1992.
    """

    estimator_name = "reinforce"
    families = ALL_FAMILIES

    def estimate(self, objective: Objective, step: tf.Tensor, context: tf.Tensor | None = None) -> Estimate:
        trace, f = self.hard_pass(objective, step)
        plain = [per_unit(tf.stop_gradient(f), site.score) * site.score for site in trace]
        return Estimate(value=f, direct=f, sites=trace.sites, plain=plain)


@register
class Nvil(Estimator):
    """NVIL: `(f(b) - baseline(x)) dlog p(b)/dl`, one learning signal for all layers.

    The baseline is trained to predict f by squared error. Unbiased; 1 evaluation of the objective, which need not be
    differentiable.

    Example:
    >>> import rebar_tf as rt
    >>> layer = rt.layers.StochasticBinary(estimator="nvil")

    Reference: Mnih & Gregor 2014, without their variance normalisation.
    """

    estimator_name = "nvil"
    families = ALL_FAMILIES

    def build_variables(self, spec: ControlSpec) -> None:
        self.baseline = spec.build_baseline()

    def estimate(self, objective: Objective, step: tf.Tensor, context: tf.Tensor | None = None) -> Estimate:
        trace, f = self.hard_pass(objective, step)
        signal = tf.stop_gradient(f) - predict(self.baseline, context)
        plain = [per_unit(signal, site.score) * site.score for site in trace]
        control_loss = tf.reduce_mean(tf.square(signal))
        return Estimate(value=f, direct=f, sites=trace.sites, plain=plain, control_loss=control_loss)
