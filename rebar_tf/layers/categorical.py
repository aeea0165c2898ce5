"""Categorical stochastic variables, one-hot."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from rebar_tf import estimators
from rebar_tf.distributions import Categorical
from rebar_tf.layers.base import StochasticLayer
from rebar_tf.validation import check_integer


@keras.saving.register_keras_serializable("rebar_tf")
class StochasticCategorical(StochasticLayer):
    """Categorical stochastic variables with an unbiased gradient, one-hot: `b ~ Categorical(softmax(logits))`.

    Args:
        num_classes: of each variable, 2 or more.
        estimator: a name of `rebar_tf.estimators.names()` or an `Estimator`; the same for all layers of a model, but
            for those with a local one, such as straight-through.
        inference: what `predict` and plain calls output: `"sample"`, `"mode"` or `"mean"`.
        seed: integer; None draws one, from Python's generator as Keras does, so `keras.utils.set_random_seed` governs
            it.
        **kwargs: `unimix`, `shared`, `return_logits` and `return_probs` of `StochasticLayer`, and those of
            `keras.layers.Layer`.

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
        **kwargs: Any,
    ):
        super().__init__(estimator, inference, seed, **kwargs)
        check_integer("num_classes", num_classes, least=2)
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
