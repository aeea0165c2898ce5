"""What a stochastic layer, a sampler and an estimator may ask of the law of discrete units."""

from __future__ import annotations

import abc
from typing import ClassVar

import numpy as np
import tensorflow as tf


def real_logits(logits: tf.Tensor, expected: str) -> tf.Tensor:
    """Logits as float32; ValueError for any but real numbers, or if there are no units."""
    real = logits.dtype.is_floating or logits.dtype.is_integer or logits.dtype.is_bool
    if not real or 0 in tuple(logits.shape[1:]):
        raise ValueError(
            f"`logits` must be real numbers of shape {expected}, of one unit or more. "
            f"Received: logits.shape={logits.shape}, logits.dtype={logits.dtype.name}"
        )
    return tf.cast(logits, tf.float32)


class Distribution(abc.ABC):
    """Discrete units with the given logits.

    A distribution knows how uniform noise becomes a sample (`g` and `H` of the paper), the law of the noise given the
    sample (`g~`), the coupling of the two (appendix G.2), the relaxation, and the few derivatives that REBAR needs in
    closed form. All distributions share one signature, so an estimator never asks which one it serves:

    | method                 | paper                  | value                                          |
    | ---------------------- | ---------------------- | ---------------------------------------------- |
    | `reparameterize`       | `z = g(u, theta)`      | eq. 6, and its binary case                     |
    | `threshold`            | `b = H(z)`             | 0/1, or one-hot                                |
    | `mean`, `log_prob`, `score` | `p(b)`            | `score` is `d log p(b) / d logits`             |
    | `mean_vjp`             | `dE[b]/dl`             | cotangent of the mean -> of the logits         |
    | `states`, `log_prob_of_states` |                | all joint samples of one example               |

    And, where the units are independent:

    | method                 | paper                  | value                                          |
    | ---------------------- | ---------------------- | ---------------------------------------------- |
    | `conditional`          | `z~ = g~(v, b, theta)` | appendix C                                     |
    | `couple`               | `u -> v`               | appendix G.2: `g~(couple(u)) = g(u)`           |
    | `relax`                | `sigma_lambda(z)`      | Concrete, or eq. 7                             |
    | `relaxation_vjp`       | `sigma_lambda'(z)`     | cotangent of the relaxed sample -> of `z`      |
    | `coupled_residual_vjp` | `dz/dl - dz~/dl`       | cotangent of `z` -> of the logits              |
    | `turned`, `log_prob_of_units` |                 | each unit at another value, its probability    |
    | `mixed_with_uniform`   |                        | each unit with a floor on its probabilities    |
    | `decision_logits`, `decide`, `decisions` |      | a sample as independent binary decisions       |

    An estimator's `families` are those that have what it asks for.

    Args:
        logits: `[batch, ...]` float32; `check_logits` converts and checks them. Noise, samples and cotangents have the
            same shape.
    """

    name: ClassVar[str]

    def __init__(self, logits: tf.Tensor):
        self.logits = logits

    @classmethod
    @abc.abstractmethod
    def check_logits(cls, logits: tf.Tensor) -> tf.Tensor:
        """Logits as float32; ValueError for a shape that the distribution does not take."""

    @abc.abstractmethod
    def reparameterize(self, u: tf.Tensor) -> tf.Tensor:
        """`z = g(u, theta)`, of uniform noise u."""

    @staticmethod
    @abc.abstractmethod
    def threshold(z: tf.Tensor) -> tf.Tensor:
        """`b = H(z)`, the hard sample."""

    @abc.abstractmethod
    def mean(self) -> tf.Tensor:
        """`E[b]`."""

    @abc.abstractmethod
    def mean_vjp(self, cotangent: tf.Tensor) -> tf.Tensor:
        """`cotangent^T d E[b] / d logits`."""

    @abc.abstractmethod
    def log_prob(self, b: tf.Tensor) -> tf.Tensor:
        """`log p(b)` summed over the units, `[batch]`; the same formula serves relaxed samples."""

    def sample(self, u: tf.Tensor) -> tf.Tensor:
        """The hard sample of uniform noise u, without derivative."""
        return tf.stop_gradient(self.threshold(self.reparameterize(u)))

    def mode(self) -> tf.Tensor:
        """The likeliest value of each unit."""
        return self.threshold(self.logits)

    def score(self, b: tf.Tensor) -> tf.Tensor:
        """`d log p(b) / d logits = b - E[b]`."""
        return b - self.mean()

    @abc.abstractmethod
    def num_states(self, shape: tuple[int, ...]) -> int:
        """How many joint samples units of that shape have."""

    @abc.abstractmethod
    def states(self, shape: tuple[int, ...]) -> np.ndarray:
        """All joint samples of units of that shape, `[states, *shape]` float32."""

    @abc.abstractmethod
    def log_prob_of_states(self, states: tf.Tensor) -> tf.Tensor:
        """`[batch, states]`, from `states`."""


