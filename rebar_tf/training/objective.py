"""The objective of a step: one value for each example, evaluated anew in each pass."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf
from keras.src.losses.loss import unscale_loss_for_distribution

from rebar_tf.training.keras_loss import as_whole, batch_mean, batch_size, coupled, noting_coupled, sharing_coupled

if TYPE_CHECKING:
    from rebar_tf.training.model import StochasticTraining


class BatchObjective:
    """The objective of one batch, which an estimator evaluates once for each of its passes.

    All passes start from the same state: each runs in a scope of its own, so that they drop the same units and
    normalise by the same statistics. The updates of the first pass, the hard one, are kept for `assign_updates`.

    Args:
        model: whose `objective` it is.
        x: a batch of inputs.
        y: a batch of targets.
        sample_weight: as Keras takes it; None for 1.

    Attributes:
        y_pred: the model's outputs in the first pass, which the metrics see.
        direct_losses: that layers added in the first pass, and that no sample reaches.
        sampled_losses: the other ones, which are part of f.
        is_coupled: whether f holds a scalar that mixes the examples, as units do that the whole batch shares.
        mean: of the model's own `objective` in the first pass.
    """

    def __init__(self, model: StochasticTraining, x: Any, y: Any = None, sample_weight: Any = None):
        self.model, self.x, self.y, self.sample_weight = model, x, y, sample_weight
        self.y_pred: Any = None
        self.direct_losses: list[tf.Tensor] = []
        self.sampled_losses: list[tf.Tensor] = []
        self.is_coupled = False
        self.mean: tf.Tensor | float = 0.0
        self.updates: list[tuple[keras.Variable, tf.Tensor]] | None = None
        self.counts: list[tuple[keras.Variable, tf.Tensor]] = []

    def __call__(self) -> tf.Tensor:
        """f, `[batch]`, under whichever sampler is active."""
        return self.of_pass(self.takes_whole)

    def of_pass(self, whole: bool) -> tf.Tensor:
        """f, in which each example has the objective of the batch, or its own."""
        with noting_coupled() as mixed:
            with pass_scope(self.model) as scope, sharing_coupled(1.0 if whole else None):
                f, y_pred = self._objective()
                mean = batch_mean(f)
                direct, sampled = self.model.split_losses(scope.losses)
                self.model.check_has_loss([*direct, *sampled])
                for loss in sampled:
                    f += coupled(tf.reduce_sum(loss), batch_size(f))
            f = as_whole(f) if whole else f
        if self.updates is None:
            self.y_pred, self.direct_losses, self.sampled_losses = y_pred, direct, sampled
            self.is_coupled, self.mean = bool(mixed), mean
            counted = [variable for metric in self.model.metrics_of_passes for variable in metric.variables]
            self.updates = assigned_in(scope, self.model.state_variables)
            self.counts = assigned_in(scope, counted)
        return f

    @functools.cached_property
    def takes_whole(self) -> bool:
        """Whether each example has the objective of the batch, as its samples move that of others."""
        if any(layer.shared and layer.local is None for layer in self.model.stochastic_layers):
            return True
        try:
            return self.model.mixes_examples(self.x, self.y)
        except ValueError:
            with pass_scope(self.model):
                self._objective()  # an error of the model's own says more
            raise

    def _objective(self) -> tuple[tf.Tensor, Any]:
        if not self.model.has_own_objective:
            f, y_pred = self.model.compiled_objective(self.x, self.y, self.sample_weight)
            return unscale_loss_for_distribution(f), y_pred
        f, y_pred = self.model.objective(self.x, self.y)
        return f if self.sample_weight is None else f * tf.cast(self._weight_of_examples(), f.dtype), y_pred

    def _weight_of_examples(self) -> tf.Tensor:
        if keras.tree.is_nested(self.sample_weight) or len(self.sample_weight.shape) != 1:
            shapes = keras.tree.map_structure(lambda part: tuple(part.shape), self.sample_weight)
            raise ValueError(
                f"Model {self.model.name!r} overrides `objective`, which has one value for each example: "
                f"`sample_weight` must be one tensor of shape [batch]. Received: shape {shapes}"
            )
        return self.sample_weight

    def keras_loss(self) -> tf.Tensor:
        """What Keras's `fit` would report for the outputs of the hard pass."""
        model, unscale = self.model, unscale_loss_for_distribution
        losses = [*self.direct_losses, *self.sampled_losses, *model.regularization_losses]
        with pass_scope(model):
            if model.has_own_objective:
                losses.append(self.mean)
            elif model.has_own_loss:
                return unscale(model._compute_loss(self.x, self.y, self.y_pred, self.sample_weight, training=True))
            elif model._compile_loss is not None:
                losses.append(unscale(model._compile_loss(self.y, self.y_pred, self.sample_weight)))
        return add_losses([tf.reduce_sum(loss) for loss in losses])

    def assign_updates(self) -> None:
        """Gives the model's state, such as moving statistics, and its metrics what the hard pass made of them."""
        for variable, value in self.updates or []:
            variable.assign(value)
        self.assign_counts()

    def assign_counts(self) -> None:
        """Gives the metrics that are updated in a pass what the hard one made of them."""
        for variable, value in self.counts:
            variable.assign(value)


def assigned_in(scope: keras.StatelessScope, variables: list[keras.Variable]) -> list[tuple[keras.Variable, tf.Tensor]]:
    """The variables that were assigned to in a scope, with their values there."""
    values = [(variable, scope.get_current_value(variable)) for variable in variables]
    return [(variable, value) for variable, value in values if value is not None]


def pass_scope(model: StochasticTraining) -> keras.StatelessScope:
    """A scope in which a pass reads the state as it is, and leaves it so."""
    outer = keras.src.backend.get_stateless_scope() if keras.src.backend.in_stateless_scope() else None
    regularised = [variable for variable in model.trainable_variables if variable.regularizer is not None]
    scope = keras.StatelessScope([(v, v.value) for v in regularised], collect_losses=True)
    if outer is not None:
        scope.state_mapping = {**outer.state_mapping, **scope.state_mapping}
    return scope


def add_losses(losses: list[tf.Tensor]) -> tf.Tensor | float:
    """Sum of losses, such as weight regularisers."""
    return tf.add_n([tf.cast(loss, tf.float32) for loss in losses]) if losses else 0.0
