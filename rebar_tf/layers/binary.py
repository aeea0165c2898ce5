"""Binary stochastic units."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf

from rebar_tf import estimators
from rebar_tf.distributions import Bernoulli
from rebar_tf.layers.base import StochasticLayer


@keras.saving.register_keras_serializable("rebar_tf")
class StochasticBinary(StochasticLayer):
    """Binary stochastic units with an unbiased gradient: `b ~ Bernoulli(sigmoid(logits))`.

    Use it like any Keras layer inside `rebar_tf.StochasticModel`, whose `fit` runs the passes of the estimator.

    Args:
        estimator: a name of `rebar_tf.estimators.names()` or an `Estimator`; the same for all layers of a model, but
            for those with a local one, such as straight-through.
        values: what 0 and 1 are output as; (-1, 1) as in the paper, or (0, 1).
        inference: what `predict` and plain calls output: `"sample"`, `"mode"` or `"mean"` (for logits of zero the mode
            is the lower value).
        seed: integer; None draws one, from Python's generator as Keras does, so `keras.utils.set_random_seed` governs
            it.
        **kwargs: `unimix`, `shared`, `return_logits` and `return_probs` of `StochasticLayer`, and those of
            `keras.layers.Layer`.

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
        **kwargs: Any,
    ):
        super().__init__(estimator, inference, seed, **kwargs)
        self.values = two_numbers(values)

    def encode(self, sample: tf.Tensor) -> tf.Tensor:
        low, high = self.values
        return low + (high - low) * sample

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "values": self.values}


def two_numbers(values: Any) -> tuple[float, float]:
    """The two values as floats; ValueError unless they are finite and differ."""
    try:
        low, high = map(float, values)
    except (TypeError, ValueError, OverflowError):
        low = high = 0.0
    if low == high or not math.isfinite(high - low):
        raise ValueError(f"`values` must be two different numbers. Received: values={values!r}")
    return low, high
