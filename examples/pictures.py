"""The pictures of the guides: `python -m examples.NAME FILE.png` writes one."""

import keras
import numpy as np


def write(path: str, rows: list[np.ndarray]) -> None:
    """Writes a grid of images, `[images, height, width]` each row, values from 0, white, to 1, black."""
    bordered = [np.pad(np.clip(row, 0, 1), [(0, 0), (1, 1), (1, 1)]) for row in rows]
    grid = np.concatenate([np.concatenate(list(row), axis=1) for row in bordered])
    zoom = max(1, 1000 // grid.shape[1])
    pixels = 255 * (1 - grid.repeat(zoom, axis=0).repeat(zoom, axis=1))
    keras.utils.save_img(path, pixels[..., np.newaxis], scale=False)
