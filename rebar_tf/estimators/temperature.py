"""The temperature of a relaxation, shared by the estimators that relax."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf

from rebar_tf.estimators.base import Estimator
from rebar_tf.reparameterization import check_relaxation


class RelaxingEstimator(Estimator):
    """An estimator that relaxes its samples at a temperature lambda, held as `log lambda`.

    Args:
        temperature: lambda at the start, > 0.
        learn_temperature: whether lambda is trained.
        relaxation: `"eq7"` or `"concrete"`.
    """

    def __init__(self, temperature: float, learn_temperature: bool, relaxation: str, **kwargs):
        super().__init__(**kwargs)
        if not (isinstance(temperature, (int, float)) and 0.0 < temperature < math.inf):
            raise ValueError(f"`temperature` must be a positive number. Received: temperature={temperature!r}")
        self.initial_temperature = float(temperature)
        self.learn_temperature = bool(learn_temperature)
        self.relaxation = check_relaxation(relaxation)

    def build_variables(self, num_variables: int, context_size: int | None) -> None:
        super().build_variables(num_variables, context_size)
        self.log_temperature = self.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(math.log(self.initial_temperature)),
            trainable=self.learn_temperature,
            name="log_temperature",
        )

    def temperature(self) -> tf.Tensor:
        """Lambda, float32 scalar."""
        return tf.exp(self.log_temperature.value)

    def diagnostics(self) -> dict[str, tf.Tensor]:
        return {**super().diagnostics(), "temperature": self.temperature()}

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "temperature": self.initial_temperature,
            "learn_temperature": self.learn_temperature,
            "relaxation": self.relaxation,
        }
