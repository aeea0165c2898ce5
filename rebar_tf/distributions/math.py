"""Numerics that stay finite for every logit and every noise, and sums over the units of an example."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

_SMALLEST = 2.0**-126  # smallest normal float32
_BELOW_ONE = 1.0 - 2.0**-24  # largest float32 below 1


def logit(u: tf.Tensor) -> tf.Tensor:
    """`log(u / (1 - u))`, finite inside (0, 1), with an absolute error of float32's 6e-8 and some more in the tails.

    The quotient first: two logarithms cost twice as much, and under XLA draw their noise twice.
    """
    return tf.math.log(u / (1.0 - u))


def log_expm1(a: tf.Tensor) -> tf.Tensor:
    """`log(exp(a) - 1)` for a >= 0, finite up to the largest float32."""
    return a + tf.math.log(-tf.math.expm1(-a))


def open_interval(v: tf.Tensor) -> tf.Tensor:
    """Rounding may put a uniform number on 0 or 1, where its logarithms are infinite: move it just inside."""
    return tf.clip_by_value(v, _SMALLEST, _BELOW_ONE)


def keep_nan(sample: tf.Tensor, z: tf.Tensor) -> tf.Tensor:
    """The sample, with NaN where z is NaN: no comparison holds there, which would pass for an ordinary 0.

    Loss and gradient then are NaN, as in any network, and `keras.callbacks.TerminateOnNaN` sees it.
    """
    return tf.where(tf.math.is_nan(z), tf.stop_gradient(z), sample)


def logaddexp(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """`log(exp(a) + exp(b))`."""
    return tf.maximum(a, b) + tf.nn.softplus(-tf.abs(a - b))


@tf.custom_gradient
def sum_units(values: tf.Tensor) -> tf.Tensor:
    """Sum over every axis but the batch's: `[batch, ...] -> [batch]`.

    The gradient is written out because that of the halves would put them together again.
    """
    value = tf.reduce_sum(_fold_halves(_flat_units(values), tf.add), axis=1)
    return value, lambda upstream: tf.broadcast_to(per_unit(upstream, values), tf.shape(values))


@tf.custom_gradient
def sum_softplus(logits: tf.Tensor) -> tf.Tensor:
    """`sum_i log(1 + exp(l_i))` over every axis but the batch's, `[batch]`: what a Bernoulli's density costs most time.

    As `sum max(l, 0) + log prod (1 + exp(-|l|))`: one logarithm serves up to 16 units, whose factors lie in (1, 2]. The
    error is that of a float32 sum. The gradient is written out because this formula's own is wrong at exactly 0, where
    a prior's logits start.
    """
    flat = _flat_units(logits)
    factors = _fold_halves(1.0 + tf.exp(-tf.abs(flat)), tf.multiply)
    value = sum_units(tf.maximum(flat, 0.0)) + tf.reduce_sum(tf.math.log(factors), axis=1)
    return value, lambda upstream: per_unit(upstream, logits) * tf.sigmoid(logits)


def _flat_units(values: tf.Tensor) -> tf.Tensor:
    """`[batch, ...] -> [batch, units]`."""
    if values.shape.rank == 2:
        return values
    units = values.shape[1:].num_elements()  # None for sequences of unknown length
    return tf.reshape(values, [tf.shape(values)[0], -1 if units is None else units])


def _fold_halves(values: tf.Tensor, combine: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]) -> tf.Tensor:
    """Combines the halves of the units up to four times, while they are even in number: `[batch, units / 16]`.

    Halves are combined many units at a time, where a sum over the last axis goes one by one.
    """
    for _ in range(4):
        units = values.shape[1]
        if units is None or units % 2:
            break
        values = combine(*tf.split(values, 2, axis=1))
    return values


def per_unit(values: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """`[batch]` values shaped to multiply `[batch, ...]` ones, example by example."""
    if values.shape.rank != 1:
        raise ValueError(f"Expected one value an example, shape [batch]. Received: shape {values.shape}")
    return tf.reshape(values, [-1] + [1] * (like.shape.rank - 1))
