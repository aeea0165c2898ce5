"""Keras's compiled loss as one value for each example, whose mean is the loss that Keras would minimise."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.src.losses import loss as keras_loss

_active = threading.local()  # replicas of a distribution strategy run in threads of their own


class PerExampleLoss:
    """One compiled loss; called like it, and returns `[batch]` in place of a scalar.

    Values, masks, sample weights and reduction are Keras's. With `sum_ij w_ij v_ij / D` for the scalar, D a number of
    values or a sum of weights, example i has `batch sum_j w_ij v_ij / D`. A loss that returns a scalar by itself mixes
    the examples: see `coupled`.

    Args:
        loss: a `keras.losses.Loss`.

    Raises:
        ValueError: for a loss without a reduction.
    """

    def __init__(self, loss: keras.losses.Loss):
        check_reduces(loss)
        self.loss = loss

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> tf.Tensor:
        loss, batch, given = self.loss, batch_size(y_pred), (y_true, y_pred, sample_weight)
        in_mask = keras.src.backend.get_keras_mask(y_pred)
        y_true, y_pred = (
            keras.tree.map_structure(lambda part: keras.ops.convert_to_tensor(part, dtype=loss.dtype), tree)
            for tree in (y_true, y_pred)
        )
        values = loss.call(y_true, y_pred)
        masks = [mask for mask in (in_mask, keras.src.backend.get_keras_mask(values)) if mask is not None]
        mask = masks[0] & masks[1] if len(masks) == 2 else (masks or [None])[0]
        values = keras.ops.convert_to_tensor(values, dtype=loss.dtype)
        if values.shape.rank == 0:
            return coupled(values, batch)
        if is_along_the_batch(loss, y_pred):
            return coupled(loss(*given), batch)
        weights = keras_loss.apply_mask(
            None if sample_weight is None else keras.ops.convert_to_tensor(sample_weight, dtype=values.dtype),
            None if mask is None else keras.ops.convert_to_tensor(mask, dtype=values.dtype),
            dtype=values.dtype,
            reduction=loss.reduction,
        )
        if weights is not None:
            values, weights = keras_loss.squeeze_or_expand_to_same_rank(values, weights)
            values = values * weights
        sums = tf.reduce_sum(values, axis=list(range(1, values.shape.rank)))
        rows = tf.cast(batch, values.dtype)
        if loss.reduction == "sum":
            refuse_sum(loss)
            return rows * sums
        if loss.reduction == "mean_with_sample_weight" and weights is not None:
            divisor = tf.reduce_sum(weights)
        else:
            divisor = tf.cast(tf.size(values), values.dtype)
        return keras_loss.scale_loss_for_distribution(rows * tf.math.divide_no_nan(sums, divisor))


def is_along_the_batch(loss: keras.losses.Loss, y_pred: Any) -> bool:
    """Whether a loss of Keras's takes the axis of the examples for one of its own."""
    axes = getattr(loss, "_fn_kwargs", {}).get("axis")
    return axes is not None and 0 in {axis % y_pred.shape.rank for axis in np.ravel(axes)}


def check_reduces(loss: keras.losses.Loss) -> None:
    """ValueError for a loss without a reduction: Keras sums its values, with the other losses added to each."""
    if loss.reduction in (None, "none"):
        raise ValueError(
            f"Loss {loss.name!r} must have a reduction: 'sum_over_batch_size', 'sum' or 'mean_with_sample_weight'. "
            f"Received: reduction={loss.reduction!r}"
        )


def per_example(compile_loss: Any, y: Any, y_pred: Any, sample_weight: Any) -> tf.Tensor:
    """`[batch]`: the compiled loss of each example, with the weights of several losses.

    Args:
        compile_loss: the `CompileLoss` of a compiled model.
        y: targets.
        y_pred: the model's outputs.
        sample_weight: as Keras takes it, or None.
    """
    build_losses(compile_loss, y, y_pred, sample_weight)
    parts = object.__new__(type(compile_loss))  # its own copying would save and load it
    vars(parts).update(vars(compile_loss))
    parts._flat_losses = [each._replace(loss=PerExampleLoss(each.loss)) for each in compile_loss._flat_losses]
    parts._metrics = [None] * len(parts._flat_losses)  # the losses of single outputs are not counted here
    return tf.cast(parts(y, y_pred, sample_weight), tf.float32)


