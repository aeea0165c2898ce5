"""All of MNIST, from the raw files or through tensorflow-datasets, in the order of the raw files."""

from __future__ import annotations

import os

import numpy as np

from rebar_tf.datasets.errors import DatasetUnavailableError
from rebar_tf.datasets.sources.idx import read_idx_images
from rebar_tf.datasets.sources.raw_files import find_folder
from rebar_tf.datasets.sources.tfds_images import read_tfds_images

RAW_FILES = {"train": "train-images-idx3-ubyte.gz", "test": "t10k-images-idx3-ubyte.gz"}
_COUNTS = {"train": 60_000, "test": 10_000}
MD5 = {"train": "6bbc9ace898e44ae57da46a324031adb", "test": "2646ac647ad5339dbf082846283269ea"}  # of the unpacked files
_NUM_VALID = 10_000
_URL = "https://storage.googleapis.com/cvdf-datasets/mnist/"  # where tensorflow-datasets downloads from


def mnist_pixels(data_dir: str | os.PathLike | None, verify: bool = True) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read MNIST and set the last 10,000 training digits apart for validation.

    Args:
        data_dir: The folder with the raw files, in it or in its folder `mnist`; else the folder of
            tensorflow-datasets. None is the latter's default folder.
        verify: Whether the raw files must be the published ones.

    Returns:
        The training, validation and test split: `[50000, 784]`, `[10000, 784]` and `[10000, 784]`,
        uint8, in the order of the raw files.

    Raises:
        ValueError: If one raw file is there without the other, or one is damaged or not the published one.
        DatasetUnavailableError: If there is nothing on disk and the download fails.
    """
    folder = find_folder(data_dir, "mnist", list(RAW_FILES.values()))
    if folder is None:
        images = _from_tensorflow_datasets(data_dir)
    else:
        images = {
            split: read_idx_images(folder / file, _COUNTS[split], md5=MD5[split] if verify else None)
            for split, file in RAW_FILES.items()
        }
    # A copy, so that the bytes of all training digits are not kept in memory.
    valid = images["train"][-_NUM_VALID:].copy()
    return images["train"][:-_NUM_VALID], valid, images["test"]


def _from_tensorflow_datasets(data_dir: str | os.PathLike | None) -> dict[str, np.ndarray]:
    try:
        return read_tfds_images("mnist:3.*.*", _URL + RAW_FILES["train"], _COUNTS, data_dir)
    except Exception as error:  # whatever an import, a network or a disk can answer
        raise DatasetUnavailableError(_unavailable(data_dir, error)) from error


def _unavailable(data_dir: str | os.PathLike | None, error: Exception) -> str:
    place = "its default folder" if data_dir is None else f"data_dir={str(data_dir)!r}"
    raw = "" if data_dir is None else f"no raw file mnist/{RAW_FILES['train']} in {place}, and "
    reason = " ".join(str(error).split())
    return (
        f"dataset 'mnist' is not available: {raw}tensorflow-datasets could neither find it prepared in "
        f"{place} nor download it ({type(error).__name__}: {reason}). Use --dataset=mnist_5k, which needs no "
        f"download, or --data_dir=DIR with DIR/mnist/{RAW_FILES['train']} and DIR/mnist/{RAW_FILES['test']}"
    )
