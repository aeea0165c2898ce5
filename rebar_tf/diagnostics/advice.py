"""Which estimator to take, from what was measured of each."""

from __future__ import annotations

import dataclasses
import math
import os
from typing import TYPE_CHECKING, Any

from rebar_tf.tables import data_frame, html_table

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = (
    "estimator",
    "unbiased",
    "variance",
    "microseconds",
    "megabytes",
    "cost",
    "cost_error",
    "bias",
    "bias_error",
)
_NO_NOISE = 1e-6  # of the next one's cost: that of an estimator without noise is rounding
_ALIKE = 2.0  # standard errors within which two costs are not told apart


@dataclasses.dataclass(frozen=True)
class Measured:
    """One estimator on the model.

    Attributes:
        estimator: its name.
        unbiased: as its class says.
        reason: why it does not serve the model; None if it does, and what follows is measured.
        variance: of the gradient, the mean over all entries of all weights.
        variance_error: its standard error.
        microseconds: of a step without the optimizer of the weights.
        microseconds_error: its standard error.
        megabytes: of memory that an estimate works in, beside the weights, the data and the gradient.
        parts: variance by weight.
        bias: distance of its mean from that of the unbiased ones, in parts of the latter's length; 0 where the noise is
            larger.
        bias_error: what noise alone would give.
    """

    estimator: str
    unbiased: bool
    reason: str | None = None
    variance: float = math.nan
    variance_error: float = math.nan
    microseconds: float = math.nan
    microseconds_error: float = math.nan
    megabytes: float = math.nan
    parts: dict[str, float] = dataclasses.field(default_factory=dict)
    bias: float = math.nan
    bias_error: float = math.nan

    @property
    def cost(self) -> float:
        """Variance times seconds: at equal time, the noise that is left. The lower the better."""
        return self.variance * self.microseconds * 1e-6

    @property
    def cost_error(self) -> float:
        """The standard error of the cost."""
        if not self.variance > 0.0:
            return 0.0
        return self.cost * math.hypot(self.variance_error / self.variance, self.microseconds_error / self.microseconds)


@dataclasses.dataclass(frozen=True)
class Advice:
    """What `compare` found.

    Attributes:
        measured: each estimator that was asked for.
    """

    measured: list[Measured]

    @property
    def ranked(self) -> list[Measured]:
        """The unbiased estimators that serve the model, the least cost first."""
        return self._by_cost(unbiased=True)

    def _by_cost(self, unbiased: bool) -> list[Measured]:
        """Those that serve the model, the least cost first."""
        found = [each for each in self.measured if each.unbiased == unbiased and each.reason is None]
        return sorted(found, key=lambda each: each.cost)

    @property
    def best(self) -> list[str]:
        """The names of those that cannot be told from the best one."""
        if not self.ranked:
            return []
        first = self.ranked[0]
        return [each.estimator for each in self.ranked if _alike(first, each)]

    @property
    def sentence(self) -> str:
        """What to take, and why."""
        if not self.ranked:
            return "No unbiased estimator serves this model."
        first, names = self.ranked[0], self.best
        rest = [each for each in self.ranked if each.estimator not in names]
        taken = (
            f"Take {first.estimator}" if len(names) == 1 else f"Take one of {', '.join(names)}, which are alike here"
        )
        why = f": variance times seconds is {first.cost:.3g} +- {first.cost_error:.1g}"
        after = "."
        if rest and first.cost < _NO_NOISE * rest[0].cost:
            after = f", next to nothing beside {rest[0].cost:.3g} with {rest[0].estimator}, the next."
        elif rest:
            after = f", {rest[0].cost / first.cost:.2g} times that with {rest[0].estimator}, the next."
        return taken + why + after

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A row for each estimator that was measured, the unbiased ones first, the least cost first."""
        found = [*self.ranked, *self._by_cost(unbiased=False)]
        return [{name: getattr(each, name) for name in _COLUMNS} for each in found]

    @property
    def left_out(self) -> dict[str, str]:
        """Why the others do not serve the model."""
        return {each.estimator: each.reason for each in self.measured if each.reason is not None}

    def to_pandas(self) -> pd.DataFrame:
        """`rows` as a data frame; ImportError where pandas is not installed."""
        return data_frame(self.rows, "estimator")

    def plot(self, path: str | os.PathLike) -> None:
        """Writes a picture: variance against time a step, and the line of the least cost.

        Raises:
            ImportError: where matplotlib is not installed, which the extra `trainers` brings.
        """
        from rebar_tf.extras import needs_extra

        with needs_extra("trainers", "Advice.plot"):
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure
        figure = Figure(figsize=(6.4, 4.8), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        for row in self.rows:
            axes.plot(row["microseconds"], row["variance"], "o" if row["unbiased"] else "x", color="C0")
            axes.annotate(
                row["estimator"], (row["microseconds"], row["variance"]), xytext=(4, 4), textcoords="offset points"
            )
        if self.ranked:
            times = sorted(row["microseconds"] for row in self.rows)
            line = [self.ranked[0].cost / time * 1e6 for time in (times[0], times[-1])]
            axes.plot((times[0], times[-1]), line, color="0.6", linewidth=1, label="as good as the best")
            axes.legend(frameon=False)
        axes.set(
            xscale="log", yscale="log", xlabel="microseconds a step", ylabel="variance of the gradient (x: biased)"
        )
        figure.savefig(path)

    def __str__(self) -> str:
        lines = [f"{'estimator':<24}{'variance':>11}{'us a step':>11}{'MB':>9}{'variance x s':>22}{'bias':>18}"]
        for row in self.rows:
            cost, bias = (
                f"{row['cost']:.3g} +- {row['cost_error']:.1g}",
                f"{row['bias']:.3f} +- {row['bias_error']:.3f}",
            )
            numbers = f"{row['variance']:>11.3g}{row['microseconds']:>11.0f}{row['megabytes']:>9.3g}{cost:>22}"
            lines.append(f"{row['estimator']:<24}{numbers}{'' if row['unbiased'] else bias:>18}")
        lines += [f"{name:<24}left out: {reason}" for name, reason in self.left_out.items()]
        return "\n".join([*lines, self.sentence])

    def _repr_html_(self) -> str:
        return html_table(_COLUMNS, self.rows, self.sentence)


def _alike(first: Measured, other: Measured) -> bool:
    return other.cost - first.cost <= _ALIKE * math.hypot(first.cost_error, other.cost_error)
