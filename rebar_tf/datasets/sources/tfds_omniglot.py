"""tensorflow-datasets' own Omniglot, in the order of the zip files that it was made from."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping

import numpy as np
import tensorflow_datasets as tfds
import tqdm

from rebar_tf.datasets.sources.drawings import shrink

_DRAWERS = 20  # each character was drawn once by each of 20 people

Key = tuple[str, int, str]  # alphabet, character, file


def builder(data_dir: str | os.PathLike) -> tfds.core.DatasetBuilder:
    """The builder of tensorflow-datasets for Omniglot in its folder `data_dir`."""
    return tfds.builder("omniglot:3.*.*", data_dir=data_dir)


def read_tfds_omniglot(data_dir: str | os.PathLike, counts: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Read `omniglot` of tensorflow-datasets, which downloads and prepares it first if necessary.

    Args:
        data_dir: The folder of tensorflow-datasets.
        counts: The number of drawings of each split.

    Returns:
        By split `[count, 784]`, uint8, 255 is ink; in the order of `read_drawings`.
    """
    stored = builder(data_dir)
    stored.download_and_prepare()
    return {split: _in_file_order(stored, split, count) for split, count in counts.items()}


def _in_file_order(stored: tfds.core.DatasetBuilder, split: str, count: int) -> np.ndarray:
    """The drawings of a split, put back from the order of tensorflow-datasets into that of the zip file.

    It sorts its records by the MD5 of the split's name and the record's key, of which it keeps all but the person
    who drew; these follow from the order.
    """
    characters: list[tuple[str, int, int]] = []
    images = shrink(_records(stored, split, count, characters), count)
    keys = [
        (alphabet, character, f"{label + 1:04d}_{drawer:02d}.png")
        for alphabet, character, label in set(characters)
        for drawer in range(1, _DRAWERS + 1)
    ]
    keys.sort(key=lambda key: hashlib.md5(f"{split}{key[0]}_{key[1]}_{key[2]}".encode()).digest())
    if [key[:2] for key in keys] != [character[:2] for character in characters]:
        raise ValueError(f"the records of {split} in {stored.data_path} are not in the order of tensorflow-datasets 3")
    return images[sorted(range(count), key=lambda place: _path(keys[place]))]


def _records(
    stored: tfds.core.DatasetBuilder, split: str, count: int, characters: list[tuple[str, int, int]]
) -> Iterator[np.ndarray]:
    """The images `[105, 105]` of a split as they are stored; their alphabet, character and label go to `characters`."""
    alphabet = stored.info.features["alphabet"].int2str
    records = tfds.as_numpy(stored.as_dataset(split=split, shuffle_files=False))
    for record in tqdm.tqdm(records, desc=f"Reading omniglot {split}", unit=" drawings", total=count, leave=False):
        characters.append((alphabet(record["alphabet"]), int(record["alphabet_char_id"]), int(record["label"])))
        yield record["image"][..., 0]


def _path(key: Key) -> str:
    """The name in the zip file, below its first folder."""
    return f"{key[0]}/character{key[1] + 1:02d}/{key[2]}"
