"""Draws figures App.1 to App.5 of the paper, and the same for other data, from the curves that a report keeps."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trainers.common.errors import BadInput
from trainers.common.methods import label
from trainers.common.plot import COLOURS, label_steps, new_figure, save
from trainers.report.curves import Curve
from trainers.report.tables import METHODS, MODEL_TITLES, NOT_RUN
from trainers.sweep.settings import MODELS

VARIANCE_LABEL = "log variance of the gradient estimate"
BOUND_LABEL = "training bound"
_TEST_LABEL = "test bound"
_EARLY = 0.05  # of the steps: bounds before are far below the rest, and are left out of the vertical range

Panel = tuple[str, str, str]  # dataset, task, model


class Trial(NamedTuple):
    """A line of a figure: the values at these steps, and whether the run has finished."""

    steps: np.ndarray
    values: np.ndarray
    finished: bool


Trials = dict[str, list[Trial]]  # by method


@dataclasses.dataclass(frozen=True)
class Plot:
    """What a figure shows.

    Attributes:
        name: of its files.
        title: above it.
        kind: "variance" or "bound".
        panels: from left to right.
    """

    name: str
    title: str
    kind: str
    panels: tuple[Panel, ...]

    @property
    def caption(self) -> str:
        """Title and quantity."""
        return f"{self.title}: {VARIANCE_LABEL if self.kind == 'variance' else BOUND_LABEL}"


def _all_models(dataset: str, task: str) -> tuple[Panel, ...]:
    return tuple((dataset, task, model) for model in MODELS)


_ONE_LAYER = (("mnist_larochelle", "generative", "linear1"), ("mnist_larochelle", "structured", "linear1"))
_OMNIGLOT = _all_models("omniglot_burda", "generative")
PAPER = (
    Plot("app1", "Figure App.1", "variance", _ONE_LAYER),
    Plot("app2", "Figure App.2", "bound", _ONE_LAYER),
    Plot("app3", "Figure App.3", "variance", _OMNIGLOT),
    Plot("app4", "Figure App.4", "bound", _OMNIGLOT),
)
APP5 = "app5"
APP5_CAPTION = "Figure App.5: test bound with the network of the training, and with one fitted apart"


def others(bounds: list[Curve], variances: list[Curve]) -> Iterator[Plot]:
    """Figures of what else was run, with a panel for each model."""
    for kind, curves in (("variance", variances), ("bound", bounds)):
        for dataset, task in dict.fromkeys((curve.dataset, curve.task) for curve in curves):
            panels = _all_models(dataset, task)
            if panels != _OMNIGLOT:
                yield Plot(f"{kind}_{dataset}_{task}", f"{dataset}, {task}", kind, panels)


def bound_trials(curves: list[Curve], best: dict[tuple, float]) -> Trials:
    """The training bound of one panel's runs.

    Args:
        curves: of one dataset, task and model.
        best: the learning rate to draw by (dataset, task, model, method, steps), for methods with several.

    Raises:
        BadInput: for several rates of which none is known to be best, or trials of different settings.
    """
    trials: Trials = {}
    for method in _ordered({curve.method for curve in curves}):
        own = [curve for curve in curves if curve.method == method]
        if len({curve.learning_rate for curve in own}) > 1:
            first = own[0]
            known = best.get((first.dataset, first.task, first.model, method, first.steps))
            own = [curve for curve in own if curve.learning_rate == known] or own
        _check_same(own, ("learning_rate", "steps", "shared"))
        trials[method] = [Trial(*_line(curve.rows, "bound"), curve.finished) for curve in own]
    return trials


def variance_trials(curves: list[Curve]) -> Trials:
    """The log variance of one panel's comparisons; raises `BadInput` for those of different settings."""
    _check_same(curves, ("method", "learning_rate", "steps", "shared"))
    trials: Trials = {}
    for curve in curves:
        for method in dict.fromkeys(row["method"] for row in curve.rows):
            line = _line([row for row in curve.rows if row["method"] == method], "log_variance")
            trials.setdefault(method, []).append(Trial(*line, curve.finished))
    return {method: trials[method] for method in _ordered(set(trials))}


def _check_same(curves: list[Curve], names: tuple[str, ...]) -> None:
    for name in names:
        for curve in curves[1:]:
            if getattr(curve, name) != getattr(curves[0], name):
                raise BadInput(
                    f"{curves[0].path} and {curve.path} differ in {name}: {getattr(curves[0], name)} and "
                    f"{getattr(curve, name)}; expected trials that differ in the seed alone"
                )


