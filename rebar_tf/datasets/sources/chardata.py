"""The file format of Burda's Omniglot set: a MATLAB file of two matrices."""

import math
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Mapping

import numpy as np

from rebar_tf.validation import check_images

_KEYS = {"train": "data", "test": "testdata"}
_NUMERIC = {"double", "single", "logical", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))}
_SIDE = 28
_MOST_PIXELS = 100_000 * _SIDE * _SIDE
_LOAD = """
import sys, numpy, scipy.io
path, copy, *keys = sys.argv[1:]
matrices = scipy.io.loadmat(path, appendmat=False, variable_names=keys)
numpy.savez(copy, **{key: matrices[key] for key in keys if key in matrices})
"""


def read_chardata(path: pathlib.Path, counts: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Read the drawings of `chardata.mat`.

    Only plain numbers are read: nothing in the file is unpickled or run.

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
    """The matrices in the file; it reads only those that the file's headers declare as numbers, of any modest size."""
    import scipy.io  # imported here, because only this file format needs it

    try:
        declared = scipy.io.whosmat(path, appendmat=False)
        kinds = {name: kind for name, _, kind in declared}
        modest = {name for name, shape, _ in declared if math.prod(map(int, shape)) <= _MOST_PIXELS}
        numeric = [key for key in _KEYS.values() if kinds.get(key) in _NUMERIC and key in modest]
        matrices = _loaded(path, numeric) if numeric else {}
    except Exception as error:  # a damaged file makes it fail in any way
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(
            f"{path} is truncated or no MATLAB file ({reason}); expected a MATLAB file (version 4 to 7.2) of {expected}"
        ) from error
    for key in _KEYS.values():
        if key not in matrices:
            found = ", ".join(f"{name} ({kind})" for name, kind in kinds.items()) or "none"
            raise ValueError(f"{path} lacks the numeric matrix {key}; expected {expected}. Received: {found}")
    return matrices


def _loaded(path: pathlib.Path, keys: list[str]) -> dict[str, np.ndarray]:
    """The matrices, read in a separate process, because SciPy crashes on some damaged files."""
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder, "matrices.npz")
        done = subprocess.run([sys.executable, "-c", _LOAD, path, copy, *keys], capture_output=True, text=True)
        if done.returncode != 0:
            raise ValueError((done.stderr.splitlines() or [f"the reading process ended with {done.returncode}"])[-1])
        with np.load(copy, allow_pickle=False) as matrices:
            return dict(matrices)


def _drawings(path: pathlib.Path, key: str, matrices: dict[str, np.ndarray], count: int) -> np.ndarray:
    matrix = matrices[key]
    shape = (_SIDE * _SIDE, count)
    if matrix.dtype.kind not in "buif" or matrix.shape != shape:
        found = f"{matrix.dtype} of shape {matrix.shape}"
        raise ValueError(f"{path}: {key} must be numbers of shape {shape}, one drawing a column. Received: {found}")
    check_images(matrix, f"{path}: {key}", units=count)  # before the cast, where numbers may overflow
    # MATLAB stores an image column by column.
    images = matrix.T.astype(np.float32).reshape(count, _SIDE, _SIDE).transpose(0, 2, 1)
    return images.reshape(count, -1)
