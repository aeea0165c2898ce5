"""Images that tensorflow-datasets keeps or downloads, in the order of the files that they come from."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from rebar_tf.datasets.errors import DatasetUnavailableError
from rebar_tf.datasets.sources import raw_files

if TYPE_CHECKING:  # imported only where raw files are missing: it takes seconds
    import tensorflow_datasets as tfds


@dataclasses.dataclass(frozen=True)
class Download:
    """A dataset as tensorflow-datasets has it.

    Attributes:
        dataset: Its name here.
        builder: The name of the builder, with its version.
        url: One of the files that are downloaded: if it cannot be reached, the error comes at once.
        counts: The number of images by split.
        raw_file: One of the raw files that were looked for first, in words.
        ways_out: What an error about a failed download suggests.
    """

    dataset: str
    builder: str
    url: str
    counts: Mapping[str, int]
    raw_file: str
    ways_out: str


def read_tfds_images(download: Download, data_dir: str | os.PathLike | None) -> dict[str, np.ndarray]:
    """Read the splits of a dataset, which is downloaded first if it is not there.

    Args:
        download: The dataset.
        data_dir: The folder of tensorflow-datasets; None is its default.

    Returns:
        `[n, pixels]`, uint8, by split.

    Raises:
        DatasetUnavailableError: If there is nothing on disk and the download fails.
    """
    try:
        import tensorflow_datasets as tfds

        builder = tfds.builder(download.builder, data_dir=data_dir)
        if not builder.is_prepared():
            raw_files.probe(download.url)
            builder.download_and_prepare()
        return {split: _in_file_order(builder, split, count) for split, count in download.counts.items()}
    except Exception as error:  # whatever an import, a network or a disk can answer
        raise DatasetUnavailableError(_unavailable(download, data_dir, error)) from error


def _unavailable(download: Download, data_dir: str | os.PathLike | None, error: Exception) -> str:
    place = "its default folder" if data_dir is None else f"data_dir={str(data_dir)!r}"
    raw = "" if data_dir is None else f"no {download.raw_file} in {place}, and "
    reason = " ".join(str(error).split())
    return (
        f"dataset '{download.dataset}' is not available: {raw}tensorflow-datasets could neither find it prepared in "
        f"{place} nor download it ({type(error).__name__}: {reason}). {download.ways_out}"
    )


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