def build_losses(compile_loss: Any, y: Any, y_pred: Any, sample_weight: Any) -> None:
    """Resolves names and structure of the losses, and leaves their metrics as they are."""
    if not compile_loss.built:
        with keras.StatelessScope():
            compile_loss(y, y_pred, sample_weight)


def coupled(total: tf.Tensor, batch: tf.Tensor | int) -> tf.Tensor:
    """A scalar that mixes the examples as `[batch]` values that are unbiased whatever it mixes.

    The samples of each example move the whole scalar, so each has `batch` times it for its learning signal, of which
    the mean over the batch takes the `batch` away. The derivative is that of the scalar itself: the mean's is right.
    """
    for note in getattr(_active, "notes", []):
        note.append(total)
    total = tf.cast(total, tf.float32)
    share = getattr(_active, "share", None)
    if share is not None:
        return tf.fill([batch], share * total)
    rows = tf.cast(batch, tf.float32)
    return tf.fill([batch], total) + tf.stop_gradient((rows - 1.0) * total)


@contextlib.contextmanager
def _active_as(name: str, value: Any) -> Iterator[None]:
    """A block in which `_active` has that value."""
    before = getattr(_active, name, None)
    setattr(_active, name, value)
    try:
        yield
    finally:
        setattr(_active, name, before)


def sharing_coupled(share: float | None) -> contextlib.AbstractContextManager[None]:
    """A block in which each example has that share of a scalar that mixes them: 1 for a mean, 0 leaves it out."""
    return _active_as("share", share)


def as_whole(f: tf.Tensor) -> tf.Tensor:
    """The objective of examples that mix: that of the batch, the mean, for each of them."""
    return coupled(batch_mean(f), batch_size(f))


def batch_mean(f: tf.Tensor) -> tf.Tensor:
    """The mean over a batch; 0 for none, as the last batch of an epoch may leave a replica."""
    return tf.math.divide_no_nan(tf.reduce_sum(f), tf.cast(tf.size(f), f.dtype))


@contextlib.contextmanager
def noting_coupled() -> Iterator[list[tf.Tensor]]:
    """In this block the list grows by each scalar that was found to mix the examples."""
    _active.notes = [*getattr(_active, "notes", []), []]
    try:
        yield _active.notes[-1]
    finally:
        _active.notes = _active.notes[:-1]


@contextlib.contextmanager
def refusing_coupled(what: str, remedy: str = "") -> Iterator[None]:
    """ValueError at the end of the block if a scalar in it mixed the examples, which `what` takes one by one."""
    with noting_coupled() as mixed:
        yield
    if mixed:
        raise ValueError(
            f"{what} takes the examples of a batch one by one, and the objective mixes them: by a layer after a "
            "stochastic one, such as batch normalisation, a loss added there, a loss that compares them or returns a "
            f"scalar, units that the batch shares, or `compute_loss`.{remedy}"
        )


def refusing_sums(what: str) -> contextlib.AbstractContextManager[None]:
    """A block in which, of what takes an exponential of each example's loss, a loss that is summed is refused."""
    return _active_as("exponential", what)


def refuse_sum(loss: keras.losses.Loss) -> None:
    """ValueError where what takes an exponential would meet a loss that is multiplied by the size of the batch."""
    what = getattr(_active, "exponential", None)
    if what is not None:
        raise ValueError(
            f"{what} takes the exponential of each example's loss, which a sum over the batch would multiply by its "
            f"size: loss {loss.name!r} must have the reduction 'sum_over_batch_size'. Received: "
            f"reduction={loss.reduction!r}"
        )


def batch_size(tree: Any) -> tf.Tensor | int:
    """The number of examples in a structure of tensors."""
    part = next(part for part in keras.tree.flatten(tree) if part is not None)
    return part.shape[0] if part.shape[0] is not None else tf.shape(part)[0]
