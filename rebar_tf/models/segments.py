"""What the paper's networks are made of: segments between stochastic layers, and the training data's mean at both ends.

Shared by the models of the paper's two tasks, so that both start from the same weights and treat pixels the same way.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from rebar_tf.initializers import PaperInitializer
from rebar_tf.training import FactoredDense


def check_mean(mean: npt.ArrayLike | None, units: int, name: str) -> np.ndarray:
    """The mean of training images, `[units]`; one half everywhere for None, ValueError for no such mean."""
    mean = np.full(units, 0.5) if mean is None else np.asarray(mean, np.float32)
    if mean.shape != (units,):
        raise ValueError(f"`{name}` must be {units} numbers in [0, 1]. Received: shape {mean.shape}")
    if not np.all((mean >= 0) & (mean <= 1)):
        raise ValueError(f"`{name}` must be {units} numbers in [0, 1]. Received: range [{mean.min()}, {mean.max()}]")
    return mean


def choose_seed(seed: int | None) -> int:
    """The seed itself, or one from NumPy's global generator for None."""
    return int(np.random.randint(2**31 - 1)) if seed is None else int(seed)


def derive_seeds(seed: int, num_layers: int) -> Iterator[int]:
    """Seeds of all initial weights and layers of a model, more than it needs, from the model's own."""
    return (int(state) & 0x7FFFFFFF for state in np.random.SeedSequence(seed).generate_state(64 * num_layers))


def segment(
    name: str, inputs: int, outputs: int, tanh_units: list[int], seeds: Iterator[int], dtype: keras.DTypePolicy
) -> keras.Sequential:
    """The layers between two stochastic ones, built: tanh layers, if any, and a linear one.

    Args:
        name: of the segment.
        inputs: units of the layer before.
        outputs: units of the layer after.
        tanh_units: of each tanh layer; none for a linear segment.
        seeds: where each layer takes its initial weights' seed from.
        dtype: policy of the layers.
    """

    def dense(units: int, activation: str | None = None) -> FactoredDense:
        initializer = PaperInitializer(next(seeds))
        return FactoredDense(units, activation=activation, kernel_initializer=initializer, dtype=dtype)

    layers = keras.Sequential([*(dense(units, "tanh") for units in tanh_units), dense(outputs)], name=name)
    layers.dtype_policy = dtype
    layers.build((None, inputs))
    return layers


def add_data(model: keras.Model, name: str, values: np.ndarray) -> keras.Variable:
    """A weight that holds data and is not trained: it is saved and loaded with the model."""
    options = dict(initializer="zeros", trainable=False, autocast=False, dtype="float32")  # under any policy
    weight = model.add_weight(shape=values.shape, name=name, **options)
    weight.assign(values)
    return weight


def centre(images: Any, mean: keras.Variable, name: str) -> tf.Tensor:
    """`images - mean` in float32, `[batch, units]`.

    Args:
        images: `[batch, units]` in [0, 1].
        mean: `[units]`.
        name: what the error calls the images.

    Raises:
        ValueError: for images of another number of units.
    """
    return check_width(images, mean.shape[0], name) - mean.value


def check_width(images: Any, units: int, name: str) -> tf.Tensor:
    """The images in float32; ValueError unless their shape is `[batch, units]`, lest one pixel stands for all."""
    images = tf.cast(images, tf.float32)
    if not images.shape[-1:].is_compatible_with([units]):
        raise ValueError(f"`{name}` must have the shape [batch, {units}]. Received: shape {images.shape}")
    return images


def output_bias(mean: keras.Variable) -> tf.Tensor:
    """`-log(1 / clip(mean, .001, .999) - 1)`: a constant beside the trained bias, which starts at 0 (appendix G)."""
    return -tf.math.log(1.0 / tf.clip_by_value(mean.value, 0.001, 0.999) - 1.0)
