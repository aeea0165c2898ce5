"""The same model with another estimator."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rebar_tf.diagnostics.comparison import shared_variables
from rebar_tf.estimators import Estimator
from rebar_tf.layers.base import estimator_config
from rebar_tf.training import StochasticTraining
from rebar_tf.training.parts import map_parts


def with_estimator(model: StochasticTraining, estimator: str | Estimator) -> StochasticTraining:
    """A copy of a compiled model, at its weights and state, whose stochastic layers name another estimator.

    Layers with a local estimator keep it, unless all layers have one.

    Args:
        model: built and compiled, whose class Keras can make anew from its configuration.
        estimator: the name of a registered one, which has its default options, or an object, whose options count.

    Returns:
        The copy, compiled with the loss of the model and an optimizer of this library.

    Raises:
        ValueError: for an estimator that does not serve the model's units, and for a model that is not compiled, or of
            which no copy can have another estimator.
    """
    if not (model.has_own_objective or model.compiled):
        raise ValueError(f"Model {model.name!r} must be compiled: its loss is what the estimators estimate")
    layers = model.stochastic_layers
    replaced = [layer for layer in layers if layer.local is None] or layers
    old = [layer.estimator_config for layer in replaced]
    new = estimator_config(estimator)
    try:
        twin = type(model).from_config(_replaced(model.get_config(), old, new))
    except (NotImplementedError, TypeError) as error:
        raise ValueError(
            f"Model {model.name!r} must have a `get_config` of which Keras can make it anew, with layers that it knows "
            f"by `keras.saving.register_keras_serializable`: {' '.join(str(error).split())[:300]}"
        ) from error
    twin.coupled_batch = model.coupled_batch
    places = [layers.index(layer) for layer in replaced]
    for layer in (twin.stochastic_layers[place] for place in places):
        if layer.estimator_config != new:  # of a model that makes its layers by itself
            layer.take_estimator(estimator)
            if twin.estimator is not None:
                raise ValueError(
                    f"Model {model.name!r} makes its stochastic layers and its estimator in its constructor: no copy "
                    "can have another. Take the estimator as an argument, and return it from `get_config`."
                )
    if twin.estimator is None and model.context_size is not None:
        twin.build_from_config(model.get_build_config())
    if [v.trainable for v in twin.all_model_variables] != [v.trainable for v in model.all_model_variables]:
        raise ValueError(
            f"Model {model.name!r} has frozen layers, which a copy by `from_config` has not: freeze them where they "
            "are made, by `trainable=False`."
        )
    for own, other in zip(shared_variables(twin), shared_variables(model), strict=True):
        own.assign(other.value)
    for layer, other in zip(twin.stochastic_layers, layers, strict=True):
        if layer.local is not None and other.local is not None and layer.estimator_config == other.estimator_config:
            layer.local.set_weights(other.local.get_weights())
    if not model.has_own_objective:
        given = model._compile_config.config  # as it was given: what Keras would make of it need not be the same
        twin.compile(keras.optimizers.SGD(0.0), loss=given["loss"], loss_weights=given["loss_weights"])
    return twin


class StopAfter(keras.callbacks.Callback):
    """Ends a training after so many steps."""

    def __init__(self, steps: int):
        super().__init__()
        self.left = steps

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.left -= 1
        self.model.stop_training = self.left == 0


def trained(model: StochasticTraining, x: Any, y: Any, batch_size: int | None, steps: int) -> StochasticTraining:
    """A copy of a compiled model after so many steps of training, by its optimizer as that was at the start.

    Raises:
        ValueError: for a model without an optimizer, and what `with_estimator` raises.
    """
    if getattr(model, "optimizer", None) is None:
        raise ValueError(
            f"Model {model.name!r} must be compiled with an optimizer, to be trained before it is measured"
        )
    copy = with_estimator(model, model.estimator)
    optimizer = type(model.optimizer).from_config(model.optimizer.get_config())
    given = (
        {} if copy.has_own_objective else {name: copy._compile_config.config[name] for name in ("loss", "loss_weights")}
    )
    copy.compile(optimizer, jit_compile=True, **given)
    count = len(keras.tree.flatten(x)[0])
    order = np.random.default_rng(0).permutation(count)
    data = [map_parts(lambda part: tf.gather(part, order), part) for part in (x, y)]
    copy.fit(
        *data, batch_size=batch_size or count, epochs=steps, shuffle=False, verbose=0, callbacks=[StopAfter(steps)]
    )
    return copy


def _replaced(config: Any, old: list[dict[str, Any]], new: dict[str, Any]) -> Any:
    """A configuration in which `new` stands for every one of `old`."""
    if isinstance(config, dict):
        if config in old:
            return new
        return {key: _replaced(value, old, new) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return type(config)(_replaced(value, old, new) for value in config)
    return config
