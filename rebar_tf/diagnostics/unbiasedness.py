"""Proof that an estimator is unbiased, with a stated error rate.

The exact gradient of an expectation over few discrete units is a sum over all their states. `check_unbiased` compares
it with the mean of many estimates, coordinate by coordinate: no sum over parameters in which opposite biases could
cancel.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from rebar_tf.diagnostics.enumeration import check_repeatable, exact_loss_and_gradients
from rebar_tf.diagnostics.variance import sample_moments
from rebar_tf.tables import data_frame, html_table
from rebar_tf.training import StochasticTraining
from rebar_tf.training.parts import map_parts

if TYPE_CHECKING:
    import pandas as pd

LOSS = "loss"  # beside the paths of the variables


@dataclasses.dataclass(frozen=True)
class BiasReport:
    """Estimated against exact gradients, one array a variable, and the loss.

    Attributes:
        names: paths of the variables, and "loss" for the loss that is reported, the last entry.
        exact: exact gradients, and the exact loss.
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

        Float32 sums over hundreds of states are good to some 1e-4 of a variable's largest entry; and where that is 0,
        as of a bias that is normalised away, to 1e-6 of what all entries are.
        """
        size = [float(np.abs(e).max()) for e in self.exact]
        of_all = max((each for each, name in zip(size, self.names, strict=True) if name != LOSS), default=0.0)
        pairs = zip(size, self.standard_error, strict=True)
        return [np.maximum(s, 1e-4 * (largest + 0.01 * of_all + 1e-8)) for largest, s in pairs]

    @property
    def threshold(self) -> float:
        """The largest `|z|` that passes: Student's t, two-sided, Bonferroni over all coordinates."""
        import scipy.stats  # here, as it takes a second to load

        tail = self.false_alarm / 2 / sum(e.size for e in self.exact)
        return float(scipy.stats.t.isf(tail, self.num_estimates - 1))

    @property
    def max_abs_z(self) -> float:
        """The largest `|z|` of all coordinates."""
        return float(np.max([np.abs(z).max() for z in self.z]))  # NaN, which passes no threshold, if one is

    @property
    def unbiased(self) -> bool:
        """Whether no coordinate's z-score is beyond the threshold."""
        return self.max_abs_z <= self.threshold

    @property
    def detectable(self) -> float:
        """The bias that would be seen, as a fraction of the variable's largest gradient entry; the worst variable's.

        Of variables that have a gradient; NaN if none has.
        """
        import scipy.stats

        factor = self.threshold + scipy.stats.norm.ppf(self.power)
        parts = zip(self.names, self.exact, self._error, strict=True)
        found = [factor * s.max() / np.abs(e).max() for name, e, s in parts if name != LOSS and np.abs(e).max() > 0.0]
        return float(np.max(found)) if found else math.nan

    @property
    def rows(self) -> list[dict[str, Any]]:
        """For each variable, and the loss: `variable`, `max_abs_z`, and `bias`, in parts of its largest entry."""
        parts = zip(self.names, self.z, self.mean, self.exact, strict=True)
        return [
            {
                "variable": name,
                "max_abs_z": float(np.abs(z).max()),
                "bias": float(np.abs(mean - exact).max() / max(np.abs(exact).max(), 1e-12)),
            }
            for name, z, mean, exact in parts
        ]

    @property
    def verdict(self) -> str:
        """What the numbers are to be compared with."""
        return (
            f"threshold {self.threshold:.2f} (false alarms {self.false_alarm:g}), "
            f"detectable bias {self.detectable:.3f} of the largest entry (power {self.power:g})"
        )

    def to_pandas(self) -> pd.DataFrame:
        """`rows` as a data frame; ImportError where pandas is not installed."""
        return data_frame(self.rows, "variable")

    def __str__(self) -> str:
        lines = [f"{'variable':<40} {'max |z|':>8} {'bias/scale':>10}"]
        lines += [f"{row['variable']:<40} {row['max_abs_z']:>8.2f} {row['bias']:>10.4f}" for row in self.rows]
        return "\n".join([*lines, self.verdict])

    def _repr_html_(self) -> str:
        return html_table(("variable", "max_abs_z", "bias"), self.rows, self.verdict)


def check_unbiased(
    model: StochasticTraining,
    x: Any,
    y: Any = None,
    num_estimates: int = 2000,
    false_alarm: float = 1e-4,
    power: float = 0.99,
    jit_compile: bool = True,
    repeats: int = 1,
    sample_weight: Any = None,
) -> BiasReport:
    """Compares the mean of many gradient estimates with the exact gradient, for every coordinate of every variable.

    The exact gradient of a compiled model is that of the loss which Keras's `fit` would minimise, its own
    `compute_loss`, at all samples of the stochastic units. The loss that the estimates report is compared with its
    exact mean, too. Other noise, such as dropout, is the same throughout; the model's state stays as it is, but for the
    estimator's step counter.

    Args:
        model: a model with at most 4,096 joint states of the stochastic units of an example (12 binary ones), its
            estimator in whatever state it is to be tested. If the loss mixes the examples of a batch, as batch
            normalisation behind a stochastic layer does, of all units of the batch.
        x: a batch of inputs.
        y: targets.
        num_estimates: how many estimates to average, 2 or more. Below some hundred the threshold grows, and so does the
            bias that can be seen.
        false_alarm: probability of rejecting an unbiased estimator, over all coordinates together.
        power: see `BiasReport.detectable`.
        jit_compile: whether the estimates run under XLA.
        repeats: how often each estimate samples each example. More rows are cheaper than more estimates. For a loss
            that is a mean over the examples only.
        sample_weight: as passed to `fit`.

    Returns:
        A `BiasReport`.

    Raises:
        ValueError: for more than 4,096 joint states; for a batch that is mixed where the model overrides `objective` or
            the estimator has a bound for its objective; and for `repeats` of a loss that is not a mean.

    Example:
    >>> import numpy as np, tensorflow as tf, rebar_tf as rt
    >>> model = rt.diagnostics.expectation_model(lambda b: tf.reduce_sum((b - 0.45) ** 2, 1), [0.3, -1.0], "rebar")
    >>> rt.diagnostics.check_unbiased(model, np.zeros([1, 1]), num_estimates=100, repeats=64).unbiased
    True
    """
    loss, gradients = exact_loss_and_gradients(model, x, y, sample_weight)
    if repeats > 1:
        once = x, y, sample_weight
        x, y, sample_weight = (map_parts(lambda part: tf.repeat(part, repeats, axis=0), data) for data in once)
        check_repeatable(model, once, (x, y, sample_weight), repeats)
    mean, standard_error = sample_moments(model, x, y, sample_weight, num_estimates, jit_compile)
    names = [*(variable.path for variable in model.model_variables), LOSS]
    exact = [*gradients, np.array(loss)]
    return BiasReport(names, exact, mean, standard_error, num_estimates, false_alarm, power)
