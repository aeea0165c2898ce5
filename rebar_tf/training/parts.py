"""Batches as Keras takes them: structures of arrays, some of which may be None."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf


def map_parts(fn: Callable[[tf.Tensor], tf.Tensor], data: Any) -> Any:
    """`fn` of each array of a structure, as a tensor; None stays None."""
    return keras.tree.map_structure(lambda part: None if part is None else fn(tf.convert_to_tensor(part)), data)
