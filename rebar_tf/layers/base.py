"""Stochastic layers: logits in, discrete samples out."""

from __future__ import annotations

import math
import random
from typing import Any

import keras
import tensorflow as tf

from rebar_tf import estimators, sampling
from rebar_tf.distributions import Distribution, independent
from rebar_tf.validation import is_fraction, is_integer

INFERENCE_MODES = ("sample", "mode", "mean")


class StochasticLayer(keras.layers.Layer):
    """Base of the stochastic layers: asks the active sampler for its samples.

    In training a sampler is active: `StochasticModel` and `rebar_tf.expectation` run the passes of the estimator under
    one. A layer with a local estimator, such as straight-through, carries its gradient itself and needs none. In
    inference the layer outputs what its `inference` argument says.

    Args:
        estimator: a name of `rebar_tf.estimators.names()` or an `Estimator`; the same for all layers of a model, but
            for those with a local one.
        inference: what `predict` and plain calls output: `"sample"`, `"mode"` or `"mean"`.
        seed: integer; None draws one, from Python's generator as Keras does.
        unimix: the share of the uniform law that is mixed into each unit's, in [0, 1): a floor on probabilities.
        shared: whether the logits are weights without a batch axis, as of gates or a pruning mask, and one sample of
            them serves the whole batch. Its gradient takes the loss of the whole batch.
        return_logits: whether to output the logits of the samples, too, `unimix` included.
        return_probs: whether to output the probabilities, too, as for a KL term by hand. They are differentiable.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        logits: of the units; computed in float32.
        training: whether the call is part of training.
        mask: of the steps of a sequence; Keras passes it. The units of a masked step are 0, and have no gradient.

    Returns:
        The samples, like the logits; or a tuple of them with logits and probabilities in this order, like them.

    Raises:
        ValueError: for an unknown estimator or inference mode, a `unimix` outside of [0, 1), and for training outside
            of a model that estimates the gradient.
    """

    family: type[Distribution]

    def __init__(
        self,
        estimator: str | estimators.Estimator = "rebar",
        inference: str = "sample",
        seed: int | None = None,
        unimix: float = 0.0,
        shared: bool = False,
        return_logits: bool = False,
        return_probs: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.supports_masking = True
        if inference not in INFERENCE_MODES:
            raise ValueError(
                f"`inference` must be one of {', '.join(INFERENCE_MODES)}. Received: inference={inference!r}"
            )
        if not is_fraction(unimix):
            raise ValueError(f"`unimix` must be a number in [0, 1). Received: unimix={unimix!r}")
        if seed is not None and not is_integer(seed, least=-math.inf):
            raise ValueError(f"`seed` must be an integer, or None to draw one. Received: seed={seed!r}")
        self.inference = inference
        self.seed = random.randint(0, 2**31 - 1) if seed is None else int(seed)
        self.unimix = float(unimix)
        self.shared, self.return_logits, self.return_probs = bool(shared), bool(return_logits), bool(return_probs)
        self.take_estimator(estimator)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.draws = self.add_weight(
            shape=(),
            dtype="int64",
            initializer="zeros",
            trainable=False,
            aggregation="only_first_replica",
            name="draws",
        )
        self.index = 0  # among the stochastic layers of a model, which sets it
        batched = (None, *input_shape) if self.shared else tuple(input_shape)
        self.sample_shape = self.split_shape(batched)[1:]
        if self.local is not None:
            self.local.build_control(estimators.ControlSpec((), (self.sample_shape,), (self.family,), (self.name,)))

    def take_estimator(self, estimator: str | estimators.Estimator) -> None:
        """Names the layer's estimator: before the layer is built, and the estimator of its model."""
        # Configuration only: the model that trains the layer owns the estimator's variables, but for a local one.
        self.estimator_config = estimator_config(estimator)
        made = self.make_estimator()
        self.local = made if isinstance(made, estimators.LocalEstimator) else None

    def make_estimator(self) -> estimators.Estimator:
        """A new estimator of the layer's kind and configuration."""
        return estimators.get(self.estimator_config)

    def call(self, logits: tf.Tensor, training: bool | None = None, mask: tf.Tensor | None = None) -> Any:
        logits = tf.convert_to_tensor(logits)
        if mask is not None:
            logits = tf.where(of_steps(mask, logits), logits, tf.stop_gradient(logits))
        shape = sampling.static_or_dynamic_shape(logits)
        distribution = self.distribution(logits)

        def output(values: tf.Tensor) -> tf.Tensor:
            return tf.cast(tf.reshape(values, shape), self.compute_dtype)

        sample = output(self.encode(self._sample(distribution, training)))
        if mask is not None:
            # They move nothing, whatever a later layer makes of the mask.
            sample = tf.where(of_steps(mask, sample), sample, tf.zeros_like(sample))
        extra = [distribution.logits] * self.return_logits + [distribution.mean()] * self.return_probs
        return (sample, *map(output, extra)) if extra else sample

    def distribution(self, logits: tf.Tensor) -> Distribution:
        """The distribution of the layer's units, of logits as the layer takes them."""
        batched = logits[tf.newaxis] if self.shared else logits
        distribution = self.make_distribution(self.split(batched))
        return independent(distribution).mixed_with_uniform(self.unimix) if self.unimix else distribution

    def make_distribution(self, logits: tf.Tensor) -> Distribution:
        """The distribution of logits in the shape that the family takes."""
        return self.family(self.family.check_logits(logits))

    def _sample(self, distribution: Distribution, training: bool | None) -> tf.Tensor:
        sampler = sampling.current()
        if sampler is not None:
            source = sampling.Source(self.name, self.seed, self.index, self.local, self.shared)
            return sampler.sample(distribution, source)
        if training and self.local is None:
            raise ValueError(
                f"Layer {self.name!r} samples discrete units, and by itself it has no gradient: its estimator "
                "evaluates the objective several times. Build the model with rebar_tf.StochasticModel(inputs, outputs) "
                "in place of keras.Model, or let a subclass derive from rebar_tf.training.StochasticTraining; in a "
                "training step of your own call `model.estimate_gradients(x, y)` in place of a tape. Estimators that "
                f"work in any model: {', '.join(estimators.names(self.family.name, local=True))}."
            )
        if not training and self.inference == "mean":
            return distribution.mean()
        if not training and self.inference == "mode":
            return distribution.mode()
        sampling.check_no_vectorized_map(self.name)
        shape = sampling.static_or_dynamic_shape(distribution.logits)
        noise = sampling.uniform(shape, self.draws.assign_add(1), self.seed, self.index)
        if self.local is not None:
            return self.local.sample(distribution, noise, bool(training))
        return distribution.sample(noise)

    def split(self, logits: tf.Tensor) -> tf.Tensor:
        """The layer's input in the shape that its family takes."""
        return logits

    def split_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The shape that `split` gives an input of that shape."""
        return shape

    def encode(self, sample: tf.Tensor) -> tf.Tensor:
        """The layer's output values from a hard or relaxed sample of its family."""
        return sample

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """That of the logits, for each of the outputs."""
        return self._for_each_output(previous_mask)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> Any:
        return self._for_each_output(tuple(input_shape))

    def _for_each_output(self, value: Any) -> Any:
        count = 1 + self.return_logits + self.return_probs
        return (value,) * count if count > 1 else value

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "estimator": self.estimator_config,
            "inference": self.inference,
            "seed": self.seed,
            "unimix": self.unimix,
            "shared": self.shared,
            "return_logits": self.return_logits,
            "return_probs": self.return_probs,
        }


def of_steps(mask: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """A mask of steps, with the axes that the values of a step have."""
    return tf.reshape(mask, tf.concat([tf.shape(mask), [1] * (values.shape.rank - mask.shape.rank)], axis=0))


def estimator_config(estimator: str | estimators.Estimator) -> dict[str, Any]:
    """The configuration of an estimator, as layers hold it and compare it."""
    return without_shared_ids(keras.saving.serialize_keras_object(estimators.get(estimator)))


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
