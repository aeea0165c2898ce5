"""The smallest model: one vector of logits and a function of the samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rebar_tf import estimators
from rebar_tf.layers import StochasticBinary
from rebar_tf.sampling import static_or_dynamic_shape
from rebar_tf.training import StochasticTraining


def expectation_model(
    fn: Callable[[tf.Tensor], tf.Tensor],
    logits: Sequence[float] | np.ndarray,
    estimator: str | estimators.Estimator,
) -> StochasticTraining:
    """A model of one variable, `logits` `[units]`, whose objective is `fn(b)`, `b ~ Bernoulli(sigmoid(logits))`.

    Its inputs only say how many samples to average: pass any `[samples, 1]` array.
    """
    return _ExpectationModel(fn, logits, estimator)


class _ExpectationModel(StochasticTraining, keras.Model):
    def __init__(
        self,
        fn: Callable[[tf.Tensor], tf.Tensor],
        logits: Sequence[float] | np.ndarray,
        estimator: str | estimators.Estimator,
    ):
        super().__init__()
        self.fn = fn
        self.units = StochasticBinary(estimator, values=(0, 1), seed=0)
        self.units.build((None, len(logits)))
        self.logits = self.add_weight(shape=(len(logits),), initializer="zeros", name="logits")
        self.logits.assign(logits)
        self.built = True
        self.build_estimator(context_size=1)

    def objective(self, x: Any, y: Any = None) -> tuple[tf.Tensor, tf.Tensor]:
        logits = tf.broadcast_to(
            self.logits.value, [*static_or_dynamic_shape(tf.convert_to_tensor(x))[:1], *self.logits.shape]
        )
        b = self.units(logits, training=True)
        return self.fn(b), b
