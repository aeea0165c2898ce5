"""Images that tensorflow-datasets keeps or downloads, in the order of the files that they come from."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from rebar_tf.datasets.sources import raw_files

if TYPE_CHECKING:  # imported only where raw files are missing: it takes seconds
    import tensorflow_datasets as tfds


def read_tfds_images(
    name: str, url: str, counts: Mapping[str, int], data_dir: str | os.PathLike | None
) -> dict[str, np.ndarray]:
    """Read the splits of a dataset, which is downloaded first if it is not there.

    Args:
        name: Of the builder, with its version.
        url: One of the files that are downloaded: if it cannot be reached, the error comes at once.
        counts: The number of images by split.
        data_dir: The folder of tensorflow-datasets; None is its default.

    Returns:
        `[n, pixels]`, uint8, by split.

    Raises:
        Exception: Whatever an import, a network or a disk can answer.
    """
    import tensorflow_datasets as tfds

    builder = tfds.builder(name, data_dir=data_dir)
    if not builder.is_prepared():
        raw_files.probe(url)
        builder.download_and_prepare()
    return {split: _in_file_order(builder, split, count) for split, count in counts.items()}


def _in_file_order(builder: tfds.core.DatasetBuilder, split: str, count: int) -> np.ndarray:
    """The images of a split, put back from the order of tensorflow-datasets into that of the raw file.

    tensorflow-datasets sorts its records by the MD5 of the split's name and the record's key, here its place in the raw
    file. A fixed binarization draws the digits in order, so both sources must have the same order.
    """
    stored = builder.as_dataset(split=split, shuffle_files=False).batch(count).take(1)
    images = next(iter(stored))["image"].numpy().reshape(count, -1)
    places = sorted(range(count), key=lambda place: hashlib.md5(f"{split}{place}".encode()).digest())
    ordered = np.empty_like(images)
    ordered[places] = images
    return ordered
