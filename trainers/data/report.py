"""What `trainers.data` prints and draws."""

from __future__ import annotations

import hashlib
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from trainers.common import plot
from trainers.common.pictures import montage

HEADER = f"{'split':<7}{'images':>8}{'min':>7}{'max':>7}{'mean':>9}{'ink':>9}  sha256"
_SIDE = 8  # images in a row and in a column of the preview


def line(split: str, row: Mapping[str, Any]) -> str:
    """A split's line of the table."""
    return (
        f"{split:<7}{row['images']:>8}{row['min']:>7.3f}{row['max']:>7.3f}{row['mean']:>9.5f}{row['ink']:>9.5f}"
        f"  {row['sha256'][:16]}"
    )


def statistics(pixels: np.ndarray, binary: np.ndarray) -> dict[str, Any]:
    """The numbers by which two copies of a split are told apart.

    Args:
        pixels: `[n, 784]` pixel probabilities.
        binary: `[n, 784]` their fixed binarization, boolean.

    Returns:
        `images`, their number; `min`, `max` and `mean` of the pixels; `ink`, the fraction of binary pixels that are 1;
        `sha256` of the binary pixels, a byte of 0 or 1 each, row by row.
    """
    return {
        "images": len(pixels),
        "min": float(pixels.min()),
        "max": float(pixels.max()),
        "mean": float(pixels.mean(dtype=np.float64)),
        "ink": float(binary.mean(dtype=np.float64)),
        "sha256": hashlib.sha256(np.ascontiguousarray(binary).view(np.uint8).data).hexdigest(),
    }


def write_preview(
    path: pathlib.Path, name: str, pixels: Mapping[str, np.ndarray], binary: Mapping[str, np.ndarray]
) -> None:
    """Draws the first images of each split, as probabilities above and as binarized below; ink is black."""
    figure = plot.new_figure(4.0 * len(pixels), 8.4)
    figure.suptitle(f"{name}: the first {_SIDE**2} images of each split")
    axes = figure.subplots(2, len(pixels), squeeze=False)
    for column, split in enumerate(pixels):
        for axis, images in zip(axes[:, column], (pixels[split], binary[split]), strict=True):
            axis.imshow(montage(images, _SIDE), cmap="gray_r", vmin=0.0, vmax=1.0, interpolation="nearest")
            axis.set(xticks=[], yticks=[])
        axes[0, column].set_title(split)
    axes[0, 0].set_ylabel("pixel probabilities")
    axes[1, 0].set_ylabel("fixed binarization")
    figure.savefig(path, dpi=130)
