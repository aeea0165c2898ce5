"""All of MNIST, from the raw files or through tensorflow-datasets, in the order of the raw files."""

from __future__ import annotations

import os

import numpy as np

from rebar_tf.datasets.sources.idx import read_idx_images
from rebar_tf.datasets.sources.raw_files import find_folder
from rebar_tf.datasets.sources.tfds_images import Download, read_tfds_images

RAW_FILES = {"train": "train-images-idx3-ubyte.gz", "test": "t10k-images-idx3-ubyte.gz"}
_COUNTS = {"train": 60_000, "test": 10_000}
MD5 = {"train": "6bbc9ace898e44ae57da46a324031adb", "test": "2646ac647ad5339dbf082846283269ea"}  # of the unpacked files
_NUM_VALID = 10_000
_DOWNLOAD = Download(
    dataset="mnist",
    builder="mnist:3.*.*",
    url=f"https://storage.googleapis.com/cvdf-datasets/mnist/{RAW_FILES['train']}",  # of tensorflow-datasets
    counts=_COUNTS,
    raw_file=f"raw file mnist/{RAW_FILES['train']}",
    ways_out="Use --dataset=mnist_5k, which needs no download, or --data_dir=DIR with "
    f"DIR/mnist/{RAW_FILES['train']} and DIR/mnist/{RAW_FILES['test']}",
)


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
        images = read_tfds_images(_DOWNLOAD, data_dir)
    else:
        images = {
            split: read_idx_images(folder / file, _COUNTS[split], md5=MD5[split] if verify else None)
            for split, file in RAW_FILES.items()
        }
    # A copy, so that the bytes of all training digits are not kept in memory.
    valid = images["train"][-_NUM_VALID:].copy()
    return images["train"][:-_NUM_VALID], valid, images["test"]
