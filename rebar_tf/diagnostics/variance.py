"""Moments of a model's gradient estimate on one batch."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rebar_tf.training import StochasticTraining


def gradient_variance(
    model: StochasticTraining, x: Any, y: Any = None, num_estimates: int = 1000, jit_compile: bool = True
) -> list[np.ndarray]:
    """Variance of each coordinate of the gradient estimate of a batch, for each of `model.model_variables`."""
    _, standard_error = sample_moments(model, x, y, num_estimates, jit_compile)
    return [np.square(error) * num_estimates for error in standard_error]


def sample_moments(
    model: StochasticTraining, x: Any, y: Any, num_estimates: int, jit_compile: bool
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Means of the estimates and the standard errors of those means, in float64."""
    x = keras.tree.map_structure(tf.convert_to_tensor, x)
    count = len(model.model_variables)

    def add_estimate(i: tf.Tensor, *sums: tf.Tensor) -> tuple[tf.Tensor, ...]:
        gradients = model.estimate_gradients(x, y)[1]
        new = []
        for j, g in enumerate(gradients[:count]):  # the model's variables come before the control variables
            g = tf.zeros_like(sums[2 * j]) if g is None else tf.cast(g, tf.float64)
            new += [sums[2 * j] + g, sums[2 * j + 1] + tf.square(g)]
        return i + 1, *new

    @tf.function(jit_compile=jit_compile)
    def accumulate() -> list[tf.Tensor]:
        zeros = [tf.zeros(v.shape, tf.float64) for v in model.model_variables for _ in range(2)]
        return tf.while_loop(lambda i, *_: i < num_estimates, add_estimate, [tf.constant(0), *zeros])[1:]

    sums = [np.asarray(total) for total in accumulate()]
    means = [sums[2 * j] / num_estimates for j in range(count)]
    variances = [np.maximum(sums[2 * j + 1] / num_estimates - means[j] ** 2, 0.0) for j in range(count)]
    return means, [np.sqrt(variance / (num_estimates - 1)) for variance in variances]
