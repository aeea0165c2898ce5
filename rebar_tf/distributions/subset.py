"""Subsets of a given size."""

from __future__ import annotations

import itertools
import math

import numpy as np
import tensorflow as tf

from rebar_tf.distributions.base import Distribution, real_logits
from rebar_tf.distributions.math import keep_nan, sum_units

_NEVER = -1e30  # for log 0, whose sums and derivatives are finite


class Subset(Distribution):
    """k of the n units of the last axis: `p(b) = exp(l b) / e_k(exp l)` for b in {0, 1}^n with `sum b = k`.

    `e_k`, the k-th elementary symmetric polynomial, is the sum of `exp(l b)` over all subsets. It and the samples come
    from a balanced tree over the units: upwards the polynomials of the halves are multiplied, downwards the units to
    be drawn are divided among the halves.

    Args:
        logits: `[batch, ..., n]` float32.
        size: k, from 1 to n.

    Example:
    >>> import tensorflow as tf
    >>> from rebar_tf.distributions import Subset
    >>> Subset(tf.zeros([1, 4]), size=2).mean().numpy().tolist()
    [[0.5, 0.5, 0.5, 0.5]]

    Reference: Ahmed et al. 2023, "SIMPLE: A gradient estimator for k-subset sampling", with their exact marginals and
    samples; as a tree they take log n steps.
    """

    name = "subset"

    def __init__(self, logits: tf.Tensor, size: int):
        super().__init__(logits)
        self.size = size

    @classmethod
    def check_logits(cls, logits: tf.Tensor) -> tf.Tensor:
        """Logits as float32; ValueError unless `[batch, ..., units]`, with a fixed number of units."""
        if logits.shape.rank is None or logits.shape.rank < 2 or logits.shape[-1] is None:
            raise ValueError(f"`logits` must have shape [batch, units]. Received: logits.shape={logits.shape}")
        return real_logits(logits, "[batch, units]")

    def reparameterize(self, u: tf.Tensor) -> tf.Tensor:
        """The sample itself, of one uniform number for each node of the tree."""
        units = self.logits.shape[-1]
        counts = tf.fill(tf.concat([tf.shape(self.logits)[:-1], [1]], axis=0), self.size)
        tables = self._tables()[1]
        width = 2 ** len(tables)
        for table in reversed(tables):  # [..., nodes, units of the node, units of its lower half]
            middles = width // 2 + width * np.arange(table.shape[-3])  # where each node is divided, and its noise
            noise = tf.gather(u, np.where(middles < units, middles, 0), axis=-1)
            of_count = tf.gather(table, counts, batch_dims=counts.shape.rank)
            lower = inverse_cdf(of_count, noise)
            counts = interleave(lower, counts - lower)
            width //= 2
        return keep_nan(tf.cast(counts[..., :units], tf.float32), self.logits + u)

    @staticmethod
    def threshold(z: tf.Tensor) -> tf.Tensor:
        """The sample, which `reparameterize` has drawn."""
        return z

    def mode(self) -> tf.Tensor:
        """The k units of the largest logits."""
        places = tf.math.top_k(self.logits, self.size).indices
        return keep_nan(tf.reduce_sum(tf.one_hot(places, self.logits.shape[-1]), axis=-2), self.logits)

    def log_normalizer(self) -> tf.Tensor:
        """`log e_k(exp l)`, `[batch, ...]`."""
        return self._tables()[0][..., 0, self.size]

    def mean(self) -> tf.Tensor:
        """`E[b] = d log e_k / dl`: the probability of each unit to be among the k."""
        with tf.GradientTape() as tape:
            tape.watch(self.logits)
            normalizer = self.log_normalizer()
        return tape.gradient(normalizer, self.logits)

    def mean_vjp(self, cotangent: tf.Tensor) -> tf.Tensor:
        """`cotangent^T d E[b] / d logits`."""
        with tf.GradientTape() as tape:
            tape.watch(self.logits)
            mean = self.mean()
        return tape.gradient(mean, self.logits, output_gradients=cotangent, unconnected_gradients="zero")

    def log_prob(self, b: tf.Tensor) -> tf.Tensor:
        """`log p(b)` of all subsets of an example together, `[batch]`."""
        return sum_units(b * self.logits) - sum_units(self.log_normalizer()[..., tf.newaxis])

    def log_prob_of_states(self, states: tf.Tensor) -> tf.Tensor:
        """`[batch, states]`."""
        chosen = tf.reduce_sum(states * self.logits[:, tf.newaxis], axis=list(range(2, states.shape.rank + 1)))
        return chosen - sum_units(self.log_normalizer()[..., tf.newaxis])[:, tf.newaxis]

    def num_states(self, shape: tuple[int, ...]) -> int:
        """How many joint subsets units of that shape have."""
        return math.comb(shape[-1], self.size) ** math.prod(shape[:-1])

    def states(self, shape: tuple[int, ...]) -> np.ndarray:
        """All joint subsets, `[states, *shape]` float32."""
        rows = list(itertools.combinations(range(shape[-1]), self.size))
        single = np.zeros((len(rows), shape[-1]), np.float32)
        np.put_along_axis(single, np.array(rows), 1.0, axis=1)
        joint = itertools.product(single, repeat=math.prod(shape[:-1]))
        return np.array([np.reshape(state, shape) for state in joint], np.float32)

    def _tables(self) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """The polynomial of all units, `[batch, ..., 1, k + 1]` logarithms; and the terms of each level's products.

        Those of a node are a table: `[i + j, i]` the term of i units of the lower half and j of the upper one.
        """
        units = self.logits.shape[-1]
        missing = 2 ** math.ceil(math.log2(units)) - units if units > 1 else 0
        padded = tf.pad(self.logits, [(0, 0)] * (self.logits.shape.rank - 1) + [(0, missing)], constant_values=_NEVER)
        polynomials = tf.stack([tf.zeros_like(padded), padded], axis=-1)
        tables: list[tf.Tensor] = []
        while polynomials.shape[-2] > 1:
            tables.append(products(polynomials[..., 0::2, :], polynomials[..., 1::2, :], self.size))
            polynomials = tf.reduce_logsumexp(tables[-1], axis=-1)
        return polynomials, tables


def products(lower: tf.Tensor, upper: tf.Tensor, highest: int) -> tf.Tensor:
    """`[..., i + j, i]`: `lower[..., i] + upper[..., j]` for all sums `i + j` up to `highest`, log 0 elsewhere."""
    degree = lower.shape[-1] - 1
    sums, firsts = np.meshgrid(range(min(2 * degree, highest) + 1), range(degree + 1), indexing="ij")
    exists = (sums >= firsts) & (sums - firsts <= degree)
    seconds = tf.gather(upper, np.where(exists, sums - firsts, 0), axis=-1)
    return tf.where(exists, lower[..., tf.newaxis, :] + seconds, _NEVER)


def inverse_cdf(log_weights: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
    """Draws a place of the last axis, in proportion to the weights, with one uniform number for each: int32."""
    total = tf.cumsum(tf.nn.softmax(log_weights), axis=-1)
    passed = total / total[..., -1:] <= u[..., tf.newaxis]  # never the last of positive weight: the quotient is 1 there
    return tf.reduce_sum(tf.cast(passed, tf.int32), axis=-1)


def interleave(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """`[..., m]` and `[..., m]` to `[..., 2 m]`, in turn."""
    shape = tf.concat([tf.shape(first)[:-1], [2 * first.shape[-1]]], axis=0)
    return tf.reshape(tf.stack([first, second], axis=-1), shape)