def _line(rows: list[dict], column: str) -> tuple[np.ndarray, np.ndarray]:
    points = [(row["step"], row[column]) for row in rows if column in row]
    return np.array([step for step, _ in points]), np.array([value for _, value in points])


def _ordered(methods: set[str]) -> list[str]:
    return [method for method in METHODS if method in methods] + sorted(methods - {*METHODS})


def draw(plot: Plot, panels: list[Trials]) -> Figure:
    """One figure; a panel without trials says that it was not run."""
    figure, axes = _canvas(plot.title, len(plot.panels))
    methods = _ordered({method for trials in panels for method in trials})
    for axis, (dataset, task, model), trials in zip(axes, plot.panels, panels, strict=True):
        axis.set_title(f"{dataset}, {task}, {MODEL_TITLES[model].lower()}", fontsize=10)
        _draw_trials(axis, trials, methods)
        if plot.kind == "bound" and trials:
            axis.set_ylim(*_range(trials))
    axes[0].set_ylabel(VARIANCE_LABEL if plot.kind == "variance" else BOUND_LABEL)
    _legend(figure, axes)
    return figure


def draw_inference(curves: list[Curve]) -> Figure:
    """Figure App.5: the test bound with the network of the training, dash-dotted, and with one fitted apart, solid."""
    figure, (axis,) = _canvas(APP5_CAPTION.partition(":")[0], 1)
    for i, curve in enumerate(curves):
        run = f"{curve.dataset}, {MODEL_TITLES[curve.model].lower()}, {curve.method}"
        for column, network, line in (("own_bound", "of the training", "-."), ("separate_bound", "fitted apart", "-")):
            style: dict[str, Any] = {"color": COLOURS[i % len(COLOURS)], "linestyle": line}
            axis.plot(*_line(curve.rows, column), marker="o", markersize=3, label=f"{run}, network {network}", **style)
    axis.set_ylabel(_TEST_LABEL)
    _legend(figure, [axis], columns=1)
    return figure


def _canvas(title: str, panels: int) -> tuple[Figure, list[Axes]]:
    figure = new_figure(max(4.4 * panels, 6.0), 4.2)
    figure.suptitle(title, fontsize=11)
    axes = list(figure.subplots(1, panels, squeeze=False)[0])
    for axis in axes:
        label_steps(axis)
    return figure, axes


def _draw_trials(axis: Axes, trials: Trials, methods: list[str]) -> None:
    if not trials:
        axis.text(0.5, 0.5, NOT_RUN, transform=axis.transAxes, ha="center", va="center", color="0.4")
        axis.set(xticks=[], yticks=[])
    for method, lines in trials.items():
        colour = COLOURS[methods.index(method) % len(COLOURS)]
        middle = median_trial(lines)
        for i, line in enumerate(lines):
            if i != middle:
                axis.plot(line.steps, line.values, _style(line), color=colour, linewidth=0.8, alpha=0.5)
        bold = lines[middle]
        text = label(method) if bold.finished else f"{label(method)}, unfinished"
        axis.plot(bold.steps, bold.values, _style(bold), color=colour, linewidth=2.2, label=text)


def _style(trial: Trial) -> str:
    return "-" if trial.finished else "--"


def median_trial(lines: list[Trial]) -> int:
    """The trial whose last value is the median; the lower one of the middle two."""
    return sorted(range(len(lines)), key=lambda i: lines[i].values[-1])[(len(lines) - 1) // 2]


def _range(trials: Trials) -> tuple[float, float]:
    lines = [line for each in trials.values() for line in each]
    late = [line.values[line.steps >= _EARLY * line.steps[-1]] for line in lines]
    low, high = min(values.min() for values in late), max(values.max() for values in late)
    margin = 0.03 * (high - low) or 1.0
    return low - margin, high + margin


def _legend(figure: Figure, axes: list[Axes], columns: int = 5) -> None:
    handles: dict[str, Artist] = {}
    for axis in axes:
        for handle, text in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(text, handle)
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=columns, fontsize=9)


def write(figure: Figure, folder: pathlib.Path, name: str) -> pathlib.Path:
    """Writes a figure as .png and .svg; the path of the former."""
    save(figure, folder, name, "report", dpi=110)
    return folder / f"{name}.png"
