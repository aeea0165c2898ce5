"""Larochelle's fixed binarization of MNIST, from its text files."""

from __future__ import annotations

import hashlib
import os
import pathlib

import numpy as np

from rebar_tf.datasets.errors import DatasetUnavailableError
from rebar_tf.datasets.sources.raw_files import check_sum, find_folder

_COUNTS = {"train": 50_000, "valid": 10_000, "test": 10_000}
FILES = {split: f"binarized_mnist_{split}.amat" for split in _COUNTS}
SHA256 = {
    "train": "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d",
    "valid": "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2",
    "test": "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c",
}  # as tensorflow-datasets has them
_URL = "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/"
_UNITS = 784


def mnist_larochelle_splits(
    data_dir: str | os.PathLike | None, verify: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read the binarized digits on which many papers report bounds.

    Args:
        data_dir: The folder with `binarized_mnist_{train,valid,test}.amat`, in it or in its folder `mnist`.
        verify: Whether the files must be the published ones.

    Returns:
        The training, validation and test split: `[50000, 784]`, `[10000, 784]` and `[10000, 784]`, boolean.

    Raises:
        ValueError: If one file is there without the others, or one is damaged or not the published one.
        DatasetUnavailableError: If no file is there.
    """
    folder = find_folder(data_dir, "mnist", list(FILES.values()))
    if folder is None:
        place = "no data_dir was given" if data_dir is None else f"no {FILES['train']} in data_dir={str(data_dir)!r}"
        raise DatasetUnavailableError(
            f"dataset 'mnist_larochelle' is not available: {place}, and it is not downloaded. Use --data_dir=DIR with "
            f"DIR/mnist/binarized_mnist_{{train,valid,test}}.amat, from {_URL}, or --dataset=mnist_5k, which needs none"
        )
    train, valid, test = (
        read_amat(folder / FILES[split], count, SHA256[split] if verify else None) for split, count in _COUNTS.items()
    )
    return train, valid, test


def read_amat(path: pathlib.Path, count: int, sha256: str | None = None) -> np.ndarray:
    """Read the binary images of a text file, one a line, each pixel a 0 or a 1.

    Args:
        path: The file.
        count: The number of images that the file must hold.
        sha256: What the SHA-256 of the file must be; None is anything.

    Returns:
        `[count, 784]`, boolean, in file order.

    Raises:
        ValueError: If the file does not hold just those images, or has another sum.
    """
    expected = f"expected {count} lines of {_UNITS} digits 0 or 1"
    images = np.empty([count, _UNITS], bool)
    number, digest = 0, hashlib.sha256()
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            digest.update(line)
            # Every pixel is a single character, so the space between them can be dropped.
            digits = np.frombuffer(line.translate(None, b" \t\r\n"), np.uint8) - np.uint8(ord("0"))
            if digits.size != _UNITS or digits.max() > 1:
                raise ValueError(f"{path}: line {number} does not hold {_UNITS} digits 0 or 1; {expected}")
            if number > count:
                break
            images[number - 1] = digits
    if number != count:
        found = f"more than {count}" if number > count else number
        raise ValueError(f"{path} has {found} lines; {expected}")
    if sha256 is not None:
        check_sum(path, "SHA-256", digest.hexdigest(), sha256)
    return images
