"""The plots of `trainers.variance`: log variance and signal-to-noise ratio over the steps, by part of the model."""

from __future__ import annotations

import math
import pathlib

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trainers.common.methods import label
from trainers.common.plot import curve_style, label_steps, new_figure, save
from trainers.variance.report import WHOLE, Row
from trainers.variance.settings import Settings

_QUANTITIES = {
    "log_variance": "log variance of the gradient estimate",
    "signal_to_noise": "signal-to-noise ratio of the gradient estimate",
}
_MARKERS_A_CURVE = 8


def write_plots(folder: pathlib.Path, rows: list[Row], settings: Settings) -> None:
    """Writes log_variance and signal_to_noise, each as .png and .svg.

    Args:
        folder: where to.
        rows: as `trainers.variance.report.read_rows` reads them.
        settings: for the title.
    """
    for quantity in _QUANTITIES:
        save(draw(quantity, rows, _title(settings)), folder, quantity, "variance")


def draw(quantity: str, rows: list[Row], title: str) -> Figure:
    """A panel for the whole model and one for each part; a curve for each method."""
    parts = list(dict.fromkeys(row["part"] for row in rows))
    width = math.ceil(math.sqrt(len(parts)))
    height = math.ceil(len(parts) / width)
    figure = new_figure(4.2 * width, 3.4 * height + 1.0)
    axes = figure.subplots(height, width, sharex=True, squeeze=False).ravel()
    figure.suptitle(title, fontsize=11)
    for axis, part in zip(axes, parts, strict=False):
        _draw_part(axis, quantity, [row for row in rows if row["part"] == part])
        axis.set_title("whole model" if part == WHOLE else part, fontsize=11)
    for axis in axes[len(parts) :]:
        axis.set_axis_off()
    figure.supylabel(_QUANTITIES[quantity], fontsize=11)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, handlelength=3)
    return figure


def _draw_part(axis: Axes, quantity: str, rows: list[Row]) -> None:
    for i, method in enumerate(dict.fromkeys(row["method"] for row in rows)):
        own = [row for row in rows if row["method"] == method]
        apart = max(len(own) // _MARKERS_A_CURVE, 1)
        axis.plot(
            [row["step"] for row in own],
            [row[quantity] for row in own],
            label=label(method),
            markersize=5,
            markevery=(i % apart, apart),  # at other places than those of other curves
            **curve_style(i),
        )
    if quantity == "signal_to_noise":
        axis.set_yscale("log")
    axis.tick_params(labelbottom=True)
    label_steps(axis)


def _title(settings: Settings) -> str:
    experiment = settings.experiment
    kind = "nonlinear" if experiment.nonlinear else "linear"
    layers = "1 layer" if experiment.num_layers == 1 else f"{experiment.num_layers} layers"
    return f"{experiment.dataset}, {experiment.task}, {kind}, {layers}; parameters follow {settings.follow}"
