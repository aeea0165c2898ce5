"""Binary units with logistic noise."""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf

from rebar_tf.distributions.base import IndependentUnits, real_logits
from rebar_tf.distributions.math import keep_nan, log_expm1, logaddexp, logit, open_interval, sum_softplus, sum_units
from rebar_tf.distributions.relaxation import relaxed_logits


class Bernoulli(IndependentUnits):
    """Independent binary units `b ~ Bernoulli(sigmoid(logits))`, samples in {0, 1}.

    Logits have shape `[batch, units]` (or any `[batch, ...]`); noise, samples and cotangents have the same shape.

    Example:
    >>> import tensorflow as tf
    >>> from rebar_tf.distributions import Bernoulli
    >>> Bernoulli(logits=tf.zeros([1, 2])).sample(tf.constant([[0.9, 0.2]])).numpy().tolist()
    [[1.0, 0.0]]

    Reference: Tucker et al. 2017, appendix C.
    """

    name = "bernoulli"

    @classmethod
    def check_logits(cls, logits: tf.Tensor) -> tf.Tensor:
        """Logits as float32; ValueError unless they are `[batch, units]` or `[batch, ..., units]`."""
        if logits.shape.rank is None or logits.shape.rank < 2:
            raise ValueError(f"`logits` must have shape [batch, units]. Received: logits.shape={logits.shape}")
        return real_logits(logits, "[batch, units]")

    def reparameterize(self, u: tf.Tensor) -> tf.Tensor:
        """`z = g(u, theta) = l + log u - log(1 - u)`."""
        return self.logits + logit(u)

    @staticmethod
    def threshold(z: tf.Tensor) -> tf.Tensor:
        """`b = H(z) = 1[z > 0]`; NaN for NaN."""
        return keep_nan(tf.cast(z > 0.0, tf.float32), z)

    def conditional(self, v: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
        """`z~ = g~(v, b, theta)`, which has the law of `z` given `b` (appendix C)."""
        # log(v/(1-v) / (1-theta) + 1) = softplus(logit v + softplus l); for b = 0 the same with -l, mirrored.
        sign = 2.0 * b - 1.0
        return sign * tf.nn.softplus(logit(v) + tf.nn.softplus(sign * self.logits))

    def couple(self, u: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
        """The `v`, uniform and independent of `b`, with `g~(v, b, theta) = g(u, theta)` (appendix G.2).

        It is the place of `u` in `[u', 1]` if `b = 1`, and of `1 - u` in `[1 - u', 1]` if `b = 0`, with
        `u' = 1 - theta`; written in logit space, where it keeps its precision for every logit.
        """
        z = self.reparameterize(u)
        sign = 2.0 * b - 1.0
        return open_interval(tf.sigmoid(log_expm1(tf.abs(z)) - tf.nn.softplus(sign * self.logits)))

    def relax(self, z: tf.Tensor, temperature: tf.Tensor, relaxation: str = "eq7") -> tf.Tensor:
        """The relaxed sample in (0, 1): `sigmoid(z / lambda)` (Concrete), or eq. 7."""
        return tf.sigmoid(relaxed_logits(z, self.logits, temperature, relaxation))

    @staticmethod
    def relaxation_vjp(cotangent: tf.Tensor, relaxed: tf.Tensor, temperature: tf.Tensor) -> tf.Tensor:
        """`cotangent * d sigma_lambda(z) / dz`, from the value of the relaxed sample."""
        return cotangent * relaxed * (1.0 - relaxed) / temperature

    def coupled_residual_vjp(self, cotangent: tf.Tensor, z: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
        """`cotangent * (dz/dl - dz~/dl)`, with the noise of `z~` coupled to that of `z`.

        `dz/dl = 1`. Differentiating `g~` with `v` held fixed and writing `v` as a function of `z` leaves
        `1 - dz~/dl = (1 - p(b)) + p(b) exp(-|z|)`: no division and no overflow for any logit or noise.
        """
        p = tf.sigmoid((2.0 * b - 1.0) * self.logits)
        return cotangent * ((1.0 - p) + p * tf.exp(-tf.abs(z)))

    def mean(self) -> tf.Tensor:
        """`E[b] = sigmoid(logits)`."""
        return tf.sigmoid(self.logits)

    def mean_vjp(self, cotangent: tf.Tensor) -> tf.Tensor:
        """`cotangent * d E[b] / d logits`."""
        theta = tf.sigmoid(self.logits)
        return cotangent * theta * (1.0 - theta)

    def mixed_with_uniform(self, weight: float) -> Bernoulli:
        """`(1 - w) p + w / 2` of both values."""
        log_values = [
            logaddexp(math.log1p(-weight) + tf.math.log_sigmoid(sign * self.logits), tf.constant(math.log(weight / 2)))
            for sign in (1.0, -1.0)
        ]
        return Bernoulli(log_values[0] - log_values[1])

    def log_prob(self, b: tf.Tensor) -> tf.Tensor:
        """`log p(b)` summed over the units, `[batch]`; the same formula serves relaxed samples."""
        logits = self.logits
        if logits.shape[1:] != b.shape[1:]:  # the sum over units is of all of them, also where the logits are shared
            logits += tf.zeros_like(b)
        return sum_units(b * logits) - sum_softplus(logits)

    def log_prob_of_units(self, b: tf.Tensor) -> tf.Tensor:
        """`b l - log(1 + exp l)`."""
        return b * self.logits - tf.nn.softplus(self.logits)

    @staticmethod
    def turned(b: tf.Tensor, turns: tf.Tensor | int) -> tf.Tensor:
        """`b` or `1 - b`."""
        return tf.math.floormod(b + tf.cast(turns, tf.float32), 2.0)

    @staticmethod
    def num_values(shape: tuple[int, ...]) -> int:
        """2."""
        return 2

    def decision_logits(self) -> tf.Tensor:
        """The logits: each unit is a decision."""
        return self.logits

    @staticmethod
    def decide(decisions: tf.Tensor) -> tf.Tensor:
        """The decisions themselves."""
        return decisions

    @staticmethod
    def decisions(b: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The sample itself, which depends on all."""
        return b, tf.ones_like(b)

    @staticmethod
    def num_states(shape: tuple[int, ...]) -> int:
        """How many joint samples units of that shape have."""
        return 2 ** math.prod(shape)

    @classmethod
    def states(cls, shape: tuple[int, ...]) -> np.ndarray:
        """All joint samples of units of that shape, `[2^units, *shape]` float32."""
        units = math.prod(shape)
        bits = np.arange(cls.num_states(shape))[:, None] >> np.arange(units) & 1
        return bits.astype(np.float32).reshape(-1, *shape)
