"""The control-variate scales of least variance, to hold the learned ones against."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rebar_tf.sampling import scaled_gradients, scaled_losses
from rebar_tf.training import StochasticTraining
from rebar_tf.training.objective import BatchObjective
from rebar_tf.training.step import optimizer_scale


def optimal_scales(
    model: StochasticTraining, x: Any, y: Any = None, num_estimates: int = 1000, jit_compile: bool = True
) -> list[float]:
    """The scale of least variance for each of `model.model_variables`: a diagnostic beside the learned eta.

    The estimate is `g = f + eta h` with E[h] = 0, so its variance, summed over the entries of a variable, is a
    parabola in eta with its minimum at

        eta = -sum Cov(f, h) / sum Var(h).

    The paper writes `f - eta g` and has the other sign. The optimum can lie outside of (0, 2), which the learned eta
    cannot leave, and it is that of the present weights, temperature and baseline. The estimator's step counter stays
    as it is: its next `num_estimates` steps are the sample.

    Args:
        model: a model whose estimator has a control variate.
        x: a batch of inputs.
        y: targets.
        num_estimates: how many estimates to take the moments from.
        jit_compile: whether the estimates run under XLA.

    Returns:
        One number a variable; nan for a variable that the control variate does not reach.

    Raises:
        ValueError: for an estimator without a scaled control variate.

    Example:
    >>> import numpy as np, tensorflow as tf, rebar_tf as rt
    >>> model = rt.diagnostics.expectation_model(lambda b: tf.reduce_sum((b - 0.45) ** 2, 1), [0.3, -1.0], "rebar")
    >>> (eta,) = rt.diagnostics.optimal_scales(model, np.zeros([64, 1]))
    >>> 0.0 < eta < 2.0
    True

    Reference: Tucker et al. 2017, appendix A.
    """
    x = keras.tree.map_structure(tf.convert_to_tensor, x)
    values = [variable.value for variable in model.model_variables]
    start = tf.identity(model.estimator.step.value)

    def parts(step: tf.Tensor) -> list[list[tf.Tensor]]:
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(values)
            estimate = model.estimator.estimate(BatchObjective(model, x, y), step, model.baseline_context(x, y))
            losses = [estimate.plain_loss(), estimate.variate_loss()]
            if losses[1] is None:
                raise ValueError(
                    "`model` must have an estimator with a scaled control variate, such as rebar or relax. Received: "
                    f"{model.estimator.estimator_name}"
                )
            losses = [tf.reduce_mean(loss) for loss in losses]
        return [in_float64(scaled_gradients(tape, loss, values)) for loss in losses]

    def in_float64(gradients: list[tf.Tensor | None]) -> list[tf.Tensor]:
        dense = [tf.zeros(v.shape) if g is None else g for g, v in zip(gradients, values, strict=True)]
        return [tf.cast(tf.convert_to_tensor(g), tf.float64) for g in dense]

    def add_estimate(i: tf.Tensor, *sums: tf.Tensor) -> tuple[tf.Tensor, ...]:
        new = []
        for j, (f, h) in enumerate(zip(*parts(start + i + 1), strict=True)):
            new += [total + term for total, term in zip(sums[4 * j : 4 * j + 4], (f, h, f * h, h * h), strict=True)]
        return i + 1, *new

    @tf.function(autograph=False, jit_compile=jit_compile)
    def accumulate() -> list[tf.Tensor]:
        zeros = [tf.zeros(value.shape, tf.float64) for value in values for _ in range(4)]
        return tf.while_loop(lambda i, *_: i < num_estimates, add_estimate, [tf.constant(0, tf.int64), *zeros])[1:]

    with scaled_losses(optimizer_scale(model)):
        means = [np.asarray(total) / num_estimates for total in accumulate()]
    scales = []
    for f, h, fh, hh in zip(*(means[i::4] for i in range(4)), strict=True):
        variance = np.sum(hh - h * h)
        scales.append(float(-np.sum(fh - f * h) / variance) if variance > 0.0 else math.nan)
    return scales
