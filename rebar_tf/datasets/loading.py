"""Datasets by name."""

import dataclasses
import os
from collections.abc import Callable

import numpy as np

from rebar_tf.datasets.binarization import check_binarization, split_pixels
from rebar_tf.datasets.dataset import Dataset
from rebar_tf.datasets.sources.larochelle import mnist_larochelle_splits
from rebar_tf.datasets.sources.mnist import mnist_pixels
from rebar_tf.datasets.sources.mnist_5k import mnist_5k_pixels
from rebar_tf.datasets.sources.omniglot import omniglot_burda_splits, omniglot_pixels
from rebar_tf.validation import is_integer

Splits = tuple[np.ndarray, np.ndarray, np.ndarray]
DataDir = str | os.PathLike | None


@dataclasses.dataclass(frozen=True)
class _Source:
    """Where the splits of a dataset come from.

    Attributes:
        splits: From data_dir, verify, binarization and seed to training, validation and test split.
        seed: The seed of the fixed draw unless another is given.
        binary: Whether the images are binary in their files, so that nothing is drawn.
    """

    splits: Callable[[DataDir, bool, str, int], Splits]
    seed: int = 0
    binary: bool = False


def _drawn_apart(read: Callable[[DataDir, bool], Splits]) -> Callable[[DataDir, bool, str, int], Splits]:
    """Splits that are each drawn with a stream of their own, from a function that reads their pixels."""

    def splits(data_dir: DataDir, verify: bool, binarization: str, seed: int) -> Splits:
        pixels = dict(enumerate(read(data_dir, verify)))
        streams: tuple[int | tuple[int, ...], ...] = (seed, (seed, 1), (seed, 2))
        # Popped, so that the pixels of a split are gone before the next one is made.
        train, valid, test = (split_pixels(pixels.pop(i), binarization, stream) for i, stream in enumerate(streams))
        return train, valid, test

    return splits


_SOURCES = {
    "mnist": _Source(_drawn_apart(mnist_pixels)),
    "mnist_5k": _Source(_drawn_apart(lambda data_dir, verify: mnist_5k_pixels())),
    "mnist_larochelle": _Source(
        lambda data_dir, verify, binarization, seed: mnist_larochelle_splits(data_dir, verify), binary=True
    ),
    "omniglot": _Source(_drawn_apart(omniglot_pixels)),
    "omniglot_burda": _Source(omniglot_burda_splits, seed=5),  # the seed of the authors' code
}


def names() -> list[str]:
    """Return the names that `load` accepts.

    Returns:
        The names, sorted.

    Example:
        >>> names()
        ['mnist', 'mnist_5k', 'mnist_larochelle', 'omniglot', 'omniglot_burda']
    """
    return sorted(_SOURCES)


def load(
    name: str,
    data_dir: str | os.PathLike | None = None,
    binarization: str = "fixed",
    binarization_seed: int | None = None,
    verify: bool = True,
) -> Dataset:
    """Load a dataset of flat 28x28 images.

    Args:
        name: One of

            - "mnist_5k", 4,000 / 500 / 500 digits that need no download;
            - "mnist", 50,000 / 10,000 / 10,000 digits;
            - "mnist_larochelle", the same with Larochelle's fixed binarization;
            - "omniglot_burda", Burda's 23,000 / 1,345 / 8,070 drawings, on which the paper reports;
            - "omniglot", the original drawings scaled to 28x28 by an area filter: 17,935 / 1,345 of the
              background alphabets, 13,180 of the evaluation alphabets. Its numbers cannot be compared with Burda's set.
        data_dir: An existing folder with the raw files, where there are any: `mnist/*-images-idx3-ubyte.gz`,
            `mnist/binarized_mnist_{train,valid,test}.amat`, `omniglot/chardata.mat`, or
            `omniglot/images_background.zip` and `omniglot/images_evaluation.zip`; it is only read. Without raw
            files, the folder where tensorflow-datasets keeps or downloads the dataset. None is the default folder
            of tensorflow-datasets, which also gets the prepared copies of Omniglot.
        binarization: "fixed" draws every pixel once; "dynamic" keeps the pixel
            probabilities, from which `batches(..., binarize=True)` draws again at each step.
        binarization_seed: The seed of the fixed draw, an int in [0, 2**32). The training split is
            `numpy.random.RandomState(seed).uniform(size=x.shape) < x`; the validation and the test
            split have the streams `[seed, 1]` and `[seed, 2]`. For "omniglot_burda" one stream draws all of
            the file. None is the dataset's own: 5 for "omniglot_burda", as in the paper's code, 0 for the others.
        verify: Whether raw files must be the published ones, by their sums. What tensorflow-datasets downloads is
            always held to its sums.

    Returns:
        The dataset; its splits are `[n, 784]`, boolean or, for a dynamic binarization, float32.

    Raises:
        ValueError: If an argument is not as above, or a raw file is missing, damaged or not the published one.
        OSError: If the prepared copy of Omniglot cannot be written.
        DatasetUnavailableError: If the dataset is neither on disk nor can be downloaded.

    Example:
        >>> digits = load("mnist_5k")
        >>> digits.train.shape
        (4000, 784)
    """
    _check_arguments(name, data_dir, binarization, binarization_seed)
    source = _SOURCES[name]
    seed = source.seed if binarization_seed is None else binarization_seed
    splits = dict(zip(("train", "valid", "test"), source.splits(data_dir, verify, binarization, seed), strict=True))
    drawn_with = None if source.binary else seed
    return Dataset(name, **splits, binarization=binarization, binarization_seed=drawn_with)


def _check_arguments(name: str, data_dir: DataDir, binarization: str, binarization_seed: int | None) -> None:
    if name not in _SOURCES:
        accepted = ", ".join(map(repr, names()))
        raise ValueError(f"dataset must be one of {accepted}. Received: dataset={name!r}")
    if data_dir is not None and not os.path.isdir(data_dir):
        raise ValueError(f"data_dir must be an existing folder. Received: data_dir={str(data_dir)!r}")
    check_binarization(binarization)
    _check_seed(binarization_seed)
    if _SOURCES[name].binary:
        _check_is_not_drawn(name, binarization, binarization_seed)


def _check_seed(seed: int | None) -> None:
    if not (seed is None or (is_integer(seed, least=0) and seed < 2**32)):
        raise ValueError(
            f"binarization_seed must be an int in [0, 2**32), or None for the dataset's own. "
            f"Received: binarization_seed={seed!r}"
        )


def _check_is_not_drawn(name: str, binarization: str, seed: int | None) -> None:
    if binarization != "fixed":
        raise ValueError(
            f"binarization must be 'fixed' for {name!r}, whose images are binary. "
            f"Received: binarization={binarization!r}"
        )
    if seed is not None:
        raise ValueError(
            f"binarization_seed must be None for {name!r}, whose images are binary. "
            f"Received: binarization_seed={seed!r}"
        )
