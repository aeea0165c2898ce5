"""What the plots of the commands share: how curves are told apart, and how figures are made and saved."""

from __future__ import annotations

import pathlib
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

# Okabe & Ito's colours, told apart in colour-blindness too; grey for their yellow, which is too light for a line.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
MARKERS = "os^vDPX*"


def new_figure(width: float, height: float) -> Figure:
    """An empty figure that is drawn without a screen."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def curve_style(number: int) -> dict[str, Any]:
    """How the curve of that number is drawn: thinner ones over thicker ones, as several may coincide."""
    return {
        "color": COLOURS[number % len(COLOURS)],
        "marker": MARKERS[number % len(MARKERS)],
        "linewidth": max(3.0 - 0.3 * number, 1.0),
    }


def label_steps(axis: Axes) -> None:
    """Gives an axis training steps along its horizontal side, and a grid."""
    axis.set_xlabel("steps")
    axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axis.xaxis.set_major_formatter(EngFormatter(sep=""))
    axis.grid(color="0.9", linewidth=0.6)


def save(figure: Figure, folder: pathlib.Path, name: str, command: str, dpi: int = 130) -> None:
    """Writes a figure as .png and .svg; the same figure of the same command makes the same files."""
    folder.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({"svg.hashsalt": f"trainers.{command}"}):
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
    figure.savefig(folder / f"{name}.png", dpi=dpi)
