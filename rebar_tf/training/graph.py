"""What the graph of a functional model shows: which layers the samples reach."""

from __future__ import annotations

import keras

from rebar_tf.layers import StochasticLayer


def sampled_layers(model: keras.Model) -> list[keras.layers.Layer] | None:
    """The layers that samples of stochastic layers reach, local ones aside; None for a model without a graph.

    A sample of a layer with a local estimator has a derivative, and moves losses like any other output.

    A nested model that has a stochastic layer counts with all its layers.
    """
    if not hasattr(model, "_nodes_by_depth"):
        return None
    reached: list[keras.layers.Layer] = []

    def holds(layers: list[keras.layers.Layer], layer: keras.layers.Layer) -> bool:
        return any(layer is other for other in layers)

    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            inner = node.operation._flatten_layers() if isinstance(node.operation, keras.layers.Layer) else []
            is_source = not isinstance(node.operation, StochasticLayer) and any(map(is_scored, inner))
            below = any(
                is_sample(tensor) or holds(reached, tensor._keras_history.operation) for tensor in node.input_tensors
            )
            if is_source or below:
                reached += [layer for layer in (node.operation, *inner) if not holds(reached, layer)]
    return reached


def is_scored(layer: keras.layers.Layer) -> bool:
    """Whether the gradient of a layer's logits is an estimate that takes the whole objective."""
    return isinstance(layer, StochasticLayer) and layer.local is None


def is_sample(tensor: keras.KerasTensor) -> bool:
    """Whether a tensor of the graph is the sample of such a layer, and not its logits or probabilities."""
    return is_scored(tensor._keras_history.operation) and tensor._keras_history.tensor_index == 0
