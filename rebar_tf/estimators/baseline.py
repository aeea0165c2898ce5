"""The input-dependent baseline."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from rebar_tf.initializers import PaperInitializer


@keras.saving.register_keras_serializable("rebar_tf")
class InputDependentBaseline(keras.layers.Layer):
    """A small network that predicts the learning signal of an example from its input alone.

    `baseline(x) = W2 tanh(W1 x + b1) + b2`. It is independent of the samples, so subtracting it leaves an estimate
    unbiased.

    Args:
        hidden_units: width of the tanh layer, 100 in the paper.
        seed: integer for the initial weights; None draws one.

    Call arguments:
        context: `[batch, size]`, float.

    Returns:
        `[batch]`, float32.

    Example:
    >>> import tensorflow as tf, rebar_tf as rt
    >>> rt.layers.InputDependentBaseline()(tf.zeros([2, 784])).shape.as_list()
    [2]

    Reference: Mnih & Gregor 2014, section 2.3; Tucker et al. 2017, appendix G.
    """

    def __init__(self, hidden_units: int = 100, seed: int | None = None, **kwargs: Any):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.hidden_units = hidden_units
        self.seed = seed
        hidden, out = (PaperInitializer(None if seed is None else seed + i) for i in range(2))
        self.hidden = keras.layers.Dense(
            hidden_units, activation="tanh", kernel_initializer=hidden, dtype="float32", name="hidden"
        )
        self.out = keras.layers.Dense(1, kernel_initializer=out, dtype="float32", name="out")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.hidden.build(input_shape)
        self.out.build((*input_shape[:-1], self.hidden_units))

    def call(self, context: tf.Tensor) -> tf.Tensor:
        return tf.squeeze(self.out(self.hidden(context)), axis=-1)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape[:-1]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "hidden_units": self.hidden_units, "seed": self.seed}


def predict(baseline: InputDependentBaseline | None, context: tf.Tensor | None) -> tf.Tensor | float:
    """`[batch]` baselines; 0 where there is no network, or no context to compute them from."""
    return 0.0 if baseline is None or context is None else baseline(context)
