"""Batches of several training steps as one element of a dataset, prepared beside the training."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from rebar_tf.validation import is_integer

FIT = inspect.signature(keras.Model.fit)
_LIKE_NUMPY = "biufc"  # kinds of dtype that TensorFlow takes as they are


class StackedBatches(NamedTuple):
    """What one program trains on.

    Attributes:
        batches: `steps` batches of one size, stacked, so that one program fits them all.
        count: the first so many of them count.
        rest: one batch of another size, which follows them.
        has_rest: whether there is one.
    """

    batches: Any
    count: tf.Tensor
    rest: Any
    has_rest: tf.Tensor


def stack_fit(steps: int, model: keras.Model, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
    """The arguments of `fit`, with a dataset of `StackedBatches` in the place of its data.

    Args:
        steps: batches of an element.
        model: whose `fit` is called.
        *args: of `fit`, as given.
        **kwargs: of `fit`, as given.

    Returns:
        Keyword arguments of Keras's `fit`. None where Keras has to take the data batch by batch: with `class_weight`; a
        `tf.data.Dataset` unless its batches have one size and `steps` divides a given `steps_per_epoch`; arrays with
        `steps_per_epoch` or `validation_split`; all other data.
    """
    given = FIT.bind(model, *args, **kwargs)
    given.apply_defaults()
    options = {key: value for key, value in given.arguments.items() if key != "self"}
    if options["class_weight"] is not None:
        return None
    if isinstance(options["x"], tf.data.Dataset):
        steps_per_epoch = options["steps_per_epoch"]
        if steps_per_epoch is None or steps_per_epoch % steps or not _has_one_size(options["x"]):
            return None
        return {**options, "x": _stack_dataset(options["x"], steps)}
    if not _are_plain_arrays(options):
        return None
    data = keras.tree.lists_to_tuples(
        keras.utils.pack_x_y_sample_weight(options["x"], options["y"], options["sample_weight"])
    )
    size = len(keras.tree.flatten(data)[0])
    batch_size = min(options["batch_size"] or 32, size)
    return {
        **options,
        "x": _stack_arrays(data, batch_size, steps, options["shuffle"]),
        "y": None,
        "sample_weight": None,
        "batch_size": None,
        "validation_batch_size": options["validation_batch_size"] or options["batch_size"],
        "shuffle": False,
        "steps_per_epoch": -(-size // batch_size),
    }


def _has_one_size(dataset: tf.data.Dataset) -> bool:
    """Whether all batches of a dataset are known to have the same shape."""
    return all(part.shape.is_fully_defined() for part in tf.nest.flatten(dataset.element_spec))


def _are_plain_arrays(options: Mapping[str, Any]) -> bool:
    """Whether the data of `fit` are arrays of one length, without an option that makes others of them."""
    changed = options["steps_per_epoch"] or options["validation_split"]
    weights_are_shared = options["sample_weight"] is not None and keras.tree.is_nested(options["y"])
    is_plain = isinstance(options["shuffle"], bool) and is_integer(options["batch_size"] or 32, least=1)
    if changed or weights_are_shared or not is_plain:
        return False
    arrays = keras.tree.flatten([options[key] for key in ("x", "y", "sample_weight") if options[key] is not None])
    plain = all(isinstance(array, np.ndarray) and array.dtype.kind in _LIKE_NUMPY and array.ndim for array in arrays)
    return bool(arrays) and plain and len({len(array) for array in arrays}) == 1 and len(arrays[0]) > 0


def _stack_dataset(dataset: tf.data.Dataset, steps: int) -> tf.data.Dataset:
    """Elements of `steps` batches, without a rest."""
    is_tuple = type(dataset.element_spec) is tuple  # which tf.data unpacks

    def element(*parts: Any) -> StackedBatches:
        batches = parts if is_tuple else parts[0]
        rest = tf.nest.map_structure(lambda part: part[0, :0], batches)
        return StackedBatches(batches, tf.shape(tf.nest.flatten(batches)[0])[0], rest, tf.constant(False))

    return dataset.batch(steps).map(element).prefetch(1)


def _stack_arrays(data: Any, batch_size: int, steps: int, shuffle: bool) -> tf.data.Dataset:
    """Elements of up to `steps` batches, epoch after epoch, in a new order in each as Keras does.

    Keras's own dataset over arrays costs some 400 microseconds a batch, whatever is in it.
    """
    with tf.device("CPU:0"):  # where tf.data works
        tensors = tf.nest.map_structure(_as_keras_does, data)

    def element(rows: tf.Tensor) -> StackedBatches:
        count = tf.size(rows) // batch_size
        full = count * batch_size
        places = tf.minimum(tf.range(steps * batch_size), tf.maximum(full - 1, 0))
        stacked = tf.reshape(tf.gather(rows, places), [steps, batch_size])
        return StackedBatches(_rows(tensors, stacked), count, _rows(tensors, rows[full:]), tf.size(rows) > full)

    size = len(tf.nest.flatten(tensors)[0])
    order = tf.data.Dataset.range(size)
    if shuffle:
        order = order.shuffle(size)
    options = tf.data.Options()
    options.autotune.enabled = False  # there is nothing to choose, and an iterator ends only when the search wakes up
    return order.batch(steps * batch_size).map(element).repeat().prefetch(1).with_options(options)


def _as_keras_does(array: np.ndarray) -> tf.Tensor:
    """Floats of any precision as Keras's."""
    return tf.convert_to_tensor(array.astype(keras.config.floatx()) if array.dtype.kind == "f" else array)


def _rows(tensors: Any, rows: tf.Tensor) -> Any:
    return tf.nest.map_structure(lambda tensor: tf.gather(tensor, rows), tensors)
