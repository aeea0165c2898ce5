"""Datasets by name."""

import os
from collections.abc import Callable

import numpy as np

from rebar_tf.datasets.binarization import check_binarization, split_pixels
from rebar_tf.datasets.dataset import Dataset
from rebar_tf.datasets.mnist import mnist_pixels
from rebar_tf.datasets.mnist_5k import mnist_5k_pixels

Pixels = tuple[np.ndarray, np.ndarray, np.ndarray]

_READERS: dict[str, Callable[[str | os.PathLike | None], Pixels]] = {
    "mnist": mnist_pixels,
    "mnist_5k": lambda data_dir: mnist_5k_pixels(),
}


def names() -> list[str]:
    """Return the names that `load` accepts.

    Returns:
        The names, sorted.

    Example:
        >>> names()
        ['mnist', 'mnist_5k']
    """
    return sorted(_READERS)


def load(
    name: str,
    data_dir: str | os.PathLike | None = None,
    binarization: str = "fixed",
    binarization_seed: int = 0,
) -> Dataset:
    """Load a dataset of flat 28x28 images.

    Args:
        name: "mnist_5k" (4,000 / 500 / 500 digits that need no download) or "mnist"
            (50,000 / 10,000 / 10,000).
        data_dir: For "mnist", an existing folder with the raw files `mnist/*-images-idx3-ubyte.gz`, or
            one where tensorflow-datasets keeps, or is to download, its own. None is the default
            folder of tensorflow-datasets.
        binarization: "fixed" draws every pixel once and for all; "dynamic" keeps the pixel
            probabilities, from which `batches(..., binarize=True)` draws anew at each step.
        binarization_seed: The seed of the fixed draw, an int in [0, 2**32). The training split is
            `numpy.random.RandomState(seed).uniform(size=x.shape) < x`; the validation and the test
            split have the streams `[seed, 1]` and `[seed, 2]`.

    Returns:
        The dataset; its splits are float32, `[n, 784]`.

    Raises:
        ValueError: If an argument is not as above, or a raw file is missing or damaged.
        DatasetUnavailableError: If "mnist" is neither on disk nor can be downloaded.

    Example:
        >>> digits = load("mnist_5k")
        >>> digits.train.shape
        (4000, 784)
    """
    _check_arguments(name, data_dir, binarization, binarization_seed)
    streams = {"train": binarization_seed, "valid": (binarization_seed, 1), "test": (binarization_seed, 2)}
    pixels = dict(zip(streams, _READERS[name](data_dir), strict=True))
    # Popped, so that the bytes of a split are gone before the next one is made.
    splits = {split: split_pixels(pixels.pop(split), binarization, stream) for split, stream in streams.items()}
    return Dataset(name, **splits, binarization=binarization, binarization_seed=binarization_seed)


def _check_arguments(name: str, data_dir: str | os.PathLike | None, binarization: str, binarization_seed: int) -> None:
    if name not in _READERS:
        accepted = ", ".join(map(repr, names()))
        raise ValueError(f"dataset must be one of {accepted}. Received: dataset={name!r}")
    if data_dir is not None and not os.path.isdir(data_dir):
        raise ValueError(f"data_dir must be an existing folder. Received: data_dir={str(data_dir)!r}")
    check_binarization(binarization)
    if not (isinstance(binarization_seed, (int, np.integer)) and 0 <= binarization_seed < 2**32):
        raise ValueError(
            f"binarization_seed must be an int in [0, 2**32). Received: binarization_seed={binarization_seed!r}"
        )
