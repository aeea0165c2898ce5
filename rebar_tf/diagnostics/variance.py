"""Moments of a model's gradient estimate on one batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from rebar_tf.training import StochasticTraining
from rebar_tf.training.objective import pass_scope
from rebar_tf.training.parts import map_parts


def gradient_variance(
    model: StochasticTraining,
    x: Any,
    y: Any = None,
    num_estimates: int = 1000,
    jit_compile: bool = True,
    sample_weight: Any = None,
) -> list[np.ndarray]:
    """Variance of each coordinate of the gradient estimate of a batch, for each of `model.model_variables`."""
    _, standard_error = sample_moments(model, x, y, sample_weight, num_estimates, jit_compile)
    return [np.square(error) * num_estimates for error in standard_error[:-1]]


def sample_moments(
    model: StochasticTraining, x: Any, y: Any, sample_weight: Any, num_estimates: int, jit_compile: bool
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Means of the estimates and the standard errors of those means, in float64: each variable's, and the loss's.

    All estimates start from the same state: they have fresh samples, and share the noise of other layers.
    """
    batch = [map_parts(tf.identity, data) for data in (x, y, sample_weight)]
    variables = model.model_variables

    def add_estimate(i: tf.Tensor, *sums: tf.Tensor) -> tuple[tf.Tensor, ...]:
        with pass_scope(model):
            loss, gradients = model.estimate_gradients(*batch)
        new = []
        # The model's variables come before the control variables.
        for j, part in enumerate([*gradients[: len(variables)], loss]):
            g = tf.zeros_like(sums[2 * j]) if part is None else tf.cast(part, tf.float64)
            new += [sums[2 * j] + g, sums[2 * j + 1] + tf.square(g)]
        return i + 1, *new

    @tf.function(autograph=False, jit_compile=jit_compile)
    def accumulate() -> list[tf.Tensor]:
        zeros = [tf.zeros(shape, tf.float64) for shape in (*(v.shape for v in variables), []) for _ in range(2)]
        return tf.while_loop(lambda i, *_: i < num_estimates, add_estimate, [tf.constant(0), *zeros])[1:]

    sums = [np.asarray(total) for total in accumulate()]
    means = [total / num_estimates for total in sums[::2]]
    variances = [np.maximum(q / num_estimates - m**2, 0.0) for q, m in zip(sums[1::2], means, strict=True)]
    return means, [np.sqrt(variance / (num_estimates - 1)) for variance in variances]
