"""Subsets of units."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from rebar_tf import estimators
from rebar_tf.distributions import Distribution, Subset
from rebar_tf.layers.base import StochasticLayer
from rebar_tf.validation import check_integer


@keras.saving.register_keras_serializable("rebar_tf")
class StochasticSubset(StochasticLayer):
    """k of n units, with a gradient: `p(b) = exp(logits b) / Z` for b in {0, 1}^n with k ones.

    Given how many are drawn, the law is that of independent binary units: of those, the ones of k. The mean, the
    probability of each unit to be among them, is exact; by it `straight_through` is SIMPLE. With k = 1 this is a
    categorical variable.

    Args:
        size: k, from 1 to the number of units.
        estimator: a name of `rebar_tf.estimators.names("subset")` or an `Estimator`; the same for all layers of a
            model, but for those with a local one, such as straight-through.
        inference: what `predict` and plain calls output: `"sample"`, `"mode"` (the units of the k largest logits) or
            `"mean"`.
        seed: integer; None draws one, from Python's generator as Keras does, so `keras.utils.set_random_seed` governs
            it.
        **kwargs: `shared`, `return_logits` and `return_probs` of `StochasticLayer`, and those of `keras.layers.Layer`.

    Call arguments:
        logits: `[batch, n]` or `[batch, ..., n]`, any float dtype; computed in float32.
        training: whether the call is part of training.

    Returns:
        `[batch, n]` in {0, 1}, in the layer's compute dtype.

    Raises:
        ValueError: for an unknown estimator or inference mode, in a model for one that serves no subsets, a `size`
            outside of 1 to n, logits of rank below 2, `unimix`, and for training outside of a model that estimates the
            gradient.

    Example:
    >>> import keras, rebar_tf as rt
    >>> x = keras.Input((30,))
    >>> seen = rt.layers.StochasticSubset(5, estimator="straight_through")(keras.layers.Dense(30)(x))
    >>> model = keras.Model(x, keras.layers.Dense(1)(seen * x))  # of 30 inputs it chooses 5 for each example

    Reference: Ahmed et al. 2023, "SIMPLE: A gradient estimator for k-subset sampling".
    """

    family = Subset

    def __init__(
        self,
        size: int,
        estimator: str | estimators.Estimator = "straight_through",
        inference: str = "sample",
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(estimator, inference, seed, **kwargs)
        check_integer("size", size, least=1)
        if self.unimix:
            raise ValueError(f"`unimix` must be 0 for subsets. Received: unimix={self.unimix}")
        self.size = int(size)

    def make_distribution(self, logits: tf.Tensor) -> Distribution:
        return Subset(Subset.check_logits(logits), self.size)

    def split_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        if len(shape) < 2 or shape[-1] is None or shape[-1] < self.size:
            raise ValueError(
                f"`logits` must have shape [batch, ..., units] with at least size={self.size} units. "
                f"Received: logits.shape={shape}"
            )
        return shape

    def split(self, logits: tf.Tensor) -> tf.Tensor:
        self.split_shape(tuple(logits.shape))
        return logits

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "size": self.size}
