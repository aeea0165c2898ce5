"""Stochastic layers: logits in, discrete samples out."""

from __future__ import annotations

import random
from typing import Any

import keras
import tensorflow as tf

from rebar_tf import estimators, sampling
from rebar_tf.distributions import Distribution

INFERENCE_MODES = ("sample", "mode", "mean")


class StochasticLayer(keras.layers.Layer):
    """Base of the stochastic layers: asks the active sampler for its samples.

    In training a sampler is always active: `StochasticModel` and `rebar_tf.expectation` run the passes of the estimator
    under one. Outside of one the layer serves inference, as its `inference` argument says.
    """

    family: type[Distribution]

    def __init__(
        self,
        estimator: str | estimators.Estimator = "rebar",
        inference: str = "sample",
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.supports_masking = True
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
        distribution = self.family(self.family.check_logits(self.split(tf.convert_to_tensor(logits))))
        sampler = sampling.current()
        if sampler is not None:
            sample = sampler.sample(distribution, sampling.Source(self.name, self.seed, self.index))
        elif training:
            raise ValueError(
                f"Layer {self.name!r} samples discrete units, and this model would train without a gradient estimate "
                "through them. Build it with rebar_tf.StochasticModel(inputs, outputs) in place of keras.Model, or let "
                "a subclass derive from rebar_tf.training.StochasticTraining."
            )
        else:
            sample = self._infer(distribution)
        return tf.cast(tf.reshape(self.encode(sample), shape), self.compute_dtype)

    def _infer(self, distribution: Distribution) -> tf.Tensor:
        if self.inference == "mean":
            return distribution.mean()
        if self.inference == "mode":
            return distribution.mode()
        step = self.draws.assign_add(1)
        shape = sampling.static_or_dynamic_shape(distribution.logits)
        return distribution.sample(sampling.uniform(shape, step, self.seed, self.index))

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
