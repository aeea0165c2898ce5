"""Loss scaling: gradients that half precision would round to 0 pass its layers many times as large."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

_active = threading.local()  # replicas of a distribution strategy run in threads of their own


def loss_scale() -> tf.Tensor | None:
    """The scale at which backward passes of this thread run; None where they are not scaled."""
    return getattr(_active, "scale", None)


@contextlib.contextmanager
def scaled_losses(scale: tf.Tensor | None) -> Iterator[None]:
    """In this block `scaled_gradients` takes its gradients at that scale."""
    outer = loss_scale()
    _active.scale = scale
    try:
        yield
    finally:
        _active.scale = outer


def scaled_gradients(tape: tf.GradientTape, loss: tf.Tensor, sources: list[Any]) -> list[tf.Tensor | None]:
    """`tape.gradient(loss, sources)`, with a backward pass at the active scale.

    Args:
        tape: whose forward pass computed the loss.
        loss: scalar, or `[batch]`: then at the scale of its mean.
        sources: what the gradients are by.
    """
    scale = loss_scale()
    if scale is None:
        return tape.gradient(loss, sources)
    scale /= tf.cast(tf.size(loss), tf.float32)
    found = tape.gradient(loss, sources, output_gradients=tf.fill(tf.shape(loss), tf.cast(scale, loss.dtype)))
    return [g if g is None else tf.cast(tf.convert_to_tensor(g), tf.float32) / scale for g in found]
