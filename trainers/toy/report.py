"""What `trainers.toy` prints and writes: a table, curve.csv, curve.png, summary.json."""

from __future__ import annotations

import csv
import math
import pathlib
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from rebar_tf import estimators
from trainers.common.methods import label
from trainers.common.plot import curve_style, label_steps, new_figure
from trainers.toy.problem import Curve, exact_loss, optimum, probability

HEADER = f"{'method':<24}{'theta':>9}{'P(b=1)':>9}{'loss':>11}{'optimum':>11}{'log variance':>14}  reached"
_COLUMNS = ("estimator", "step", "theta", "probability", "loss", "log_variance")
# A run has reached the optimum where the worse value of b is drawn less often than this.
_REACHED = 0.05
_LAST = 4  # the log variance in the table is over the last quarter of the records

_ROUNDING = -35.0  # a log variance below is that of float32 rounding of the objective


def result(curve: Curve, target: float) -> dict[str, Any]:
    """The numbers of one estimator's run.

    Returns:
        `theta`, `probability` of b = 1 and exact `loss` at the end; `log_variance`, the log of the mean variance over
        the last quarter of the records; `reached`, whether the worse value of b is drawn less often than one time
        in twenty.
    """
    theta = float(curve.theta[-1])
    p = float(probability(theta))
    worse = 0.0 if target == 0.5 else p if target < 0.5 else 1.0 - p
    last = curve.variance[-max(len(curve.variance) // _LAST, 1) :]
    return {
        "theta": theta,
        "probability": p,
        "loss": float(exact_loss(theta, target)),
        "log_variance": _log(float(np.mean(last))),
        "reached": worse < _REACHED,
    }


def line(name: str, row: dict[str, Any], target: float) -> str:
    """One estimator's line of the table."""
    return (
        f"{name:<24}{row['theta']:>9.3f}{row['probability']:>9.4f}{row['loss']:>11.6f}{optimum(target):>11.6f}"
        f"{row['log_variance']:>14.2f}  {'yes' if row['reached'] else 'no'}"
    )


def summary(flags: dict[str, Any], results: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What summary.json holds: `target`, `optimum`, `steps`, the results by estimator, and the flags."""
    # JSON has no word for the infinite log of no variance, nor for what diverged.
    finite = {
        name: {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in row.items()}
        for name, row in results.items()
    }
    target = flags["target"]
    return {
        "target": target,
        "optimum": optimum(target),
        "steps": flags["num_steps"],
        "estimators": finite,
        "flags": flags,
    }


def write_csv(path: pathlib.Path, curves: dict[str, Curve], target: float) -> None:
    """Writes every record of every estimator; the log of a variance of 0 is -inf."""
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        for name, curve in curves.items():
            for step, theta, variance in zip(curve.steps, curve.theta, curve.variance, strict=True):
                row = (name, step, theta, probability(theta), exact_loss(theta, target), _log(variance))
                writer.writerow(row)


def write_plot(path: pathlib.Path, curves: dict[str, Curve], target: float) -> None:
    """Draws loss and log variance over the steps, a column for each kind of estimator."""
    kinds = _by_kind(curves)
    figure = new_figure(4.6 * max(len(kinds), 2), 8.0)
    axes = figure.subplots(2, len(kinds), sharex=True, sharey="row", squeeze=False)
    figure.suptitle(rf"Minimising $E[(b-{target:g})^2]$, $b\sim$ Bernoulli(sigmoid($\theta$)), one sample a step")
    for (title, names), (above, below) in zip(kinds.items(), axes.T, strict=True):
        _draw(above, below, {name: curves[name] for name in names}, target)
        above.set_title(title, fontsize=11)
        below.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, fontsize=9, handlelength=3)
    axes[0, 0].set_ylabel("exact expected loss (grey: the optimum)")
    axes[1, 0].set_ylabel("log variance of the gradient estimate")
    axes[1, 0].set_ylim(bottom=max(axes[1, 0].get_ylim()[0], _ROUNDING))
    figure.savefig(path, dpi=130)


def _by_kind(curves: dict[str, Curve]) -> dict[str, list[str]]:
    """The names of the estimators, those of a kind together."""
    kinds: dict[str, list[str]] = {"unbiased, $f$ a black box": [], "unbiased, with $df/db$": [], "biased": []}
    for name in curves:
        estimator = estimators.get(name)
        place = 2 if not estimator.unbiased else 1 if estimator.needs_derivative else 0
        kinds[list(kinds)[place]].append(name)
    return {title: names for title, names in kinds.items() if names}


def _draw(above: Axes, below: Axes, curves: dict[str, Curve], target: float) -> None:
    above.axhline(optimum(target), color="0.75", linewidth=5.0, zorder=0)
    for i, (name, curve) in enumerate(curves.items()):
        # Markers at other places than those of other curves.
        style = {**curve_style(i), "markersize": 6, "markevery": (3 * i % 25, 25)}
        above.plot(curve.steps, exact_loss(curve.theta, target), **style)
        log_variance = np.array([_log(variance) for variance in curve.variance])
        text = label(name) if np.isfinite(log_variance).any() else f"{label(name)} (no variance)"
        below.plot(curve.steps, np.where(np.isfinite(log_variance), log_variance, np.nan), label=text, **style)
    above.grid(color="0.9", linewidth=0.6)
    label_steps(below)


def _log(value: float) -> float:
    """Natural logarithm; -inf of 0."""
    return math.log(value) if value > 0 else -math.inf if value == 0 else math.nan
