"""The temperature of a relaxation, shared by the estimators that relax."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf

from rebar_tf.estimators.base import ControlSpec, Estimator
from rebar_tf.reparameterization import check_relaxation
from rebar_tf.sampling import HardSampler, RelaxedSampler, Site
from rebar_tf.validation import is_positive


class RelaxingEstimator(Estimator):
    """An estimator that relaxes its samples at a temperature lambda, held fixed as `log lambda`.

    Args:
        temperature: lambda, > 0.
        relaxation: `"eq7"` or `"concrete"`.
    """

    learn_temperature: bool = False
    temperature_per_layer: bool = False

    def __init__(self, temperature: float, relaxation: str, **kwargs):
        super().__init__(**kwargs)
        if not is_positive(temperature):
            raise ValueError(f"`temperature` must be a positive number. Received: temperature={temperature!r}")
        self.initial_temperature = float(temperature)
        self.relaxation = check_relaxation(relaxation)

    def build_variables(self, spec: ControlSpec) -> None:
        super().build_variables(spec)
        self.log_temperature = self.add_weight(
            shape=(len(spec.layer_shapes),) if self.temperature_per_layer else (),
            initializer=keras.initializers.Constant(math.log(self.initial_temperature)),
            trainable=self.learn_temperature,
            autocast=False,  # read within the calls of layers that may compute in half precision
            name="log_temperature",
        )

    def temperature(self, layer: int = 0) -> tf.Tensor:
        """Lambda of a stochastic layer, float32 scalar."""
        log_temperature = self.log_temperature.value
        return tf.exp(log_temperature[layer] if self.temperature_per_layer else log_temperature)

    def relax(self, site: Site, z: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """The relaxed sample at the layer's temperature."""
        return site.family.relax(z, logits, self.temperature(site.layer), self.relaxation)

    def relaxed_pass(self, trace: HardSampler, first: int = 0) -> RelaxedSampler:
        """The sampler of a pass that is hard before site `first` and relaxed from there on."""
        return RelaxedSampler(trace, first, self.relax)

    def diagnostics(self) -> dict[str, tf.Tensor]:
        temperatures = tf.exp(self.log_temperature.value)
        if self.temperature_per_layer:
            return {f"temperature_{i}": t for i, t in enumerate(tf.unstack(temperatures))}
        return {"temperature": temperatures}

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "temperature": self.initial_temperature, "relaxation": self.relaxation}


class LearnedTemperatureEstimator(RelaxingEstimator):
    """An estimator that trains its temperature lambda, or one for each stochastic layer.

    Args:
        temperature: lambda at the start, > 0.
        learn_temperature: whether lambda is trained.
        relaxation: `"eq7"` or `"concrete"`.
        temperature_per_layer: whether each stochastic layer has a lambda of its own.
    """

    def __init__(
        self, temperature: float, learn_temperature: bool, relaxation: str, temperature_per_layer: bool, **kwargs
    ):
        super().__init__(temperature, relaxation, **kwargs)
        self.learn_temperature = bool(learn_temperature)
        self.temperature_per_layer = bool(temperature_per_layer)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "learn_temperature": self.learn_temperature,
            "temperature_per_layer": self.temperature_per_layer,
        }
