"""The two families of discrete units: Bernoulli (logistic noise) and one-hot categorical (Gumbel noise).

A family knows how uniform noise becomes a sample (`g` and `H` of the paper), the law of the noise given the sample
(`g~`), the coupling of the two (appendix G.2), the relaxation, and the few derivatives that REBAR needs in closed form.
Everything is computed in float32 and in log-space, whatever the dtype of the logits.

Both families share one signature, so an estimator never asks which one it serves:

| method                 | paper                | value                                            |
| ---------------------- | -------------------- | ------------------------------------------------ |
| `reparameterize`       | `z = g(u, theta)`    | eq. 6, and its binary case                       |
| `threshold`            | `b = H(z)`           | 0/1, or one-hot                                  |
| `conditional`          | `z~ = g~(v, b, theta)` | appendix C                                     |
| `couple`               | `u -> v`             | appendix G.2: `g~(couple(u)) = g(u)`             |
| `relax`                | `sigma_lambda(z)`    | Concrete, or eq. 7                               |
| `relaxation_vjp`       | `sigma_lambda'(z)`   | cotangent of the relaxed sample -> of `z`        |
| `coupled_residual_vjp` | `dz/dl - dz~/dl`     | cotangent of `z` -> of the logits                |
| `mean`, `log_prob`, `score` | `p(b)`          | `score` is `d log p(b) / d logits`               |
| `mean_vjp`             | `dE[b]/dl`           | cotangent of the mean -> of the logits           |
| `states`               |                      | all joint samples of one example                 |
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf

RELAXATIONS = ("eq7", "concrete")

_SMALLEST = 2.0**-126  # smallest normal float32
_BELOW_ONE = 1.0 - 2.0**-24  # largest float32 below 1


def logit(u: tf.Tensor) -> tf.Tensor:
    """`log(u / (1 - u))`, finite inside (0, 1), with an absolute error of float32's 6e-8 and some more in the tails.

    The quotient first: two logarithms cost twice as much, and under XLA draw their noise twice.
    """
    return tf.math.log(u / (1.0 - u))


def _log_expm1(a: tf.Tensor) -> tf.Tensor:
    """`log(exp(a) - 1)` for a >= 0, finite up to the largest float32."""
    return a + tf.math.log(-tf.math.expm1(-a))


def _open_interval(v: tf.Tensor) -> tf.Tensor:
    """Rounding may put a uniform number on 0 or 1, where its logarithms are infinite: move it just inside."""
    return tf.clip_by_value(v, _SMALLEST, _BELOW_ONE)


def _blend_logits(z: tf.Tensor, logits: tf.Tensor, temperature: tf.Tensor, relaxation: str) -> tf.Tensor:
    """The argument of the relaxed sample's sigmoid or softmax.

    Concrete: `z / lambda`. Eq. 7 adds `logits * lambda / (lambda + 1)`, which is its factor
    `(lambda^2 + lambda + 1) / (lambda + 1)` on the logit less the 1 that `z` already holds.
    """
    if relaxation == "concrete":
        return z / temperature
    return z / temperature + logits * (temperature / (temperature + 1.0))


def check_relaxation(relaxation: str) -> str:
    """Returns `relaxation`, or raises ValueError naming the accepted ones."""
    if relaxation not in RELAXATIONS:
        raise ValueError(f"`relaxation` must be one of {', '.join(RELAXATIONS)}. Received: relaxation={relaxation!r}")
    return relaxation


class Bernoulli:
    """Independent binary units `b ~ Bernoulli(sigmoid(logits))`, samples in {0, 1}.

    Logits have shape `[batch, units]` (or any `[batch, ...]`); noise, samples and cotangents have the same shape.

    Example:
    >>> import tensorflow as tf
    >>> from rebar_tf.reparameterization import Bernoulli
    >>> z = Bernoulli.reparameterize(tf.constant([[0.9, 0.2]]), logits=tf.zeros([1, 2]))
    >>> Bernoulli.threshold(z).numpy().tolist()
    [[1.0, 0.0]]

    Reference: Tucker et al. 2017, appendix C.
    """

    name = "bernoulli"

    @staticmethod
    def check_logits(logits: tf.Tensor) -> tf.Tensor:
        """Logits as float32; ValueError unless they are `[batch, units]` or `[batch, ..., units]`."""
        if logits.shape.rank is None or logits.shape.rank < 2:
            raise ValueError(f"`logits` must have shape [batch, units]. Received: logits.shape={logits.shape}")
        return tf.cast(logits, tf.float32)

    @staticmethod
    def reparameterize(u: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """`z = g(u, theta) = l + log u - log(1 - u)`."""
        return logits + logit(u)

    @staticmethod
    def threshold(z: tf.Tensor) -> tf.Tensor:
        """`b = H(z) = 1[z > 0]`."""
        return tf.cast(z > 0.0, tf.float32)

    @staticmethod
    def conditional(v: tf.Tensor, b: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """`z~ = g~(v, b, theta)`, which has the law of `z` given `b` (appendix C)."""
        # log(v/(1-v) / (1-theta) + 1) = softplus(logit v + softplus l); for b = 0 the same with -l, mirrored.
        sign = 2.0 * b - 1.0
        return sign * tf.nn.softplus(logit(v) + tf.nn.softplus(sign * logits))

    @staticmethod
    def couple(u: tf.Tensor, b: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """The `v`, uniform and independent of `b`, with `g~(v, b, theta) = g(u, theta)` (appendix G.2).

        It is the place of `u` in `[u', 1]` if `b = 1`, and of `1 - u` in `[1 - u', 1]` if `b = 0`, with
        `u' = 1 - theta`; written in logit space, where it keeps its precision for every logit.
        """
        z = Bernoulli.reparameterize(u, logits)
        sign = 2.0 * b - 1.0
        return _open_interval(tf.sigmoid(_log_expm1(tf.abs(z)) - tf.nn.softplus(sign * logits)))

    @staticmethod
    def relax(z: tf.Tensor, logits: tf.Tensor, temperature: tf.Tensor, relaxation: str = "eq7") -> tf.Tensor:
        """The relaxed sample in (0, 1): `sigmoid(z / lambda)` (Concrete), or eq. 7."""
        return tf.sigmoid(_blend_logits(z, logits, temperature, relaxation))

    @staticmethod
    def relaxation_vjp(cotangent: tf.Tensor, relaxed: tf.Tensor, temperature: tf.Tensor) -> tf.Tensor:
        """`cotangent * d sigma_lambda(z) / dz`, from the value of the relaxed sample."""
        return cotangent * relaxed * (1.0 - relaxed) / temperature

    @staticmethod
    def coupled_residual_vjp(cotangent: tf.Tensor, z: tf.Tensor, b: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """`cotangent * (dz/dl - dz~/dl)`, with the noise of `z~` coupled to that of `z`.

        `dz/dl = 1`. Differentiating `g~` with `v` held fixed and writing `v` as a function of `z` leaves
        `1 - dz~/dl = (1 - p(b)) + p(b) exp(-|z|)`: no division and no overflow for any logit or noise.
        """
        p = tf.sigmoid((2.0 * b - 1.0) * logits)
        return cotangent * ((1.0 - p) + p * tf.exp(-tf.abs(z)))

    @staticmethod
    def mean(logits: tf.Tensor) -> tf.Tensor:
        """`E[b] = sigmoid(logits)`."""
        return tf.sigmoid(logits)

    @staticmethod
    def mean_vjp(cotangent: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """`cotangent * d E[b] / d logits`."""
        theta = tf.sigmoid(logits)
        return cotangent * theta * (1.0 - theta)

    @staticmethod
    def mode(logits: tf.Tensor) -> tf.Tensor:
        """The likelier value of each unit; 0 at probability one half."""
        return Bernoulli.threshold(logits)

    @staticmethod
    def log_prob(b: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """`log p(b)` summed over the units, `[batch]`; the same formula serves relaxed samples."""
        if logits.shape[1:] != b.shape[1:]:  # the sum over units is of all of them, also where the logits are shared
            logits += tf.zeros_like(b)
        return sum_units(b * logits) - sum_softplus(logits)

    @staticmethod
    def score(b: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """`d log p(b) / d logits = b - theta`."""
        return b - tf.sigmoid(logits)

    @staticmethod
    def num_states(shape: tuple[int, ...]) -> int:
        """How many joint samples units of that shape have."""
        return 2 ** math.prod(shape)

    @staticmethod
    def states(shape: tuple[int, ...]) -> np.ndarray:
        """All joint samples of units of that shape, `[2^units, *shape]` float32."""
        units = math.prod(shape)
        bits = np.arange(Bernoulli.num_states(shape))[:, None] >> np.arange(units) & 1
        return bits.astype(np.float32).reshape(-1, *shape)


class Categorical:
    """Independent one-hot units with class probabilities `softmax(logits)` over the last axis.

    Logits have shape `[batch, classes]` or `[batch, variables, classes]`; noise, samples and cotangents likewise.

    Example:
    >>> import tensorflow as tf
    >>> from rebar_tf.reparameterization import Categorical
    >>> z = Categorical.reparameterize(tf.constant([[0.3, 0.9, 0.5]]), logits=tf.zeros([1, 3]))
    >>> Categorical.threshold(z).numpy().tolist()
    [[0.0, 1.0, 0.0]]

    Reference: Tucker et al. 2017, appendix C.
    """

    name = "categorical"

    @staticmethod
    def check_logits(logits: tf.Tensor) -> tf.Tensor:
        """Logits as float32; ValueError unless `[batch, classes]` or `[batch, ..., classes]` with 2 classes or more."""
        if logits.shape.rank is None or logits.shape.rank < 2 or (logits.shape[-1] or 2) < 2:
            raise ValueError(
                "`logits` must have shape [batch, classes] or [batch, variables, classes] with at least 2 classes. "
                f"Received: logits.shape={logits.shape}"
            )
        return tf.cast(logits, tf.float32)

    @staticmethod
    def reparameterize(u: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """`z_i = log p_i - log(-log u_i)` (eq. 6)."""
        return tf.nn.log_softmax(logits) - tf.math.log(-tf.math.log(u))

    @staticmethod
    def threshold(z: tf.Tensor) -> tf.Tensor:
        """`b = H(z)`: one-hot of the largest entry."""
        return tf.one_hot(tf.argmax(z, axis=-1), z.shape[-1], dtype=tf.float32)

    @staticmethod
    def conditional(v: tf.Tensor, b: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """`z~ = g~(v, b, p)`: the drawn class a Gumbel at 0, the others Gumbels truncated at it (appendix C)."""
        exponential = -tf.math.log(v)
        top = tf.reduce_sum(b * exponential, axis=-1, keepdims=True)
        # exp(-z~_i) = -log(v_i) / p_i - log(v_k), summed in log-space so that a tiny p_i does not overflow.
        others = -logaddexp(tf.math.log(exponential) - tf.nn.log_softmax(logits), tf.math.log(top))
        return b * -tf.math.log(top) + (1.0 - b) * others

    @staticmethod
    def couple(u: tf.Tensor, b: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """The `v` with `g~(v, b, p) = g(u, p)`: `v_k = exp(-e_k)`, `v_i = exp(-p_i (e_i - e_k))`, `e = exp(-z)`."""
        z = Categorical.reparameterize(u, logits)
        log_p = tf.nn.log_softmax(logits)
        top = tf.reduce_sum(b * z, axis=-1, keepdims=True)
        # p_i (e_i - e_k) = p_i e_i (1 - exp(z_i - z_k)), in log-space.
        others = tf.exp(log_p - z) * -tf.math.expm1(tf.minimum(z - top, 0.0))
        return _open_interval(tf.exp(-(b * tf.exp(-top) + (1.0 - b) * others)))

    @staticmethod
    def relax(z: tf.Tensor, logits: tf.Tensor, temperature: tf.Tensor, relaxation: str = "eq7") -> tf.Tensor:
        """The relaxed sample in the simplex: `softmax(z / lambda)`, or its counterpart of eq. 7.

        As lambda grows the latter tends to the mean `p`, as in the binary case.
        """
        return tf.nn.softmax(_blend_logits(z, tf.nn.log_softmax(logits), temperature, relaxation))

    @staticmethod
    def relaxation_vjp(cotangent: tf.Tensor, relaxed: tf.Tensor, temperature: tf.Tensor) -> tf.Tensor:
        """`cotangent^T d sigma_lambda(z) / dz`, from the value of the relaxed sample."""
        weighted = cotangent * relaxed
        return (weighted - relaxed * tf.reduce_sum(weighted, axis=-1, keepdims=True)) / temperature

    @staticmethod
    def coupled_residual_vjp(cotangent: tf.Tensor, z: tf.Tensor, b: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """`cotangent^T (dz/dl - dz~/dl)`, with the noise of `z~` coupled to that of `z`.

        With respect to `log p` the difference is diagonal: `exp(z_i - z_k)`, 1 for the drawn class k. The rest is the
        derivative of the log-softmax.
        """
        top = tf.reduce_sum(b * z, axis=-1, keepdims=True)
        to_log_p = cotangent * tf.exp(tf.minimum(z - top, 0.0))
        return to_log_p - tf.nn.softmax(logits) * tf.reduce_sum(to_log_p, axis=-1, keepdims=True)

    @staticmethod
    def mean(logits: tf.Tensor) -> tf.Tensor:
        """`E[b] = softmax(logits)`."""
        return tf.nn.softmax(logits)

    @staticmethod
    def mean_vjp(cotangent: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """`cotangent^T d E[b] / d logits`."""
        p = tf.nn.softmax(logits)
        weighted = cotangent * p
        return weighted - p * tf.reduce_sum(weighted, axis=-1, keepdims=True)

    @staticmethod
    def mode(logits: tf.Tensor) -> tf.Tensor:
        """One-hot of the likeliest class."""
        return Categorical.threshold(logits)

    @staticmethod
    def log_prob(b: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """`log p(b)` summed over the variables, `[batch]`; the same formula serves relaxed samples."""
        return sum_units(b * tf.nn.log_softmax(logits))

    @staticmethod
    def score(b: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """`d log p(b) / d logits = b - p`."""
        return b - tf.nn.softmax(logits)

    @staticmethod
    def num_states(shape: tuple[int, ...]) -> int:
        """How many joint samples variables of that shape have, the last axis being the classes."""
        return shape[-1] ** math.prod(shape[:-1])

    @staticmethod
    def states(shape: tuple[int, ...]) -> np.ndarray:
        """All joint one-hot samples, `[classes^variables, *shape]` float32; the last axis of `shape` is the classes."""
        classes, variables = shape[-1], math.prod(shape[:-1])
        digits = np.arange(Categorical.num_states(shape))[:, None] // classes ** np.arange(variables) % classes
        return np.eye(classes, dtype=np.float32)[digits].reshape(-1, *shape)


def logaddexp(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """`log(exp(a) + exp(b))`."""
    return tf.maximum(a, b) + tf.nn.softplus(-tf.abs(a - b))


def sum_units(values: tf.Tensor) -> tf.Tensor:
    """Sum over every axis but the batch's: `[batch, ...] -> [batch]`."""
    return tf.reduce_sum(_fold_halves(_flat_units(values), tf.add), axis=1)


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
    return tf.reshape(values, [tf.shape(values)[0], math.prod(values.shape[1:])])


def _fold_halves(values: tf.Tensor, combine: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]) -> tf.Tensor:
    """Combines the halves of the units up to four times, while they are even in number: `[batch, units / 16]`.

    Halves are combined many units at a time, where a sum over the last axis goes one by one.
    """
    for _ in range(4):
        units = values.shape[1]
        if units % 2:
            break
        values = combine(values[:, : units // 2], values[:, units // 2 :])
    return values


def per_unit(values: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """`[batch]` values shaped to multiply `[batch, ...]` ones, example by example."""
    if values.shape.rank != 1:
        raise ValueError(f"Expected one value an example, shape [batch]. Received: shape {values.shape}")
    return tf.reshape(values, [-1] + [1] * (like.shape.rank - 1))
