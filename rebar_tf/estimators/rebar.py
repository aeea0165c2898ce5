"""REBAR, the estimator of the paper."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from rebar_tf.distributions import independent
from rebar_tf.distributions.math import per_unit
from rebar_tf.estimators.base import ControlSpec, Estimate, Estimator, Objective, derivatives, evaluate
from rebar_tf.estimators.baseline import predict
from rebar_tf.estimators.registry import register
from rebar_tf.estimators.scale import Scale
from rebar_tf.estimators.temperature import Temperature
from rebar_tf.sampling import HardSampler, Site
from rebar_tf.validation import is_integer

# Types of operations. Keras's recurrent layers call a function that loops.
LOOPS = ("While", "StatelessWhile", "PartitionedCall", "StatefulPartitionedCall")

# Of a group of layers: `f_r`, the relaxed samples y, and `df_r/dy`.
RelaxedObjective = tuple[tf.Tensor, list[tf.Tensor], list[tf.Tensor]]
# Of a layer: its site, `f_r`, `df_r/dy`, y, and its temperature.
RelaxedLayer = tuple[Site, tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]


class RelaxedControlVariate(Estimator):
    """Base of REBAR and its siblings, which differ in the objective that serves as control variate.

    It has a temperature, a scale for each variable and an input-dependent baseline, all trained on the single-sample
    variance of the estimate. A subclass says what `relaxed_objective` is.

    Args:
        temperature: lambda at the start, > 0.
        learn_temperature: whether lambda is trained.
        relaxation: `"eq7"`, the paper's, or `"concrete"`.
        temperature_per_layer: whether each stochastic layer has a lambda of its own.
        eta: `"variable"`, one scale for each variable of the model, as in the paper; `"shared"` or `"unit"`.

    Raises:
        ValueError: for a temperature that is not positive, an unknown relaxation or eta.
    """

    minimizes_variance = True
    group_size: int | None = 1  # layers that share a relaxed pass; None for all
    forward_mode = True  # nothing but the temperature is trained through the control variate

    def __init__(
        self,
        temperature: float = 0.5,
        learn_temperature: bool = True,
        relaxation: str = "eq7",
        temperature_per_layer: bool = False,
        eta: str = "variable",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.temperature = Temperature(temperature, relaxation, learn_temperature, temperature_per_layer)
        self.scale = Scale(eta)

    def build_variables(self, spec: ControlSpec) -> None:
        self.temperature.build(len(spec.layer_shapes))
        self.scale.build(spec.variable_shapes)
        self.baseline = spec.build_baseline()

    def estimate(self, objective: Objective, step: tf.Tensor, context: tf.Tensor | None = None) -> Estimate:
        trace, f = self.hard_pass(objective, step)
        signal = tf.stop_gradient(f) - predict(self.baseline, context)
        estimate = Estimate(value=f, direct=f, sites=trace.sites)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(self.temperature.log_temperature.value)
            for site, *relaxed in self.relaxed_layers(objective, trace):
                estimate.plain.append(per_unit(signal, site.score) * site.score)
                estimate.variate.append(control_variate(site, *relaxed))
        estimate.variate = self.linear_in_temperature(tape, estimate.variate)
        return estimate

    def relaxed_layers(self, objective: Objective, trace: HardSampler) -> Iterator[RelaxedLayer]:
        """For each layer of a hard pass what `control_variate` takes."""
        size = len(trace) if self.group_size is None else self.group_size
        for first in range(0, len(trace), size):
            group = trace.sites[first : first + size]
            f_relaxed, relaxed, slopes = self.relaxed_objective(objective, trace, group)
            for site, y, slope in zip(group, relaxed, slopes, strict=True):
                yield site, f_relaxed, slope, y, self.temperature.of_layer(site.layer)

    def linear_in_temperature(self, tape: tf.GradientTape, variates: list[tf.Tensor]) -> list[tf.Tensor]:
        """The control variates by `linear_in`, if nothing is trained through them but one temperature."""
        log_temperature = self.temperature.log_temperature
        if self.forward_mode and log_temperature.trainable and not self.temperature.per_layer:
            return linear_in(log_temperature.value, tape, variates)
        return variates

    def relaxed_objective(self, objective: Objective, trace: HardSampler, group: list[Site]) -> RelaxedObjective:
        """What the control variate of a group of layers is made of: `f_r`, the relaxed samples y, and `df_r/dy`."""
        raise NotImplementedError

    def relaxed_pass(self, objective: Objective, trace: HardSampler, group: list[Site]) -> RelaxedObjective:
        """The objective itself, hard before the group and relaxed from there on."""
        first, end = group[0].index, group[-1].index + 1
        with self.temperature.relaxed_pass(trace, first) as relaxed:
            f_relaxed = evaluate(objective)
        return f_relaxed, relaxed.outputs[first:end], derivatives(relaxed, f_relaxed, first, end)

    def etas(self) -> list[tf.Tensor]:
        return self.scale.etas()

    def diagnostics(self) -> dict[str, tf.Tensor]:
        return self.temperature.diagnostics()

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "temperature": self.temperature.initial,
            "learn_temperature": self.temperature.learn,
            "relaxation": self.temperature.relaxation,
            "temperature_per_layer": self.temperature.per_layer,
            "eta": self.scale.group,
        }


@register
class Rebar(RelaxedControlVariate):
    """REBAR: the score function with the relaxed objective as control variate (eq. 4), in its local form.

    Eq. 4 for one sample of one layer, to minimise f, with `y = sigma_lambda(z)` and `y~ = sigma_lambda(z~)`:

        [f(b) - eta f(y~)] dlog p(b)/dl  +  eta df(y)/dl  -  eta df(y~)/dl.

    With the noise of `z~` coupled to that of `z` (appendix G.2) the two relaxed samples have the same value and differ
    in their derivative only. One relaxed pass, `f_r = f(y)` and `d = df_r/dy`, then serves all three terms, and the
    estimate is one cotangent on the layer's logits,

        (f - eta f_r) dlog p(b)/dl  +  eta d sigma_lambda'(z) (dz/dl - dz~/dl).

    Several layers, by `group_size`:

    | group_size | relaxed passes | what a pass does | evaluations of f |
    | --- | --- | --- | --- |
    | 1, n-pass (section 3.3) | one a layer | layers before i hard, i and later ones relaxed; i conditioned | 1 + n |
    | None, coupled (appendix F) | one | all layers relaxed and conditioned, with the noise of the hard pass | 2 |
    | k, hybrid (appendix F) | one for k layers | as coupled, within each group of k layers | 1 + n / k |

    In each the layers after the conditioned ones keep their own noise unconditioned. Conditioned layers get the score
    of all of them, and in each of them the local form holds with the derivative `d` of the shared relaxed pass: that
    pass's own dependence on the parameters is the same with and without the condition, and cancels.

    Eta, temperature and the input-dependent baseline are trained on the single-sample variance of the estimate.

    Unbiased, for every parameter of every layer and any eta and temperature. The objective must be differentiable in
    the samples.

    Args:
        temperature: lambda at the start, > 0.
        learn_temperature: whether lambda is trained. False gives REBAR(lambda).
        relaxation: `"eq7"`, the paper's, or `"concrete"`.
        temperature_per_layer: whether each stochastic layer has a lambda of its own.
        group_size: layers that share a relaxed pass, 1 or more; None for all.
        eta: `"variable"`, one scale for each variable of the model, as in the paper; `"shared"` or `"unit"`.

    Raises:
        ValueError: for a temperature that is not positive, an unknown relaxation or eta, or a `group_size` below 1.

    Example:
    >>> import rebar_tf as rt
    >>> layer = rt.layers.StochasticBinary(estimator=rt.estimators.Rebar(temperature=0.1, learn_temperature=False))

    Reference: Tucker et al. 2017, eq. 4, section 3.3, appendices E, F and G.2.
    """

    estimator_name = "rebar"
    evaluations = "1 + n"
    needs_derivative = True

    def __init__(
        self,
        temperature: float = 0.5,
        learn_temperature: bool = True,
        relaxation: str = "eq7",
        temperature_per_layer: bool = False,
        group_size: int | None = 1,
        eta: str = "variable",
        **kwargs: Any,
    ):
        super().__init__(temperature, learn_temperature, relaxation, temperature_per_layer, eta, **kwargs)
        if group_size is not None and not is_integer(group_size, least=1):
            raise ValueError(
                f"`group_size` must be an integer of 1 or more, or None. Received: group_size={group_size!r}"
            )
        self.group_size = None if group_size is None else int(group_size)

    def relaxed_objective(self, objective: Objective, trace: HardSampler, group: list[Site]) -> RelaxedObjective:
        return self.relaxed_pass(objective, trace, group)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "group_size": self.group_size}


def control_variate(
    site: Site, f_relaxed: tf.Tensor, slope: tf.Tensor, relaxed: tf.Tensor, temperature: tf.Tensor
) -> tf.Tensor:
    """`-f_r dlog p(b)/dl + d sigma_lambda'(z) (dz/dl - dz~/dl)`: what eta multiplies in eq. 4, expectation 0.

    Args:
        site: the layer's hard sample.
        f_relaxed: `[batch]`, the objective of the relaxed pass.
        slope: like the logits, `d f_r / d y`.
        relaxed: the relaxed sample y.
        temperature: lambda.

    Returns:
        A cotangent of the logits.
    """
    units = independent(site.distribution)
    to_z = units.relaxation_vjp(slope, relaxed, temperature)
    residual = units.coupled_residual_vjp(to_z, site.z, site.sample)
    return residual - per_unit(f_relaxed, site.score) * site.score


def linear_in(scalar: tf.Variable, tape: tf.GradientTape, tensors: list[tf.Tensor]) -> list[tf.Tensor]:
    """The tensors with their derivative by `scalar` taken in forward mode, and by nothing else.

    Forward mode is reverse mode differentiated by its cotangents, in which it is linear. Its products need no gradient
    of the model, so that they run beside those that compute it. An operation may lack the derivative that this takes,
    as `tf.concat` does under XLA: then the tensors stay as they are, to be differentiated in reverse mode. So they do
    in a graph with a loop, such as a recurrent layer's: this is one derivative more than reverse mode takes, and each
    derivative of a loop is several times as large as the one before.
    """
    if has_loop(tensors):
        return tensors
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


def has_loop(tensors: list[tf.Tensor]) -> bool:
    """Whether the graph of the tensors has a symbolic loop, or calls a function, which may have one."""
    if tf.executing_eagerly():
        return False
    return any(operation.type in LOOPS for operation in tensors[0].graph.get_operations())
