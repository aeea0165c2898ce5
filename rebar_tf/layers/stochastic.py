"""Stochastic layers: logits in, discrete samples out."""

from __future__ import annotations

import random
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rebar_tf import estimators, sampling
from rebar_tf.random import uniform
from rebar_tf.reparameterization import Bernoulli, Categorical

INFERENCE_MODES = ("sample", "mode", "mean")


class StochasticLayer(keras.layers.Layer):
    """Base of the stochastic layers: asks the active sampler for its samples.

    In training a sampler is always active: `StochasticModel` and `rebar_tf.expectation` run the passes of the estimator
    under one. Outside of one the layer serves inference, as its `inference` argument says.
    """

    family: type

    def __init__(
        self,
        estimator: str | estimators.Estimator = "rebar",
        inference: str = "sample",
        seed: int | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if inference not in INFERENCE_MODES:
            raise ValueError(
                f"`inference` must be one of {', '.join(INFERENCE_MODES)}. Received: inference={inference!r}"
            )
        self.inference = inference
        self.seed = random.randint(0, 2**31 - 1) if seed is None else int(seed)
        # Configuration only: the model that trains the layer owns the estimator's variables.
        self.estimator_config = without_shared_ids(keras.saving.serialize_keras_object(estimators.get(estimator)))

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.draws = self.add_weight(shape=(), dtype="int64", initializer="zeros", trainable=False, name="draws")
        self.index = 0  # among the stochastic layers of a model, which sets it
        self.sample_shape = self.split_shape(tuple(input_shape))[1:]

    def make_estimator(self) -> estimators.Estimator:
        """A new estimator of the layer's kind and configuration."""
        return estimators.get(self.estimator_config)

    def call(self, logits: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        shape = sampling.static_or_dynamic_shape(logits)
        logits = self.family.check_logits(self.split(tf.convert_to_tensor(logits)))
        sampler = sampling.current()
        if sampler is not None:
            sample = sampler.sample(self.family, logits, self.seed, self.index)
        elif training:
            raise ValueError(
                f"Layer {self.name!r} samples discrete units, and this model would train without a gradient estimate "
                "through them. Build it with rebar_tf.StochasticModel(inputs, outputs) in place of keras.Model, or let "
                "a subclass derive from rebar_tf.models.StochasticTraining."
            )
        else:
            sample = self._infer(logits)
        return tf.cast(tf.reshape(self.encode(sample), shape), self.compute_dtype)

    def _infer(self, logits: tf.Tensor) -> tf.Tensor:
        if self.inference == "mean":
            return self.family.mean(logits)
        if self.inference == "mode":
            return self.family.mode(logits)
        step = self.draws.assign_add(1)
        noise = uniform(sampling.static_or_dynamic_shape(logits), step, self.seed)
        return self.family.threshold(self.family.reparameterize(noise, logits))

    def split(self, logits: tf.Tensor) -> tf.Tensor:
        """The layer's input in the shape that its family takes."""
        return logits

    def split_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The shape that `split` gives an input of that shape."""
        return shape

    def encode(self, sample: tf.Tensor) -> tf.Tensor:
        """The layer's output values from a hard or relaxed sample of its family."""
        return sample

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "estimator": self.estimator_config,
            "inference": self.inference,
            "seed": self.seed,
        }


@keras.saving.register_keras_serializable("rebar_tf")
class StochasticBinary(StochasticLayer):
    """Binary stochastic units with an unbiased gradient: `b ~ Bernoulli(sigmoid(logits))`.

    Use it like any Keras layer inside `rebar_tf.StochasticModel`, whose `fit` runs the passes of the estimator.

    Args:
        estimator: a name of `rebar_tf.estimators.names()` or an `Estimator`; the same for all layers of a model.
        values: what 0 and 1 are output as; (-1, 1) as in the paper, or (0, 1).
        inference: what `predict` and plain calls output: `"sample"`, `"mode"` or `"mean"` (for logits of zero the mode
            is the lower value).
        seed: integer; None draws one, from Python's generator as Keras does, so `keras.utils.set_random_seed` governs
            it.

    Call arguments:
        logits: `[batch, units]`, any float dtype; computed in float32.
        training: whether the call is part of training.

    Returns:
        `[batch, units]` in the layer's compute dtype.

    Raises:
        ValueError: for an unknown estimator or inference mode, for logits of rank below 2, and for training outside of
            a model that estimates the gradient.

    Example:
    >>> import keras, rebar_tf as rt
    >>> x = keras.Input((784,))
    >>> b = rt.layers.StochasticBinary(estimator="rebar")(keras.layers.Dense(200)(x))
    >>> model = rt.StochasticModel(x, keras.layers.Dense(784)(b))

    Reference: Tucker et al. 2017, appendix C.
    """

    family = Bernoulli

    def __init__(
        self,
        estimator: str | estimators.Estimator = "rebar",
        values: tuple[float, float] = (-1.0, 1.0),
        inference: str = "sample",
        seed: int | None = None,
        **kwargs,
    ):
        super().__init__(estimator, inference, seed, **kwargs)
        low, high = (float(value) for value in values)
        if low == high:
            raise ValueError(f"`values` must be two different numbers. Received: values={values!r}")
        self.values = (low, high)

    def encode(self, sample: tf.Tensor) -> tf.Tensor:
        low, high = self.values
        return low + (high - low) * sample

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "values": self.values}


