"""The learned part of a control variate."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from rebar_tf.estimators.base import ControlSpec
from rebar_tf.estimators.temperature import Temperature
from rebar_tf.initializers import PaperInitializer
from rebar_tf.sampling import Site


class ControlNetwork(keras.layers.Layer):
    """A scalar function of one layer's relaxed sample: `r(y, theta) = w2^T tanh(W1 [y, theta] + b1) + b2`.

    It starts at zero. `theta`, the mean of the layer's units, tells it about the input and the layers before.

    Args:
        hidden_units: width of the tanh layer.
        seed: integer for the initial weights; None draws one.
    """

    def __init__(self, hidden_units: int = 100, seed: int | None = None, **kwargs: Any):
        super().__init__(dtype="float32", **kwargs)
        self.hidden_units = hidden_units
        self.seed = seed

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        size = 2 * tf.TensorShape(input_shape[1:]).num_elements()
        initializer = PaperInitializer(self.seed)
        self.weights_and_biases = [
            self.add_weight(shape=(size, self.hidden_units), initializer=initializer, name="hidden_kernel"),
            self.add_weight(shape=(self.hidden_units,), initializer="zeros", name="hidden_bias"),
            self.add_weight(shape=(self.hidden_units, 1), initializer="zeros", name="out_kernel"),
            self.add_weight(shape=(1,), initializer="zeros", name="out_bias"),
        ]

    def call(self, relaxed: tf.Tensor, mean: tf.Tensor, frozen: bool = False) -> tf.Tensor:
        """`[batch]`; `frozen` keeps gradients from the network's own weights."""
        values = [variable.value for variable in self.weights_and_biases]
        hidden_kernel, hidden_bias, out_kernel, out_bias = map(tf.stop_gradient, values) if frozen else values
        batch = tf.shape(relaxed)[0]
        features = tf.concat([tf.reshape(part, [batch, -1]) for part in (relaxed, tf.stop_gradient(mean))], axis=-1)
        hidden = tf.tanh(tf.matmul(features, hidden_kernel) + hidden_bias)
        return (tf.matmul(hidden, out_kernel) + out_bias)[:, 0]

    def value_and_derivative(
        self, relaxed: tf.Tensor, mean: tf.Tensor, frozen: bool = False
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """`r`, `[batch]`, and `dr/dy`, like the relaxed sample."""
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(relaxed)
            value = self.call(relaxed, mean, frozen)
        return value, tape.gradient(value, relaxed)


def build_networks(spec: ControlSpec, name: str) -> list[ControlNetwork]:
    """One `ControlNetwork` for each stochastic layer; ValueError for a layer whose number of units is not fixed."""
    networks = []
    for i, (shape, layer) in enumerate(zip(spec.layer_shapes, spec.layer_names, strict=True)):
        if None in shape:
            raise ValueError(
                "A learned control variate is a network over the units of a layer, whose number must be fixed. Give "
                "the sequences one length, or use rebar, or rloo for an objective without derivative. Received: layer "
                f"{layer!r} with samples of shape {(None, *shape)}"
            )
        network = ControlNetwork(seed=spec.seed_of_layer(i), name=f"{name}_{i}")
        network.build((None, *shape))
        networks.append(network)
    return networks


def learned_objective(
    networks: list[ControlNetwork], group: list[Site], temperature: Temperature, frozen: bool = False
) -> tuple[tf.Tensor, list[tf.Tensor], list[tf.Tensor]]:
    """A learned stand-in for the relaxed objective of one layer: its value, the relaxed sample, its derivative."""
    (site,) = group
    relaxed = temperature.relax(site.distribution, site.z, site.layer)
    value, slope = networks[site.layer].value_and_derivative(relaxed, site.distribution.mean(), frozen)
    return value, [relaxed], [slope]