class IndependentUnits(Distribution):
    """Units that are independent of each other given their logits."""

    @abc.abstractmethod
    def conditional(self, v: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
        """`z~ = g~(v, b, theta)`, which has the law of `z` given `b` (appendix C)."""

    @abc.abstractmethod
    def couple(self, u: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
        """The `v`, uniform and independent of `b`, with `g~(v, b, theta) = g(u, theta)` (appendix G.2)."""

    @abc.abstractmethod
    def relax(self, z: tf.Tensor, temperature: tf.Tensor, relaxation: str = "eq7") -> tf.Tensor:
        """The relaxed sample `sigma_lambda(z)`, like `z`.

        Args:
            z: the reparameterised sample.
            temperature: lambda, scalar.
            relaxation: `"concrete"`, or `"eq7"`, which tends to the mean as lambda grows.
        """

    @staticmethod
    @abc.abstractmethod
    def relaxation_vjp(cotangent: tf.Tensor, relaxed: tf.Tensor, temperature: tf.Tensor) -> tf.Tensor:
        """`cotangent^T d sigma_lambda(z) / dz`, from the value of the relaxed sample."""

    @abc.abstractmethod
    def coupled_residual_vjp(self, cotangent: tf.Tensor, z: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
        """`cotangent^T (dz/dl - dz~/dl)`, with the noise of `z~` coupled to that of `z`."""

    @abc.abstractmethod
    def mixed_with_uniform(self, weight: float) -> Distribution:
        """Each unit's law with so much of the uniform law mixed in, which keeps every value possible."""

    @abc.abstractmethod
    def log_prob_of_units(self, b: tf.Tensor) -> tf.Tensor:
        """`log p(b)` of each unit, shaped to multiply what is like the logits."""

    def log_prob_of_states(self, states: tf.Tensor) -> tf.Tensor:
        """Summed over the units."""
        of_units = self.log_prob_of_units(states[:, tf.newaxis])
        return tf.transpose(tf.reduce_sum(of_units, axis=list(range(2, of_units.shape.rank))))

    @staticmethod
    @abc.abstractmethod
    def turned(b: tf.Tensor, turns: tf.Tensor | int) -> tf.Tensor:
        """Each unit at the value that comes so many after its own, in a circle."""

    @staticmethod
    @abc.abstractmethod
    def num_values(shape: tuple[int, ...]) -> int:
        """How many values each unit of that shape has."""

    @abc.abstractmethod
    def decision_logits(self) -> tf.Tensor:
        """Logits of the independent binary decisions, `[batch, ..., decisions]`, that `decide` makes a sample of."""

    @staticmethod
    @abc.abstractmethod
    def decide(decisions: tf.Tensor) -> tf.Tensor:
        """The sample of decisions in {0, 1}."""

    @staticmethod
    @abc.abstractmethod
    def decisions(b: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The decisions behind a sample, 0 for those that it does not depend on; and 1 for those that it does."""


def independent(distribution: Distribution) -> IndependentUnits:
    """The distribution, if its units are independent; TypeError otherwise."""
    if not isinstance(distribution, IndependentUnits):
        raise TypeError(f"Expected independent units. Received: {distribution.name} units")
    return distribution
