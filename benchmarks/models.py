"""The models that `benchmarks.advice` and `benchmarks.leaderboard` train."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import rebar_tf as rt
from trainers.common import build as trainer
from trainers.common.experiment import Experiment
from trainers.common.tasks import TASKS

BATCH = 24
_STEPS = 50  # of a program


def whole_programs(*parts: np.ndarray) -> list[np.ndarray]:
    """The examples of an epoch without those of a shorter program, which would be compiled by itself."""
    count = len(parts[0]) // (BATCH * _STEPS) * BATCH * _STEPS
    return [part[:count] for part in parts]


@dataclasses.dataclass(frozen=True)
class Setting:
    """A model and its data.

    Attributes:
        build: makes the compiled model, of an estimator's name and a seed.
        train: what `fit` takes.
        held_out: what `bound` takes, other examples.
        family: of the model's units.
        has_derivative: whether the objective is differentiable in the samples.
    """

    build: Callable[[str, int], rt.training.StochasticTraining]
    train: list[np.ndarray]
    held_out: list[np.ndarray]
    family: str = "bernoulli"
    has_derivative: bool = True

    def estimators(self) -> list[str]:
        """The names of those that can train it: neither those that list joint states, nor without a derivative all."""
        needs = None if self.has_derivative else False
        names = rt.estimators.names(self.family, needs_derivative=needs)
        return [name for name in names if not rt.estimators.get(name).enumerates]


def paper_network(task: str, num_layers: int, nonlinear: bool = False, **options: Any) -> Setting:
    """A network of the paper; the options are other fields of `Experiment`, on mnist_5k by default."""
    experiment = Experiment(task=task, num_layers=num_layers, nonlinear=nonlinear, **options)
    dataset = trainer.load_dataset(experiment)

    def build(estimator: str, seed: int) -> Any:
        own = dataclasses.replace(experiment, estimator=estimator, seed=seed)
        return compiled(trainer.build_network(own, dataset), own.learning_rate)

    train = TASKS[task].examples(dataset.train.astype(np.float32))
    held_out = TASKS[task].examples(dataset.valid.astype(np.float32))
    return Setting(build, list(train), list(held_out))


def categorical_autoencoder(
    codes: Sequence[tuple[int, int]], dataset: str = "mnist_5k", data_dir: str | None = None
) -> Setting:
    """Digits through layers of so many variables of so many classes, dense layers between."""
    digits = rt.datasets.load(dataset, data_dir)
    train, held_out = digits.train.astype(np.float32), digits.valid.astype(np.float32)

    def build(estimator: str, seed: int) -> Any:
        keras.utils.set_random_seed(seed)
        x = h = keras.Input((784,))
        for i, (variables, classes) in enumerate(codes):
            h = keras.layers.Dense(variables * classes)(keras.layers.Dense(200, activation="relu")(h))
            h = rt.layers.StochasticCategorical(classes, estimator, seed=seed + i)(h)
        y = keras.layers.Dense(784)(keras.layers.Dense(200, activation="relu")(h))
        return compiled(rt.StochasticModel(x, y), 1e-3, loss=pixels)

    return Setting(build, [train, train], [held_out, held_out], family="categorical")


def black_box() -> Setting:
    """Which of 24 items to take, by their values: a value of what is taken, none beyond a weight. No derivative."""
    rng = np.random.default_rng(0)
    weights = tf.constant(rng.uniform(1.0, 3.0, size=24), tf.float32)

    def regret(values: tf.Tensor, taken: tf.Tensor) -> tf.Tensor:
        taken = tf.cast(taken > 0.5, tf.float32)  # a comparison: nothing to differentiate
        fits = tf.reduce_sum(taken * weights, axis=1) <= 20.0
        return -tf.where(fits, tf.reduce_sum(values * taken, axis=1), 0.0)

    def build(estimator: str, seed: int) -> Any:
        keras.utils.set_random_seed(seed)
        x = keras.Input((24,))
        h = keras.layers.Dense(64, activation="relu")(x)
        taken = rt.layers.StochasticBinary(estimator, values=(0, 1), seed=seed)(keras.layers.Dense(24)(h))
        return compiled(rt.StochasticModel(x, taken), 1e-3, loss=regret)

    values = rng.uniform(size=(4500, 24)).astype(np.float32)
    return Setting(build, [values[:4000]] * 2, [values[4000:]] * 2, has_derivative=False)


def pixels(y: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """`[batch]` cross-entropy in nats."""
    return tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(tf.cast(y, logits.dtype), logits), axis=1)


def compiled(model: Any, learning_rate: float, **kwargs: Any) -> Any:
    """The model, in programs of several steps."""
    optimizer = rt.optimizers.Adam(learning_rate)
    model.compile(optimizer=optimizer, jit_compile=True, steps_per_execution=_STEPS, **kwargs)
    return model
