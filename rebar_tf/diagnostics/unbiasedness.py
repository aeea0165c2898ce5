"""Proof that an estimator is unbiased, with a stated error rate.

The exact gradient of an expectation over few discrete units is a sum over all their states. `check_unbiased` compares
it with the mean of many estimates, coordinate by coordinate: no sum over parameters in which opposite biases could
cancel.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import keras
import numpy as np
import scipy.stats
import tensorflow as tf

from rebar_tf.diagnostics.variance import sample_moments
from rebar_tf.estimators.exact import joint_state, state_tables
from rebar_tf.sampling import ForcedSampler, HardSampler
from rebar_tf.training import StochasticTraining
from rebar_tf.training.keras_loss import refusing_coupled


@dataclasses.dataclass(frozen=True)
class BiasReport:
    """Estimated against exact gradients, one array a variable.

    Attributes:
        names: paths of the variables.
        exact: exact gradients.
        mean: means of the estimates.
        standard_error: of those means.
        num_estimates: how many estimates were averaged.
        false_alarm: probability that `unbiased` is False for an unbiased estimator, over all coordinates together.
        power: probability with which a bias of the size `detectable` is seen.
    """

    names: list[str]
    exact: list[np.ndarray]
    mean: list[np.ndarray]
    standard_error: list[np.ndarray]
    num_estimates: int
    false_alarm: float
    power: float

    @property
    def z(self) -> list[np.ndarray]:
        """z-scores of each coordinate."""
        return [(m - e) / s for m, e, s in zip(self.mean, self.exact, self._error, strict=True)]

    @property
    def _error(self) -> list[np.ndarray]:
        """The standard errors, or the rounding error where that is larger, as in an estimate without noise.

        Float32 sums over hundreds of states are good to some 1e-4 of the largest entry.
        """
        pairs = zip(self.exact, self.standard_error, strict=True)
        return [np.maximum(s, 1e-4 * (np.abs(e).max() + 1e-4)) for e, s in pairs]

    @property
    def threshold(self) -> float:
        """The largest |z| that passes: Student's t, two-sided, Bonferroni over all coordinates."""
        tail = self.false_alarm / 2 / sum(e.size for e in self.exact)
        return float(scipy.stats.t.isf(tail, self.num_estimates - 1))

    @property
    def max_abs_z(self) -> float:
        """The largest |z| of all coordinates."""
        return max(float(np.abs(z).max()) for z in self.z)

    @property
    def unbiased(self) -> bool:
        """Whether no coordinate's z-score is beyond the threshold."""
        return self.max_abs_z <= self.threshold

    @property
    def detectable(self) -> float:
        """The bias that would be seen, as a fraction of the variable's largest gradient entry; the worst variable's."""
        factor = self.threshold + scipy.stats.norm.ppf(self.power)
        pairs = zip(self.exact, self._error, strict=True)
        return max(float(factor * s.max() / max(np.abs(e).max(), 1e-12)) for e, s in pairs)

    def __str__(self) -> str:
        lines = [f"{'variable':<40} {'max |z|':>8} {'bias/scale':>10}"]
        for name, z, mean, exact in zip(self.names, self.z, self.mean, self.exact, strict=True):
            bias = np.abs(mean - exact).max() / max(np.abs(exact).max(), 1e-12)
            lines.append(f"{name:<40} {np.abs(z).max():>8.2f} {bias:>10.4f}")
        lines.append(
            f"threshold {self.threshold:.2f} (false alarms {self.false_alarm:g}), "
            f"detectable bias {self.detectable:.3f} of the largest entry (power {self.power:g})"
        )
        return "\n".join(lines)


def check_unbiased(
    model: StochasticTraining,
    x: Any,
    y: Any = None,
    num_estimates: int = 2000,
    false_alarm: float = 1e-4,
    power: float = 0.99,
    jit_compile: bool = True,
    repeats: int = 1,
) -> BiasReport:
    """Compares the mean of many gradient estimates with the exact gradient, for every coordinate of every variable.

    Args:
        model: a model with at most 4,096 joint states of its stochastic units (12 binary ones), its estimator in
            whatever state it is to be tested.
        x: a batch of inputs.
        y: targets.
        num_estimates: how many estimates to average, 2 or more. Below some hundred the threshold grows, and so does the
            bias that can be seen.
        false_alarm: probability of rejecting an unbiased estimator, over all coordinates together.
        power: see `BiasReport.detectable`.
        jit_compile: whether the estimates run under XLA.
        repeats: how often each estimate samples each example. More rows are cheaper than more estimates.

    Returns:
        A `BiasReport`.

    Raises:
        ValueError: for more than 4,096 joint states.

    Example:
    >>> import numpy as np, tensorflow as tf, rebar_tf as rt
    >>> model = rt.diagnostics.expectation_model(lambda b: tf.reduce_sum((b - 0.45) ** 2, 1), [0.3, -1.0], "rebar")
    >>> rt.diagnostics.check_unbiased(model, np.zeros([1, 1]), num_estimates=100, repeats=64).unbiased
    True
    """
    exact = exact_gradients(model, x, y)
    x, y = (None if data is None else _repeat_rows(data, repeats) for data in (x, y))
    mean, standard_error = sample_moments(model, x, y, num_estimates, jit_compile)
    names = [variable.path for variable in model.model_variables]
    return BiasReport(names, exact, mean, standard_error, num_estimates, false_alarm, power)


def exact_gradients(model: StochasticTraining, x: Any, y: Any = None) -> list[np.ndarray]:
    """Gradient of the exact expected objective, for each of `model.model_variables`, by enumeration of all states.

    The states are stacked on the batch axis: one evaluation of the objective at `states * batch` rows. The expectation
    is that of the estimator's own objective, which for a multi-sample bound is not the mean of f.
    """
    with HardSampler(step=0, training=False) as trace, refusing_coupled("Enumeration"):
        f, _ = model.objective(x, y)
    tables, batch = state_tables(trace), f.shape[0]
    number = tf.range(math.prod(table.shape[0] for table in tables))
    variables = [variable.value for variable in model.model_variables]

    def stack(data: Any) -> Any:
        return keras.tree.map_structure(lambda part: tf.repeat(part[tf.newaxis], number.shape[0], axis=0), data)

    def flat(data: Any) -> Any:
        return keras.tree.map_structure(lambda part: tf.reshape(part, [-1, *part.shape[2:]]), stack(data))

    with tf.GradientTape() as tape:
        with ForcedSampler(joint_state(tables, tf.repeat(number, batch))) as forced:
            f, _ = model.objective(flat(x), None if y is None else flat(y))
        f, log_p = (tf.reshape(tf.cast(part, tf.float32), [-1, batch]) for part in (f, forced.log_prob))
        value = tf.reduce_mean(model.estimator.exact_target(f, log_p))
    gradients = tape.gradient(value, variables, unconnected_gradients="zero")
    return [np.asarray(g, np.float64) for g in gradients]


def _repeat_rows(data: Any, repeats: int) -> Any:
    return keras.tree.map_structure(lambda part: tf.repeat(tf.convert_to_tensor(part), repeats, axis=0), data)
