"""The temperature of a relaxation."""

from __future__ import annotations

import math

import keras
import tensorflow as tf

from rebar_tf.distributions import Distribution, check_relaxation, independent
from rebar_tf.sampling import HardSampler, RelaxedSampler
from rebar_tf.validation import is_positive


class Temperature(keras.layers.Layer):
    """The temperature lambda of a relaxation, kept as `log lambda`, for the whole model or for each stochastic layer.

    Args:
        initial: lambda at the start, > 0.
        relaxation: `"eq7"` or `"concrete"`.
        learn: whether lambda is trained.
        per_layer: whether each stochastic layer has a lambda of its own.
        name: of the layer.

    Raises:
        ValueError: for a temperature that is not positive, or an unknown relaxation.
    """

    def __init__(
        self,
        initial: float,
        relaxation: str = "concrete",
        learn: bool = False,
        per_layer: bool = False,
        name: str = "temperature",
    ):
        super().__init__(name=name, dtype="float32")
        if not is_positive(initial):
            raise ValueError(f"`temperature` must be a positive number. Received: temperature={initial!r}")
        self.initial = float(initial)
        self.relaxation = check_relaxation(relaxation)
        self.learn, self.per_layer = bool(learn), bool(per_layer)

    def build(self, num_layers: int) -> None:
        """Creates the temperature, or those of so many stochastic layers."""
        self.log_temperature = self.add_weight(
            shape=(num_layers,) if self.per_layer else (),
            initializer=keras.initializers.Constant(math.log(self.initial)),
            trainable=self.learn,
            autocast=False,  # read within the calls of layers that may compute in half precision
            name="log_temperature",
        )

    def of_layer(self, layer: int) -> tf.Tensor:
        """Lambda of a stochastic layer, float32 scalar."""
        log_temperature = self.log_temperature.value
        return tf.exp(log_temperature[layer] if self.per_layer else log_temperature)

    def assign(self, temperature: float) -> None:
        """Sets lambda, that of every layer."""
        self.log_temperature.assign(tf.fill(self.log_temperature.shape, math.log(temperature)))

    def relax(self, distribution: Distribution, z: tf.Tensor, layer: int) -> tf.Tensor:
        """The relaxed sample of a layer at its temperature."""
        return independent(distribution).relax(z, self.of_layer(layer), self.relaxation)

    def relaxed_pass(self, trace: HardSampler, first: int = 0) -> RelaxedSampler:
        """The sampler of a pass that is hard before site `first` and relaxed from there on."""
        return RelaxedSampler(trace, first, self.relax)

    def diagnostics(self) -> dict[str, tf.Tensor]:
        """Lambda by name, `temperature`, or `temperature_0` and so on."""
        temperatures = tf.exp(self.log_temperature.value)
        if self.per_layer:
            return {f"temperature_{i}": t for i, t in enumerate(tf.unstack(temperatures))}
        return {"temperature": temperatures}
