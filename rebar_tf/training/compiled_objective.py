"""The objective of a compiled model: what Keras would minimise, as one value for each example."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from rebar_tf.training.graph import is_scored, sampled_layers
from rebar_tf.training.keras_loss import as_whole, batch_size, coupled, per_example
from rebar_tf.training.mixing import mixes_examples
from rebar_tf.training.multi_step import MultiStepTraining


class CompiledObjective(MultiStepTraining):
    """Gives a Keras model an `objective` for its estimator: by default that of its compiled and added losses."""

    coupled_batch: bool | None = None

    def objective(self, x: Any, y: Any = None) -> tuple[tf.Tensor, tf.Tensor]:
        """One evaluation of the objective, under whichever sampler is active.

        Args:
            x: a batch of inputs.
            y: a batch of targets, as passed to `fit`.

        Returns:
            `(f, y_pred)`: f is `[batch]`, to be minimised; `y_pred` is what the compiled metrics see.
        """
        return self.compiled_objective(x, y)

    def evaluation_objective(self, x: Any, y: Any = None) -> tuple[tf.Tensor, tf.Tensor]:
        """`objective` with other layers as in inference: nothing is dropped, and no state moves."""
        self.check_has_loss()
        f, y_pred = self.objective_of_pass(x, y, training=False)
        return as_whole(f) if self.mixes_examples(x, y, training=False) else f, y_pred

    def objective_of_pass(self, x: Any, y: Any = None, training: bool = True) -> tuple[tf.Tensor, tf.Tensor]:
        """`objective`; that of the compiled loss with layers as in training or not."""
        return self.objective(x, y) if self.has_own_objective else self.compiled_objective(x, y, training=training)

    def compiled_objective(
        self, x: Any, y: Any = None, sample_weight: Any = None, training: bool = True
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The objective of a model that does not override it: the compiled loss.

        Of each example, with a mean that is what Keras minimises; or, where a loss mixes them or `compute_loss` is
        overridden, the whole loss for each example.

        Args:
            x: a batch of inputs.
            y: a batch of targets, as passed to `fit`.
            sample_weight: as passed to `fit`.
            training: whether layers run as in training.

        Returns:
            `(f, y_pred)` as of `objective`.
        """
        y_pred = self(x, training=training)
        if self.has_own_loss:
            total = self._compute_loss(x, y, y_pred, sample_weight, training=training)
            total = tf.convert_to_tensor(total)
            if total.shape.rank is None:  # as of a function of NumPy's
                total = tf.ensure_shape(total, [])
            if total.shape.rank != 0:
                raise ValueError(
                    f"`compute_loss` of model {self.name!r} must return a scalar. Received: shape {total.shape}"
                )
            return coupled(total, batch_size(x)), y_pred
        if self._compile_loss is None:
            return tf.zeros([batch_size(x)]), y_pred
        return per_example(self._compile_loss, y, y_pred, sample_weight), y_pred

    def check_has_loss(self, added: Sequence[tf.Tensor] = ()) -> None:
        """ValueError if there is nothing to minimise: no loss, no objective, and nothing that layers add."""
        if not (self.has_own_objective or self.has_own_loss or self._compile_loss is not None or added):
            raise ValueError("`loss` must be given to `compile`, or `objective` overridden. Received: loss=None")

    @property
    def has_own_loss(self) -> bool:
        """Whether a subclass overrides Keras's `compute_loss`, which then is what is minimised."""
        return not self.has_own_objective and type(self).compute_loss is not keras.Model.compute_loss

    @property
    def has_own_objective(self) -> bool:
        """Whether a subclass overrides `objective`."""
        return type(self).objective is not CompiledObjective.objective

    def mixes_examples(self, x: Any, y: Any = None, training: bool = True) -> bool:
        """Whether the loss of one example depends on the samples of others.

        As `coupled_batch` says; where that is None, by trial.

        Raises:
            ValueError: where it cannot be tried.
        """
        if self.coupled_batch is not None:
            return self.coupled_batch
        if not any(map(is_scored, self._flatten_layers())):
            return False
        return self.has_own_loss or mixes_examples(self, x, y, training)  # a loss of one's own is one of the batch

    def split_losses(self, losses: list[tf.Tensor]) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        """Losses that layers added in a pass: those that no sample reaches, and the others.

        Without a graph to see it by, samples may reach each of them. An overridden `compute_loss` has them all.
        """
        if self.has_own_loss:
            return [], []
        sampled = sampled_layers(self)
        if sampled is None:
            return [], losses
        layers = [each for each in sampled if isinstance(each, keras.layers.Layer)]  # and not an operation, as a slice
        layers += filter(is_scored, self._flatten_layers())  # an activity regularizer of theirs sees their samples
        ids = {number for layer in layers for number in layer._loss_ids}
        return [loss for loss in losses if id(loss) not in ids], [loss for loss in losses if id(loss) in ids]

    @property
    def regularization_losses(self) -> list[tf.Tensor]:
        """The penalties on weights; none of them where an overridden `compute_loss` has them."""
        return [] if self.has_own_loss else self._get_regularization_losses()