@keras.saving.register_keras_serializable("rebar_tf")
class StochasticCategorical(StochasticLayer):
    """Categorical stochastic variables with an unbiased gradient, one-hot: `b ~ Categorical(softmax(logits))`.

    Args:
        num_classes: of each variable, 2 or more.
        estimator: a name of `rebar_tf.estimators.names()` or an `Estimator`; the same for all layers of a model.
        inference: what `predict` and plain calls output: `"sample"`, `"mode"` or `"mean"`.
        seed: integer; None draws one, from Python's generator as Keras does, so `keras.utils.set_random_seed` governs
            it.

    Call arguments:
        logits: `[batch, variables * num_classes]` or `[batch, ..., num_classes]`: the last axis holds the classes of
            any number of variables, one after the other. Any float dtype; computed in float32.
        training: whether the call is part of training.

    Returns:
        One-hot samples shaped like the logits, in the layer's compute dtype.

    Raises:
        ValueError: for an unknown estimator or inference mode, `num_classes` below 2, a last axis that is not a
            multiple of it, logits of rank below 2, and for training outside of a model that estimates the gradient.

    Example:
    >>> import keras, rebar_tf as rt
    >>> x = keras.Input((784,))
    >>> b = rt.layers.StochasticCategorical(num_classes=10)(keras.layers.Dense(20 * 10)(x))  # 20 variables
    >>> model = rt.StochasticModel(x, keras.layers.Dense(784)(b))

    Reference: Tucker et al. 2017, appendix C.
    """

    family = Categorical

    def __init__(
        self,
        num_classes: int,
        estimator: str | estimators.Estimator = "rebar",
        inference: str = "sample",
        seed: int | None = None,
        **kwargs,
    ):
        super().__init__(estimator, inference, seed, **kwargs)
        if not isinstance(num_classes, (int, np.integer)) or num_classes < 2:
            raise ValueError(f"`num_classes` must be an integer of 2 or more. Received: num_classes={num_classes!r}")
        self.num_classes = int(num_classes)

    def split(self, logits: tf.Tensor) -> tf.Tensor:
        shape = self.split_shape(tuple(logits.shape))
        split = tf.reshape(logits, tf.concat([tf.shape(logits)[:-1], shape[-2:]], axis=0))
        return tf.ensure_shape(split, shape)

    def split_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        if len(shape) < 2 or shape[-1] is None or shape[-1] % self.num_classes:
            raise ValueError(
                "`logits` must have shape [batch, ..., units] with units a multiple of "
                f"num_classes={self.num_classes}. Received: logits.shape={shape}"
            )
        return *shape[:-1], shape[-1] // self.num_classes, self.num_classes

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_classes": self.num_classes}


def without_shared_ids(config: Any) -> Any:
    """A serialised object without the marks of objects that occur twice.

    While Keras saves or loads a model it knows objects by their address, which another one may have once the first is
    gone: an estimator that is serialised in between would be taken for another.
    """
    if isinstance(config, dict):
        return {key: without_shared_ids(value) for key, value in config.items() if key != "shared_object_id"}
    if isinstance(config, list):
        return [without_shared_ids(value) for value in config]
    return config
