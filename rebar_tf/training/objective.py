"""The objective of a step: one value for each example."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

if TYPE_CHECKING:
    from rebar_tf.training.model import StochasticTraining


class BatchObjective:
    """The objective of one batch, which an estimator evaluates once for each of its passes.

    Args:
        model: whose `objective` it is.
        x: a batch of inputs.
        y: a batch of targets.
        sample_weight: `[batch]`, a weight for each example; None for 1.

    Attributes:
        y_pred: the model's outputs in the first pass, the hard one, which the metrics see.
    """

    def __init__(self, model: StochasticTraining, x: Any, y: Any = None, sample_weight: tf.Tensor | None = None):
        self.model, self.x, self.y, self.sample_weight = model, x, y, sample_weight
        self.y_pred = None
        self.evaluated = False

    def __call__(self) -> tf.Tensor:
        """f, `[batch]`, under whichever sampler is active."""
        f, y_pred = self.model.objective(self.x, self.y)
        if not self.evaluated:
            self.y_pred, self.evaluated = y_pred, True
        return f if self.sample_weight is None else f * tf.cast(self.sample_weight, f.dtype)


def add_losses(losses: list[tf.Tensor]) -> tf.Tensor | float:
    """Sum of the losses that layers add, such as weight regularisers."""
    return tf.add_n([tf.cast(loss, tf.float32) for loss in losses]) if losses else 0.0


def per_example_loss(loss: Any, y: Any, y_pred: Any) -> tf.Tensor:
    """The loss of each example, before any reduction over the batch.

    Args:
        loss: what `compile` got: a name, a function, a `keras.losses.Loss`, or one for each output in the structure of
            `y_pred`, whose losses are added.
        y: targets.
        y_pred: the model's outputs.

    Returns:
        `[batch]`, the mean over the remaining axes of the loss's values.

    Raises:
        ValueError: without a loss; for a loss that sums over the batch or returns a scalar.
    """
    if loss is None:
        raise ValueError("`loss` must be given to `compile`, or `objective` overridden. Received: loss=None")
    if isinstance(loss, (list, tuple, dict)):
        keys = loss.keys() if isinstance(loss, dict) else range(len(loss))
        return tf.add_n([per_example_loss(loss[key], y[key], y_pred[key]) for key in keys])
    loss = keras.losses.get(loss)
    if getattr(loss, "reduction", None) == "sum":
        raise ValueError(
            "`loss` must average over the batch, as the objective is one value for each example. "
            "Received: a loss with reduction='sum'"
        )
    function = loss.call if isinstance(loss, keras.losses.Loss) else loss
    y_pred = tf.cast(y_pred, tf.float32)
    values = tf.convert_to_tensor(function(tf.cast(y, y_pred.dtype), y_pred))
    if values.shape.rank == 0:
        raise ValueError("`loss` must return one value for each example, shape [batch]. Received: a scalar")
    return tf.reduce_mean(values, axis=list(range(1, values.shape.rank)))
