"""REBAR, the estimator of the paper."""

from __future__ import annotations

import tensorflow as tf

from rebar_tf.estimators.base import BaselineEstimator, Estimate, Objective, evaluate
from rebar_tf.estimators.temperature import RelaxingEstimator
from rebar_tf.reparameterization import per_unit
from rebar_tf.sampling import RelaxedSampler, Site


class Rebar(RelaxingEstimator, BaselineEstimator):
    """REBAR: the score function with the relaxed objective as control variate (eq. 4), in its local form.

    Eq. 4 for one sample of one layer, to minimise f:

        [f(b) - eta f(y~)] dlog p(b)/dl  +  eta df(y)/dl  -  eta df(y~)/dl,
        y = sigma_lambda(z), y~ = sigma_lambda(z~).

    With the noise of `z~` coupled to that of `z` (appendix G.2) the two relaxed samples have the same value and differ
    in their derivative only. One relaxed pass, `f_r = f(y)` and `d = df_r/dy`, then serves all three terms, and the
    estimate is one cotangent on the layer's logits,

        (f - eta f_r) dlog p(b)/dl  +  eta d sigma_lambda'(z) (dz/dl - dz~/dl).

    Several layers: in the pass of layer i the layers before it stay as sampled, and layer i and those after it are
    relaxed with their own noise (main text, section 3.3). Only layer i is conditioned on its sample.

    Eta is `2 sigmoid(raw)`, one for each variable of the model, and starts at 1. Eta, temperature and the
    input-dependent baseline are trained on the single-sample variance of the estimate.

    Unbiased, for every parameter of every layer and any eta and temperature; `1 + n` evaluations of the objective,
    which must be differentiable in the samples.

    Args:
        temperature: lambda at the start, > 0.
        learn_temperature: whether lambda is trained. False gives REBAR(lambda).
        relaxation: `"eq7"`, the paper's, or `"concrete"`.

    Raises:
        ValueError: for a temperature that is not positive, or an unknown relaxation.

    Example:
    >>> import rebar_tf as rt
    >>> layer = rt.layers.StochasticBinary(estimator=rt.estimators.Rebar(temperature=0.1, learn_temperature=False))

    Reference: Tucker et al. 2017, eq. 4, section 3.3, appendices E and G.2.
    """

    estimator_name = "rebar"
    evaluations = "1 + n"
    needs_derivative = True
    minimizes_variance = True

    def __init__(self, temperature: float = 0.5, learn_temperature: bool = True, relaxation: str = "eq7", **kwargs):
        super().__init__(temperature, learn_temperature, relaxation, **kwargs)

    def build_variables(self, num_variables: int, context_size: int | None) -> None:
        super().build_variables(num_variables, context_size)
        self.raw_eta = self.add_weight(shape=(num_variables,), initializer="zeros", name="raw_eta")

    def eta(self) -> tf.Tensor:
        return 2.0 * tf.sigmoid(self.raw_eta.value)

    def estimate(self, objective: Objective, step: tf.Tensor, context: tf.Tensor | None = None) -> Estimate:
        trace, f = self.hard_pass(objective, step)
        signal = tf.stop_gradient(f) - self.predict_baseline(context)
        temperature = self.temperature()
        estimate = Estimate(value=f, direct=f, sites=trace.sites)
        for site in trace:
            with RelaxedSampler(trace, site.index, temperature, self.relaxation) as relaxed:
                f_relaxed = evaluate(objective)
            derivative = relaxed.gradient(f_relaxed)
            estimate.plain.append(per_unit(signal, site.score) * site.score)
            estimate.variate.append(control_variate(site, f_relaxed, derivative, relaxed.relaxed, temperature))
        return estimate


def control_variate(
    site: Site, f_relaxed: tf.Tensor, derivative: tf.Tensor, relaxed: tf.Tensor, temperature: tf.Tensor
) -> tf.Tensor:
    """`-f_r dlog p(b)/dl + d sigma_lambda'(z) (dz/dl - dz~/dl)`: what eta multiplies in eq. 4, expectation 0.

    Args:
        site: the layer's hard sample.
        f_relaxed: `[batch]`, the objective of the relaxed pass.
        derivative: like the logits, `d f_r / d y`.
        relaxed: the relaxed sample y.
        temperature: lambda.

    Returns:
        A cotangent of the logits.
    """
    to_z = site.family.relaxation_vjp(derivative, relaxed, temperature)
    residual = site.family.coupled_residual_vjp(to_z, site.z, site.sample, site.logits)
    return residual - per_unit(f_relaxed, site.score) * site.score
