"""Images of digits side by side."""

from __future__ import annotations

import numpy as np


def montage(images: np.ndarray, side: int) -> np.ndarray:
    """The first `side * side` images `[n, 784]`, row after row, as one picture with a white border around each.

    Places without an image are white.
    """
    tiles = np.zeros([side * side, 30, 30], np.float32)
    shown = images[: side * side].reshape(-1, 28, 28)
    tiles[: len(shown), 1:-1, 1:-1] = shown
    return tiles.reshape(side, side, 30, 30).swapaxes(1, 2).reshape(side * 30, side * 30)
