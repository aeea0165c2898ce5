"""The pictures of the guides: `python -m examples.NAME FILE.png` writes one. Charts need the extra `trainers`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import keras
import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def write(path: str, rows: list[np.ndarray]) -> None:
    """Writes a grid of images, `[images, height, width]` each row, values from 0, white, to 1, black."""
    bordered = [np.pad(np.clip(row, 0, 1), [(0, 0), (1, 1), (1, 1)]) for row in rows]
    grid = np.concatenate([np.concatenate(list(row), axis=1) for row in bordered])
    zoom = max(1, 1000 // grid.shape[1])
    pixels = 255 * (1 - grid.repeat(zoom, axis=0).repeat(zoom, axis=1))
    keras.utils.save_img(path, pixels[..., np.newaxis], scale=False)


@contextlib.contextmanager
def chart(path: str, xlabel: str, ylabel: str) -> Iterator[Axes]:
    """Axes to draw on, with a legend if anything has a label; the picture is written in the end."""
    from trainers.common.plot import COLOURS, new_figure

    figure = new_figure(8, 3.6)
    axis = figure.add_subplot(xlabel=xlabel, ylabel=ylabel)
    axis.set_prop_cycle(color=COLOURS)
    axis.spines[["top", "right"]].set_visible(False)
    yield axis
    if axis.get_legend_handles_labels()[1]:
        axis.legend(frameon=False)
    figure.savefig(path, dpi=100)


def panels(path: str, images: dict[str, np.ndarray]) -> None:
    """Writes images, `[height, width]` by title, side by side, values from 0, white, to 1, black."""
    from trainers.common.plot import new_figure

    figure = new_figure(8, 2.2)
    for axis, (title, image) in zip(figure.subplots(1, len(images)), images.items(), strict=True):
        axis.imshow(image, cmap="gray_r", vmin=0, vmax=1)
        axis.set(xticks=[], yticks=[])
        axis.set_title(title, fontsize=9)
    figure.savefig(path, dpi=100)
