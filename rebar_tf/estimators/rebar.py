"""REBAR, the estimator of the paper."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from rebar_tf.control_network import ControlNetwork
from rebar_tf.estimators.base import BaselineEstimator, ControlSpec, Estimate, Objective, evaluate
from rebar_tf.estimators.scales import ScaledEstimator
from rebar_tf.estimators.temperature import LearnedTemperatureEstimator
from rebar_tf.reparameterization import per_unit
from rebar_tf.sampling import HardSampler, Site
from rebar_tf.validation import is_integer

RULES = ("n_pass", "coupled", "hybrid", "q_function")


class Rebar(ScaledEstimator, LearnedTemperatureEstimator, BaselineEstimator):
    """REBAR: the score function with the relaxed objective as control variate (eq. 4), in its local form.

    Eq. 4 for one sample of one layer, to minimise f, with `y = sigma_lambda(z)` and `y~ = sigma_lambda(z~)`:

        [f(b) - eta f(y~)] dlog p(b)/dl  +  eta df(y)/dl  -  eta df(y~)/dl.

    With the noise of `z~` coupled to that of `z` (appendix G.2) the two relaxed samples have the same value and differ
    in their derivative only. One relaxed pass, `f_r = f(y)` and `d = df_r/dy`, then serves all three terms, and the
    estimate is one cotangent on the layer's logits,

        (f - eta f_r) dlog p(b)/dl  +  eta d sigma_lambda'(z) (dz/dl - dz~/dl).

    Several layers, by `rule`:

    | rule | relaxed passes | what pass i does | evaluations of f |
    | --- | --- | --- | --- |
    | `n_pass` (section 3.3) | one a layer | layers before i hard, i and later ones relaxed; i conditioned | 1 + n |
    | `coupled` (appendix F) | one | all layers relaxed and conditioned, with the noise of the hard pass | 2 |
    | `hybrid` (appendix F) | one for `every` layers | as `coupled`, within each group of layers | 1 + n / every |
    | `q_function` (appendix F) | none | a learned `Q(y_i)` stands in for `f_r` | 1 |

    In each the layers after the conditioned ones keep their own noise unconditioned. Conditioned layers get the score
    of all of them, and in each of them the local form holds with the derivative `d` of the shared relaxed pass: that
    pass's own dependence on the parameters is the same with and without the condition, and cancels.

    Eta, temperature and the input-dependent baseline are trained on the single-sample variance of the estimate; `Q` is
    trained by squared error to predict f.

    Unbiased, for every parameter of every layer and any eta and temperature. The objective must be differentiable in
    the samples, except under `q_function`.

    Args:
        temperature: lambda at the start, > 0.
        learn_temperature: whether lambda is trained. False gives REBAR(lambda).
        relaxation: `"eq7"`, the paper's, or `"concrete"`.
        temperature_per_layer: whether each stochastic layer has a lambda of its own.
        rule: one of the table's.
        every: layers in a group, 1 or more, for the rule `hybrid`.
        eta: `"variable"`, one scale for each variable of the model, as in the paper; `"shared"` or `"unit"`.

    Raises:
        ValueError: for a temperature that is not positive, an unknown relaxation, rule or eta, or an `every` below 1.

    Example:
    >>> import rebar_tf as rt
    >>> layer = rt.layers.StochasticBinary(estimator=rt.estimators.Rebar(temperature=0.1, learn_temperature=False))

    Reference: Tucker et al. 2017, eq. 4, section 3.3, appendices E, F and G.2.
    """

    estimator_name = "rebar"
    evaluations = "1 + n"
    needs_derivative = True
    minimizes_variance = True
    forward_mode = True  # nothing but the temperature is trained through the control variate
    rules: tuple[str, ...] = RULES

    def __init__(
        self,
        temperature: float = 0.5,
        learn_temperature: bool = True,
        relaxation: str = "eq7",
        temperature_per_layer: bool = False,
        rule: str = "n_pass",
        every: int = 1,
        eta: str = "variable",
        **kwargs,
    ):
        super().__init__(
            eta=eta,
            temperature=temperature,
            learn_temperature=learn_temperature,
            relaxation=relaxation,
            temperature_per_layer=temperature_per_layer,
            **kwargs,
        )
        if rule not in self.rules:
            raise ValueError(f"`rule` must be one of {', '.join(self.rules)}. Received: rule={rule!r}")
        if not is_integer(every, least=1) or (every > 1 and rule != "hybrid"):
            raise ValueError(
                f"`every` must be an integer of 1 or more, and 1 but for rule='hybrid'. Received: every={every!r}, "
                f"rule={rule!r}"
            )
        self.rule, self.every = rule, int(every)

    def build_variables(self, spec: ControlSpec) -> None:
        super().build_variables(spec)
        if self.rule == "q_function":
            self.q_networks = build_networks(spec, "q")

    def estimate(self, objective: Objective, step: tf.Tensor, context: tf.Tensor | None = None) -> Estimate:
        trace, f = self.hard_pass(objective, step)
        signal = tf.stop_gradient(f) - self.predict_baseline(context)
        estimate = Estimate(value=f, direct=f, sites=trace.sites)
        size = {"coupled": len(trace), "hybrid": self.every}.get(self.rule, 1)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(self.log_temperature.value)
            for first in range(0, len(trace), size):
                group = trace.sites[first : first + size]
                f_relaxed, relaxed, derivatives = self.relaxed_objective(objective, trace, group)
                for site, y, derivative in zip(group, relaxed, derivatives, strict=True):
                    estimate.plain.append(per_unit(signal, site.score) * site.score)
                    temperature = self.temperature(site.layer)
                    estimate.variate.append(control_variate(site, f_relaxed, derivative, y, temperature))
        if self.forward_mode and self.log_temperature.trainable and not self.temperature_per_layer:
            estimate.variate = linear_in(self.log_temperature.value, tape, estimate.variate)
        if self.rule == "q_function":
            estimate.control_loss = self._q_loss(trace, tf.stop_gradient(f))
        return estimate

    def relaxed_objective(
        self, objective: Objective, trace: HardSampler, group: list[Site]
    ) -> tuple[tf.Tensor, list[tf.Tensor], list[tf.Tensor]]:
        """What the control variate of a group of layers is made of: `f_r`, the relaxed samples y, and `df_r/dy`."""
        if self.rule == "q_function":
            return learned_objective(self.q_networks, group, self.relax, frozen=True)
        first, end = group[0].index, group[-1].index + 1
        with self.relaxed_pass(trace, first) as relaxed:
            f_relaxed = evaluate(objective)
        return f_relaxed, relaxed.outputs[first:end], relaxed.gradients(f_relaxed, first, end)

    def _q_loss(self, trace: HardSampler, f: tf.Tensor) -> tf.Tensor:
        """`(f(b) - Q(sigma_lambda(z_i)))^2`, for each layer."""
        losses = []
        for site in trace:
            relaxed = tf.stop_gradient(self.relax(site, site.z, site.logits))
            q = self.q_networks[site.layer].call(relaxed, site.family.mean(site.logits))
            losses.append(tf.reduce_mean(tf.square(f - q)))
        return tf.add_n(losses)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rule": self.rule, "every": self.every}


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


def linear_in(scalar: tf.Variable, tape: tf.GradientTape, tensors: list[tf.Tensor]) -> list[tf.Tensor]:
    """The tensors with their derivative by `scalar` taken in forward mode, and by nothing else.

    Forward mode is reverse mode differentiated by its cotangents, in which it is linear. Its products need no gradient
    of the model, so that they run beside those that compute it. An operation may lack the derivative that this takes,
    as `tf.concat` does under XLA: then the tensors stay as they are, to be differentiated in reverse mode.
    """
    with tf.GradientTape(watch_accessed_variables=False) as linear_tape:
        cotangents = [tf.zeros_like(tensor) for tensor in tensors]
        linear_tape.watch(cotangents)
        product = tape.gradient(tensors, scalar, output_gradients=cotangents)
    try:
        tangents = linear_tape.gradient(product, cotangents)
    except LookupError:
        return tensors
    step = scalar - tf.stop_gradient(scalar)
    return [
        tf.stop_gradient(tensor) + tf.stop_gradient(tangent) * step
        for tensor, tangent in zip(tensors, tangents, strict=True)
    ]


def build_networks(spec: ControlSpec, name: str) -> list[ControlNetwork]:
    """One `ControlNetwork` for each stochastic layer."""
    networks = []
    for i, shape in enumerate(spec.layer_shapes):
        network = ControlNetwork(seed=None if spec.seed is None else spec.seed + 10 + i, name=f"{name}_{i}")
        network.build((None, *shape))
        networks.append(network)
    return networks


def learned_objective(
    networks: list[ControlNetwork],
    group: list[Site],
    relax: Callable[[Site, tf.Tensor, tf.Tensor], tf.Tensor],
    frozen: bool = False,
) -> tuple[tf.Tensor, list[tf.Tensor], list[tf.Tensor]]:
    """A learned stand-in for the relaxed objective of one layer: its value, the relaxed sample, its derivative."""
    (site,) = group
    relaxed = relax(site, site.z, site.logits)
    value, derivative = networks[site.layer].value_and_derivative(relaxed, site.family.mean(site.logits), frozen)
    return value, [relaxed], [derivative]
