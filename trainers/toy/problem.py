"""The paper's toy problem: minimise `E[(b - t)^2]`, `b ~ Bernoulli(sigmoid(theta))`, from single samples."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import rebar_tf as rt

RECORDS = 100  # of a run, at most
_FRESH_ESTIMATES = 10_000
_MEASURING = 2**30  # added to the step: noise that no training step draws


def exact_loss(theta: np.ndarray | float, target: float) -> np.ndarray:
    """`E[(b - t)^2] = (1 - p) t^2 + p (1 - t)^2`, p = sigmoid(theta)."""
    p = probability(theta)
    return (1.0 - p) * target**2 + p * (1.0 - target) ** 2


def probability(theta: np.ndarray | float) -> np.ndarray:
    """`P(b = 1) = sigmoid(theta)`, float64."""
    return 1.0 / (1.0 + np.exp(-np.asarray(theta, np.float64)))


def optimum(target: float) -> float:
    """The loss of the better of the two values of b."""
    return min(target**2, (1.0 - target) ** 2)


class ToyModel(rt.training.StochasticTraining, keras.Model):
    """One variable, `theta` `[1]`, from 0; its inputs only say how many samples to average.

    Args:
        target: t.
        estimator: a name of `rebar_tf.estimators.names()`.
        seed: of the samples and of the estimator's initial weights.
        baseline: whether an estimator with an input-dependent baseline has it.
    """

    def __init__(self, target: float, estimator: str, seed: int, baseline: bool):
        super().__init__()
        self.target = target
        self.units = rt.layers.StochasticBinary(estimator, values=(0, 1), seed=seed)
        self.units.build((None, 1))
        self.theta = self.add_weight(shape=(1,), initializer="zeros", name="theta")
        self.built = True
        self.build_estimator(context_size=1 if baseline else None, seed=seed)

    def loss_of(self, b: tf.Tensor) -> tf.Tensor:
        """`(b - t)^2`, `[batch]`."""
        return tf.square(b - self.target)[:, 0]

    def objective(self, x: tf.Tensor, y: Any = None) -> tuple[tf.Tensor, tf.Tensor]:
        b = self.units(tf.broadcast_to(self.theta.value, [x.shape[0], 1]), training=True)
        return self.loss_of(b), b

    def estimates(self, count: int) -> tf.Tensor:
        """`[count]` independent single-sample estimates of the gradient, at noise that training does not see."""
        logits = tf.broadcast_to(self.theta.value, [count, 1])
        with tf.GradientTape() as tape:
            tape.watch(logits)
            seed = tf.cast(self.estimator.step.value, tf.int32) + _MEASURING
            # An estimator that was built without a baseline leaves its input alone.
            losses = rt.expectation(self.loss_of, logits, self.estimator, seed=seed, context=tf.zeros([count, 1]))
        return tape.gradient(losses, logits)[:, 0]


@dataclasses.dataclass
class Curve:
    """One estimator's run: one entry a record.

    Attributes:
        steps: done so far.
        theta: then.
        variance: of the single-sample estimate of the gradient then.
    """

    steps: np.ndarray
    theta: np.ndarray
    variance: np.ndarray


def train(
    estimator: str, target: float, num_steps: int, learning_rate: float, seed: int = 0, baseline: bool = True
) -> Curve:
    """Runs one estimator on the problem, one sample a step.

    The variance is measured, not tracked: at each record that of many fresh estimates at the same theta, with the
    estimator's own variables as they are. A moving average over the steps would mix the variance with the movement of
    theta, and old values with new ones. Where b = 1 (or b = 0) is rarer than one in the number of estimates, what it
    adds is missing.

    The estimator's own variables learn at the rate of theta, not at ten times it: with a single sample a step they
    would jump about their optimum, and the spikes of the gradient that this makes would carry theta away.

    Args:
        estimator: a name of `rebar_tf.estimators.names()`.
        target: t.
        num_steps: of Adam.
        learning_rate: of Adam.
        seed: of everything random.
        baseline: whether an estimator with an input-dependent baseline has it.

    Returns:
        A `Curve`: the start, and up to 100 records after it.
    """
    model = ToyModel(target, estimator, seed, baseline)
    optimizer = rt.optimizers.Adam(learning_rate, groups={})
    optimizer.build(model.trainable_variables)
    x = tf.zeros([1, 1])

    def one_step(i: tf.Tensor) -> tuple[tf.Tensor]:
        _, gradients = model.estimate_gradients(x)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return (i + 1,)

    @tf.function(autograph=False, jit_compile=True)
    def advance(count: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        tf.while_loop(lambda i: i < count, one_step, [tf.constant(0)])
        estimates = model.estimates(_FRESH_ESTIMATES)
        # From the first one: equal estimates have no variance, not one of rounding.
        return model.theta.value[0], tf.math.reduce_variance(estimates - estimates[0])

    counts = list(_record_lengths(num_steps))
    records = np.array([[float(value) for value in advance(tf.constant(count))] for count in counts])
    return Curve(steps=np.cumsum(counts), theta=records[:, 0], variance=records[:, 1])


def _record_lengths(num_steps: int) -> Iterator[int]:
    """Steps between two records, the first of them before any step."""
    yield 0
    length, left = -(-num_steps // RECORDS), num_steps
    while left:
        yield min(length, left)
        left -= min(length, left)
