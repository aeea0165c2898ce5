"""Uniform random numbers as a pure function of a key and a step.

TensorFlow's stateless generators draw other numbers under XLA than outside of it, and their default takes some 30 times
as long there as the one below. A counter-based generator of a few integer operations draws the same numbers in eager
mode, in a graph, under XLA, on a CPU and on a GPU, and fuses with what uses them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class SeedOfRun:
    """The seed of one of several runs that a program vectorizes over, as an integer of a key.

    Attributes:
        seeds: of all runs.
        run: the place of this one, integer scalar.
    """

    seeds: tuple[int, ...]
    run: tf.Tensor


_HALF = np.uint64(32)  # of NumPy: a tensor would fix TensorFlow's devices on import
_GOLDEN = 0x9E3779B97F4A7C15  # 2^64 over the golden ratio: spreads replica numbers over the key


def uniform(
    shape: Sequence[int] | tf.TensorShape | tf.Tensor, step: tf.Tensor | int, *key: int | SeedOfRun
) -> tf.Tensor:
    """Float32 uniforms strictly inside (0, 1), a pure function of `step` and the integers of `key`.

    The numbers are the midpoints `(k + 1/2) / 2^23`: neither 0 nor 1 is ever drawn, and `1 - u` is exact and has the
    same law, which antithetic estimators rely on. Replicas of a distribution strategy draw numbers of their own.

    Args:
        shape: of the result, integers or an integer tensor.
        step: integer scalar in [0, 2^31).
        key: integers that set independent streams apart.

    Returns:
        Float32 tensor of that shape.

    Example:
    >>> from rebar_tf.sampling.noise import uniform
    >>> bool((uniform([3], 7, 1, 2) == uniform([3], 7, 1, 2)).numpy().all())
    True

    Reference: the generator is Widynski 2020, "Squares: a fast counter-based RNG", arXiv:2004.06278.
    """
    size = math.prod(shape) if not tf.is_tensor(shape) else tf.reduce_prod(shape)
    index = tf.cast(tf.range(tf.cast(size, tf.int64)), tf.uint64)
    counter = index + _shift_left(tf.cast(step, tf.uint64))
    bits = _squares(counter, _key(key))
    top = tf.cast(tf.bitwise.right_shift(bits, tf.constant(41, tf.uint64)), tf.int32)  # the 23 highest bits
    return tf.reshape(tf.cast(top, tf.float32) * 2.0**-23 + 2.0**-24, shape)


def _squares(counter: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """Four rounds of squaring and swapping halves.

    64 random bits for each 64-bit counter, of which the upper are used.
    """
    y = counter * key
    z = y + key
    x = _swap_halves(y * y + y)
    x = _swap_halves(x * x + z)
    x = _swap_halves(x * x + y)
    return x * x + z


def _key(key: tuple[int | SeedOfRun, ...]) -> tf.Tensor:
    runs = next((part for part in key if isinstance(part, SeedOfRun)), None)
    if runs is not None:
        parts = [part.seeds if isinstance(part, SeedOfRun) else [part] * len(runs.seeds) for part in key]
        numbers = [_odd_number(of_run) for of_run in zip(*parts, strict=True)]
        return tf.gather(tf.constant(np.array(numbers, np.uint64)), runs.run)  # TensorFlow would round large ones
    value = tf.constant(_odd_number(key), tf.uint64)
    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return value
    number = tf.cast(replica.replica_id_in_sync_group, tf.uint64)
    return value + number * tf.constant(_GOLDEN - 1, tf.uint64)  # an even stride keeps the key odd


def _odd_number(key: Sequence[Any]) -> int:
    """64 bits of the integers of a key."""
    digest = hashlib.blake2b(repr(tuple(int(k) for k in key)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") | 1


def _shift_left(x: tf.Tensor) -> tf.Tensor:
    return tf.bitwise.left_shift(x, _HALF)


def _swap_halves(x: tf.Tensor) -> tf.Tensor:
    return tf.bitwise.bitwise_or(tf.bitwise.right_shift(x, _HALF), _shift_left(x))
