"""One-hot units with Gumbel noise."""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf

from rebar_tf.distributions.base import IndependentUnits, real_logits
from rebar_tf.distributions.math import keep_nan, logaddexp, open_interval, sum_units
from rebar_tf.distributions.relaxation import relaxed_logits


def class_tree(classes: int) -> tuple[np.ndarray, np.ndarray]:
    """A balanced binary tree over the classes, as two tables `[classes - 1, classes]` in {0, 1}.

    Each row is a node, which splits a range of classes in halves: the first table has the lower half, the second the
    upper one.
    """
    nodes, ranges = [], [(0, classes)]
    for first, end in ranges:  # which grows
        if end - first > 1:
            middle = (first + end) // 2
            nodes.append((first, middle, end))
            ranges += [(first, middle), (middle, end)]
    places = np.arange(classes)
    lower = [(first <= places) & (places < middle) for first, middle, _ in nodes]
    upper = [(middle <= places) & (places < end) for _, middle, end in nodes]
    return np.array(lower, np.float32), np.array(upper, np.float32)


class Categorical(IndependentUnits):
    """Independent one-hot units with class probabilities `softmax(logits)` over the last axis.

    Logits have shape `[batch, classes]` or `[batch, variables, classes]`; noise, samples and cotangents likewise.

    Example:
    >>> import tensorflow as tf
    >>> from rebar_tf.distributions import Categorical
    >>> Categorical(logits=tf.zeros([1, 3])).sample(tf.constant([[0.3, 0.9, 0.5]])).numpy().tolist()
    [[0.0, 1.0, 0.0]]

    Reference: Tucker et al. 2017, appendix C.
    """

    name = "categorical"

    @classmethod
    def check_logits(cls, logits: tf.Tensor) -> tf.Tensor:
        """Logits as float32; ValueError unless `[batch, classes]` or `[batch, ..., classes]` with 2 classes or more."""
        if logits.shape.rank is None or logits.shape.rank < 2 or (logits.shape[-1] or 2) < 2:
            raise ValueError(
                "`logits` must have shape [batch, classes] or [batch, variables, classes] with at least 2 classes. "
                f"Received: logits.shape={logits.shape}"
            )
        return real_logits(logits, "[batch, ..., classes]")

    def reparameterize(self, u: tf.Tensor) -> tf.Tensor:
        """`z_i = log p_i - log(-log u_i)` (eq. 6)."""
        return tf.nn.log_softmax(self.logits) - tf.math.log(-tf.math.log(u))

    @staticmethod
    def threshold(z: tf.Tensor) -> tf.Tensor:
        """`b = H(z)`: one-hot of the largest entry; NaN where z is NaN."""
        return keep_nan(tf.one_hot(tf.argmax(z, axis=-1), z.shape[-1], dtype=tf.float32), z)

    def conditional(self, v: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
        """`z~ = g~(v, b, p)`: the drawn class a Gumbel at 0, the others Gumbels truncated at it (appendix C)."""
        exponential = -tf.math.log(v)
        top = tf.reduce_sum(b * exponential, axis=-1, keepdims=True)
        # exp(-z~_i) = -log(v_i) / p_i - log(v_k), summed in log-space so that a tiny p_i does not overflow.
        others = -logaddexp(tf.math.log(exponential) - tf.nn.log_softmax(self.logits), tf.math.log(top))
        return b * -tf.math.log(top) + (1.0 - b) * others

    def couple(self, u: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
        """The `v` with `g~(v, b, p) = g(u, p)`: `v_k = exp(-e_k)`, `v_i = exp(-p_i (e_i - e_k))`, `e = exp(-z)`."""
        z = self.reparameterize(u)
        log_p = tf.nn.log_softmax(self.logits)
        top = tf.reduce_sum(b * z, axis=-1, keepdims=True)
        # p_i (e_i - e_k) = p_i e_i (1 - exp(z_i - z_k)), in log-space.
        others = tf.exp(log_p - z) * -tf.math.expm1(tf.minimum(z - top, 0.0))
        return open_interval(tf.exp(-(b * tf.exp(-top) + (1.0 - b) * others)))

    def relax(self, z: tf.Tensor, temperature: tf.Tensor, relaxation: str = "eq7") -> tf.Tensor:
        """The relaxed sample in the simplex: `softmax(z / lambda)`, or its counterpart of eq. 7.

        As lambda grows the latter tends to the mean `p`, as in the binary case.
        """
        return tf.nn.softmax(relaxed_logits(z, tf.nn.log_softmax(self.logits), temperature, relaxation))

    @staticmethod
    def relaxation_vjp(cotangent: tf.Tensor, relaxed: tf.Tensor, temperature: tf.Tensor) -> tf.Tensor:
        """`cotangent^T d sigma_lambda(z) / dz`, from the value of the relaxed sample."""
        weighted = cotangent * relaxed
        return (weighted - relaxed * tf.reduce_sum(weighted, axis=-1, keepdims=True)) / temperature

    def coupled_residual_vjp(self, cotangent: tf.Tensor, z: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
        """`cotangent^T (dz/dl - dz~/dl)`, with the noise of `z~` coupled to that of `z`.

        With respect to `log p` the difference is diagonal: `exp(z_i - z_k)`, 1 for the drawn class k. The rest is the
        derivative of the log-softmax.
        """
        top = tf.reduce_sum(b * z, axis=-1, keepdims=True)
        to_log_p = cotangent * tf.exp(tf.minimum(z - top, 0.0))
        return to_log_p - tf.nn.softmax(self.logits) * tf.reduce_sum(to_log_p, axis=-1, keepdims=True)

    def mean(self) -> tf.Tensor:
        """`E[b] = softmax(logits)`."""
        return tf.nn.softmax(self.logits)

    def mean_vjp(self, cotangent: tf.Tensor) -> tf.Tensor:
        """`cotangent^T d E[b] / d logits`."""
        p = tf.nn.softmax(self.logits)
        weighted = cotangent * p
        return weighted - p * tf.reduce_sum(weighted, axis=-1, keepdims=True)

    def mixed_with_uniform(self, weight: float) -> Categorical:
        """`(1 - w) p + w / K` of each of the K classes."""
        uniform = tf.constant(math.log(weight / self.logits.shape[-1]))
        return Categorical(logaddexp(math.log1p(-weight) + tf.nn.log_softmax(self.logits), uniform))

    def log_prob(self, b: tf.Tensor) -> tf.Tensor:
        """`log p(b)` summed over the variables, `[batch]`; the same formula serves relaxed samples."""
        return sum_units(b * tf.nn.log_softmax(self.logits))

    def log_prob_of_units(self, b: tf.Tensor) -> tf.Tensor:
        """`[..., 1]`: the log-probability of the drawn class."""
        return tf.reduce_sum(b * tf.nn.log_softmax(self.logits), axis=-1, keepdims=True)

    @staticmethod
    def turned(b: tf.Tensor, turns: tf.Tensor | int) -> tf.Tensor:
        """The class so many places after the drawn one."""
        return tf.roll(b, turns, axis=-1)

    @staticmethod
    def num_values(shape: tuple[int, ...]) -> int:
        """The number of classes."""
        return shape[-1]

    def decision_logits(self) -> tf.Tensor:
        """`[..., classes - 1]`: at each node of `class_tree` the log-odds of its upper classes to its lower ones."""
        lower, upper = (
            tf.reduce_logsumexp(self.logits[..., tf.newaxis, :] + np.where(half, 0.0, -np.inf), axis=-1)
            for half in class_tree(self.logits.shape[-1])
        )
        return upper - lower

    @staticmethod
    def decide(decisions: tf.Tensor) -> tf.Tensor:
        """The class at the end of the path."""
        lower, upper = class_tree(decisions.shape[-1] + 1)
        followed = decisions @ upper + (1.0 - decisions) @ lower
        return tf.cast(followed > np.sum(lower + upper, axis=0) - 0.5, tf.float32)

    @staticmethod
    def decisions(b: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Those on the path to the drawn class."""
        lower, upper = class_tree(b.shape[-1])
        return b @ upper.T, b @ (lower + upper).T

    @staticmethod
    def num_states(shape: tuple[int, ...]) -> int:
        """How many joint samples variables of that shape have, the last axis being the classes."""
        return shape[-1] ** math.prod(shape[:-1])

    @classmethod
    def states(cls, shape: tuple[int, ...]) -> np.ndarray:
        """All joint one-hot samples, `[classes^variables, *shape]` float32; the last axis of `shape` is the classes."""
        classes, variables = shape[-1], math.prod(shape[:-1])
        digits = np.arange(cls.num_states(shape))[:, None] // classes ** np.arange(variables) % classes
        return np.eye(classes, dtype=np.float32)[digits].reshape(-1, *shape)
