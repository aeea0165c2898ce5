"""The variables of a model with stochastic layers, by what trains them, and the estimator's own by name."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from rebar_tf.estimators import LocalEstimator
from rebar_tf.layers import StochasticLayer
from rebar_tf.training.logs import TrainingLogs


class ModelVariables(TrainingLogs):
    """Gives a model its lists of variables: those of the layers, and the estimator's, its *control variables*."""

    @property
    def stochastic_layers(self) -> list[StochasticLayer]:
        """The model's stochastic layers, those of nested models and layers included."""
        return [layer for layer in self._flatten_layers() if isinstance(layer, StochasticLayer)]

    @property
    def all_model_variables(self) -> list[keras.Variable]:
        """All weights that were created to be trained, but for control variables; also those frozen since.

        Scales and moments exist for each of them, in this order, so that a layer can be frozen and thawed. The control
        variables of nested models are not among them: this model's estimator takes the place of theirs.
        """
        models = [layer for layer in self._flatten_layers() if isinstance(layer, ModelVariables)]
        owned = [m.estimator for m in models if m is self or not isinstance(m.estimator, LocalEstimator)]
        control = [layer for estimator in owned if estimator is not None for layer in estimator._flatten_layers()]
        layers = without(self._flatten_layers(), control)
        return without([variable for layer in layers for variable in layer._trainable_variables], [])

    @property
    def model_variables(self) -> list[keras.Variable]:
        """The variables that the objective is minimised over: all that are trained but for the control variables."""
        return [variable for variable in self.all_model_variables if variable.trainable]

    @property
    def control_variables(self) -> list[keras.Variable]:
        """The estimator's trainable variables: temperature, control-variate scales, baseline."""
        return self.estimator.trainable_variables if self.estimator is not None else []

    @property
    def trainable_variables(self) -> list[keras.Variable]:
        """The model variables, followed by the control variables."""
        return [*self.model_variables, *self.control_variables]

    @property
    def trainable_weights(self) -> list[keras.Variable]:
        """The trainable variables, in the same order: Keras assigns an optimizer's averages by position."""
        return self.trainable_variables

    @property
    def state_variables(self) -> list[keras.Variable]:
        """What a pass may update: moving statistics, the state of random generators."""
        return without(self.non_trainable_variables, [] if self.estimator is None else self.estimator.variables)

    @property
    def etas(self) -> dict[str, tf.Tensor]:
        """The control variate's scale of each variable that is trained, by its path; see `Scale`."""
        paths = [variable.path for variable in self.model_variables]
        return dict(zip(paths, self.variable_etas(), strict=True))

    @property
    def temperatures(self) -> dict[str, tf.Tensor]:
        """Lambda of each stochastic layer that has one, by the layer's name."""
        owners = [(layer, layer.local or self.estimator) for layer in self.stochastic_layers]
        found = [(layer, getattr(owner, "temperature", None)) for layer, owner in owners]
        return {
            layer.name: temperature.of_layer(0 if layer.local else layer.index)
            for layer, temperature in found
            if temperature is not None
        }

    @property
    def temperature(self) -> tf.Tensor:
        """Lambda, float32 scalar, of a model whose stochastic layers all have the same.

        Raises:
            ValueError: where they have none, or several.
        """
        values = {float(value) for value in self.temperatures.values()}
        if len(values) != 1:
            raise ValueError(f"Model {self.name!r} has not one temperature, but those of `temperatures`: {values}")
        return tf.constant(values.pop())

    def variable_etas(self) -> list[tf.Tensor]:
        """The scale of the control variate of each of the `model_variables`.

        Raises:
            NotImplementedError: for an estimator without a control variate that is scaled.
        """
        scaled = zip(self.all_model_variables, self.estimator.etas(), strict=True)
        return [eta for variable, eta in scaled if variable.trainable]


def without(items: list[Any], others: list[Any]) -> list[Any]:
    """The items, each once, that are none of the others. Variables and layers are told apart by what they are."""
    chosen, seen = [], {id(other) for other in others}
    for item in items:
        if id(item) not in seen:
            chosen.append(item)
            seen.add(id(item))
    return chosen


def part_of(variable: keras.Variable, model: keras.Model) -> str:
    """The part of the model that a variable belongs to: its layer in the model, or itself where it has none."""
    names = variable.path.split("/")
    return names[1] if names[0] == model.name and len(names) > 1 else names[0]
