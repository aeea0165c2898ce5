"""The file format of Burda's Omniglot set: a MATLAB file of two matrices."""

import pathlib
from collections.abc import Mapping

import numpy as np

from rebar_tf.datasets.validation import check_images

_KEYS = {"train": "data", "test": "testdata"}
_SIDE = 28


def read_chardata(path: pathlib.Path, counts: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Read the drawings of `chardata.mat`.

    Only plain numbers are taken: nothing in the file is unpickled or run.

    Args:
        path: The file.
        counts: The number of drawings that the matrices `data` (split "train") and `testdata` ("test") must hold.

    Returns:
        By split `[count, 784]`, float32 in [0, 1], 1 is ink; in file order, rows of pixels first.

    Raises:
        ValueError: If the file is not a whole MATLAB file of just those drawings.
    """
    matrices = _matrices(path, ", ".join(f"{_KEYS[split]} [784, {count}]" for split, count in counts.items()))
    return {split: _drawings(path, _KEYS[split], matrices, count) for split, count in counts.items()}


def _matrices(path: pathlib.Path, expected: str) -> dict[str, np.ndarray]:
    import scipy.io  # imported here, as only this file format wants it

    try:
        return scipy.io.loadmat(path, appendmat=False, variable_names=list(_KEYS.values()))
    except Exception as error:  # a damaged file makes it fail in any way
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(
            f"{path} is truncated or no MATLAB file ({reason}); expected a MATLAB file (version 4 to 7.2) of {expected}"
        ) from error


def _drawings(path: pathlib.Path, key: str, matrices: dict[str, np.ndarray], count: int) -> np.ndarray:
    if key not in matrices:
        there = ", ".join(name for name in matrices if not name.startswith("__")) or "none"
        raise ValueError(f"{path} lacks the matrix {key}; expected data and testdata, found {there}")
    matrix = matrices[key]
    shape = (_SIDE * _SIDE, count)
    if getattr(matrix, "dtype", np.dtype(object)).kind not in "buif" or matrix.shape != shape:
        found = f"{getattr(matrix, 'dtype', type(matrix).__name__)} of shape {np.shape(matrix)}"
        raise ValueError(f"{path}: {key} must be numbers of shape {shape}, one drawing a column. Received: {found}")
    # MATLAB stores an image column by column.
    images = matrix.T.astype(np.float32).reshape(count, _SIDE, _SIDE).transpose(0, 2, 1)
    return check_images(images.reshape(count, -1), f"{path}: {key}", units=_SIDE * _SIDE)
