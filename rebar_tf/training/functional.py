"""Functional models with stochastic layers."""

from __future__ import annotations

import math
from typing import Any

import keras

from rebar_tf.training.model import StochasticTraining, is_of_numbers, one_of_zeros


@keras.saving.register_keras_serializable("rebar_tf")
class StochasticModel(StochasticTraining, keras.Model):
    """A functional Keras model whose stochastic layers train: `StochasticModel(inputs, outputs)`.

    Everything but the gradient is Keras: compile it with a loss and an optimizer, call `fit`, `evaluate`, `predict`,
    save and load it. Its metrics see hard samples only. For a subclassed model derive from
    `rebar_tf.training.StochasticTraining` and `keras.Model`.

    Args:
        inputs: a `keras.Input` or a structure of them.
        outputs: the tensors computed from them.
        coupled_batch: whether the loss of an example depends on the samples of others, as after batch normalisation.
            None finds it by trial at a few random examples, before the first step.

    Raises:
        ValueError: if no layer is stochastic, or the stochastic layers name different estimators.

    Example:
    >>> import keras, rebar_tf as rt
    >>> x = keras.Input((784,))
    >>> h = keras.layers.Dense(200)(x)
    >>> b = rt.layers.StochasticBinary(estimator="rebar")(h)
    >>> model = rt.StochasticModel(x, keras.layers.Dense(784)(b))
    >>> model.compile(optimizer=rt.optimizers.Adam(3e-4), loss=keras.losses.BinaryCrossentropy(from_logits=True))
    """

    def __init__(self, *args: Any, coupled_batch: bool | None = None, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.coupled_batch = coupled_batch
        if not all(layer.built for layer in self.stochastic_layers):  # within one whose output's shape is known
            self(one_of_zeros(self.input))
        shapes = [tensor.shape[1:] for tensor in keras.tree.flatten(self.inputs) if is_of_numbers(tensor)]
        known = shapes and all(None not in shape for shape in shapes)
        self.build_estimator(sum(map(math.prod, shapes)) if known else None)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "coupled_batch": self.coupled_batch}
