"""Proof that an estimator is unbiased, with a stated error rate.

The exact gradient of an expectation over few binary units is a sum over all their states. `check_unbiased` compares it
with the mean of many estimates, coordinate by coordinate: no sum over parameters in which opposite biases could cancel.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import scipy.stats
import tensorflow as tf

from rebar_tf import estimators
from rebar_tf.layers.stochastic import StochasticBinary
from rebar_tf.models.training import StochasticTraining
from rebar_tf.sampling import ForcedSampler, HardSampler

_MAX_UNITS = 12


@dataclasses.dataclass(frozen=True)
class BiasReport:
    """Estimated against exact gradients, one array a variable.

    Attributes:
        names: paths of the variables.
        exact: exact gradients.
        mean: means of the estimates.
        standard_error: of those means.
        false_alarm: probability that `unbiased` is False for an unbiased estimator, over all coordinates together.
        power: probability with which a bias of the size `detectable` is seen.
    """

    names: list[str]
    exact: list[np.ndarray]
    mean: list[np.ndarray]
    standard_error: list[np.ndarray]
    false_alarm: float
    power: float

    @property
    def z(self) -> list[np.ndarray]:
        """z-scores of each coordinate."""
        # Where the estimate is exact (a coordinate without noise) what is left is float32 rounding, not statistics.
        rounding = [1e-6 * (np.abs(e).max() + 1e-6) for e in self.exact]
        errors = zip(self.mean, self.exact, self.standard_error, rounding, strict=True)
        return [(m - e) / np.maximum(s, r) for m, e, s, r in errors]

    @property
    def threshold(self) -> float:
        """The largest |z| that passes: two-sided, Bonferroni over all coordinates."""
        return float(scipy.stats.norm.isf(self.false_alarm / 2 / sum(e.size for e in self.exact)))

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
        pairs = zip(self.exact, self.standard_error, strict=True)
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
) -> BiasReport:
    """Compares the mean of many gradient estimates with the exact gradient, for every coordinate of every variable.

    Args:
        model: a model with at most 12 stochastic binary units in all, its estimator in whatever state it is to be
            tested.
        x: a batch of inputs. Repeat rows to make each estimate the mean of several.
        y: targets.
        num_estimates: how many estimates to average.
        false_alarm: probability of rejecting an unbiased estimator, over all coordinates together.
        power: see `BiasReport.detectable`.
        jit_compile: whether the estimates run under XLA.

    Returns:
        A `BiasReport`.

    Raises:
        ValueError: for more than 12 stochastic units.

    Example:
    >>> import numpy as np, tensorflow as tf, rebar_tf as rt
    >>> model = rt.testing.expectation_model(lambda b: tf.reduce_sum((b - 0.45) ** 2, 1), [0.3, -1.0], "rebar")
    >>> rt.testing.check_unbiased(model, np.zeros([64, 1]), num_estimates=100).unbiased
    True
    """
    exact = exact_gradients(model, x, y)
    mean, standard_error = _sample_moments(model, x, y, num_estimates, jit_compile)
    names = [variable.path for variable in model.model_variables]
    return BiasReport(names, exact, mean, standard_error, false_alarm, power)


def exact_gradients(model: StochasticTraining, x: Any, y: Any = None) -> list[np.ndarray]:
    """Gradient of the exact expected objective, for each of `model.model_variables`, by enumeration of all states."""
    with HardSampler(step=0) as trace:
        model.objective(x, y)
    shapes = [site.logits.shape[1:] for site in trace]
    sizes = [shape.num_elements() for shape in shapes]
    if sum(sizes) > _MAX_UNITS:
        raise ValueError(f"Enumeration takes at most {_MAX_UNITS} stochastic units. Received: {sum(sizes)}")
    variables = [variable.value for variable in model.model_variables]

    @tf.function
    def term(state: tf.Tensor) -> list[tf.Tensor]:
        parts = [tf.reshape(part, shape) for part, shape in zip(tf.split(state, sizes), shapes, strict=True)]
        with tf.GradientTape() as tape:
            with ForcedSampler(lambda i, logits: tf.zeros_like(logits) + parts[i]) as forced:
                f, _ = model.objective(x, y)
            value = tf.reduce_mean(tf.exp(forced.log_prob) * f)
        gradients = tape.gradient(value, variables, unconnected_gradients="zero")
        return [tf.cast(g, tf.float64) for g in gradients]

    states = itertools.product([0.0, 1.0], repeat=sum(sizes))
    terms = [term(tf.constant(state, tf.float32)) for state in states]
    return [np.sum(np.stack(parts), axis=0) for parts in zip(*terms, strict=True)]


def gradient_variance(model: StochasticTraining, x: Any, y: Any = None, num_estimates: int = 1000) -> list[np.ndarray]:
    """Variance of each coordinate of the gradient estimate of a batch, for each of `model.model_variables`."""
    _, standard_error = _sample_moments(model, x, y, num_estimates, jit_compile=True)
    return [np.square(error) * num_estimates for error in standard_error]


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
        self.logits = self.add_weight(shape=(len(logits),), initializer="zeros", name="logits")
        self.logits.assign(logits)
        self.built = True
        self.build_estimator(context_size=1)

    def objective(self, x: Any, y: Any = None) -> tuple[tf.Tensor, tf.Tensor]:
        logits = tf.repeat(self.logits.value[tf.newaxis], tf.shape(x)[0], axis=0)
        b = self.units(logits, training=True)
        return self.fn(b), b


def _sample_moments(
    model: StochasticTraining, x: Any, y: Any, num_estimates: int, jit_compile: bool
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Means of the estimates and the standard errors of those means, in float64."""
    x = keras.tree.map_structure(tf.convert_to_tensor, x)
    count = len(model.model_variables)

    def add_estimate(i: tf.Tensor, *sums: tf.Tensor) -> tuple[tf.Tensor, ...]:
        gradients = model.estimate_gradients(x, y)[1]
        by_id = {id(v): g for v, g in zip(model.trainable_variables, gradients, strict=True)}
        new = []
        for j, variable in enumerate(model.model_variables):
            g = by_id[id(variable)]
            g = tf.zeros(variable.shape, tf.float64) if g is None else tf.cast(g, tf.float64)
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
