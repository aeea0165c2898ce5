"""tensorflow-datasets builders of both Omniglot sets: they keep a prepared copy, which is fast to read.

Importing this module imports tensorflow-datasets, and makes `omniglot_burda` and `omniglot28x28` known to it.
"""

from __future__ import annotations

import abc
import contextlib
import os
import pathlib
import sys
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from rebar_tf.datasets.errors import DatasetUnavailableError
from rebar_tf.datasets.sources import chardata, raw_files, tfds_omniglot
from rebar_tf.datasets.sources.drawings import read_drawings

_READ_AT_ONCE = 4096


class Drawings(tfds.core.GeneratorBasedBuilder):
    """28x28 images in the order of their source, a record each.

    Args:
        source: The folder of the raw files; None downloads them.
        key: A name for the contents of the raw files, so that other files get another folder; None for the published.
        verify: Whether the raw files must hold what was published.
        data_dir: The folder of tensorflow-datasets; None is its default, `~/tensorflow_datasets` unless the
            environment variable TFDS_DATA_DIR names another.
        **kwargs: Other arguments of a tensorflow-datasets builder.
    """

    VERSION = tfds.core.Version("1.0.0")
    URL: str
    DESCRIPTION: str
    DTYPE: type

    def __init__(
        self,
        *,
        source: pathlib.Path | None = None,
        key: str | None = None,
        verify: bool = True,
        data_dir: str | os.PathLike | None = None,
        **kwargs: Any,
    ):
        self.source, self.verify = source, verify
        if key is not None:
            kwargs["config"] = tfds.core.BuilderConfig(name=key)
        # tensorflow-datasets reads the variable when it is imported; here it may be set later, too.
        super().__init__(data_dir=data_dir or os.environ.get("TFDS_DATA_DIR"), file_format="tfrecord", **kwargs)

    def check_reachable(self) -> None:
        """Raise an error if the download cannot work, before anything is written."""
        raw_files.probe(self.URL)

    @abc.abstractmethod
    def read_source(self, dl_manager: tfds.download.DownloadManager) -> dict[str, np.ndarray]:
        """The images of each split, `[n, 784]`."""

    def _info(self) -> tfds.core.DatasetInfo:
        image = tfds.features.Tensor(shape=(28, 28, 1), dtype=self.DTYPE, encoding=tfds.features.Encoding.BYTES)
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.DESCRIPTION,
            homepage=self.URL,
            features=tfds.features.FeaturesDict({"image": image}),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        return {split: self._generate_examples(images) for split, images in self.read_source(dl_manager).items()}

    def _generate_examples(self, images: np.ndarray) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        for place, image in enumerate(images):
            yield place, {"image": image.reshape(28, 28, 1)}


class OmniglotBurda(Drawings):
    """Burda's 28x28 Omniglot, from `chardata.mat`."""

    URL = "https://github.com/yburda/iwae/raw/master/datasets/OMNIGLOT/chardata.mat"
    DESCRIPTION = "Omniglot as cut and scaled by Burda et al. 2015: grey values in [0, 1], 1 is ink."
    DTYPE = np.float32
    FILES = ("chardata.mat",)
    COUNTS = types.MappingProxyType({"train": 24_345, "test": 8_070})
    CHECKSUM = "21ecaf34373511aa7691cf2e0802aa3d"

    def read_source(self, dl_manager: tfds.download.DownloadManager) -> dict[str, np.ndarray]:
        if self.source is not None:
            path = self.source / self.FILES[0]
            images = chardata.read_chardata(path, self.COUNTS)
            if self.verify:
                raw_files.check_sum(path, "MD5", raw_files.checksum(path), self.CHECKSUM)
            return images
        path = pathlib.Path(dl_manager.download(self.URL))
        found = raw_files.checksum(path)
        if found != self.CHECKSUM:
            raise ValueError(f"{self.URL} gave {path} with the MD5 {found}; expected {self.CHECKSUM}")
        return chardata.read_chardata(path, self.COUNTS)


class Omniglot28x28(Drawings):
    """The original Omniglot drawings brought to 28x28, from their zip files or from tensorflow-datasets' `omniglot`."""

    URL = "https://github.com/brendenlake/omniglot/raw/master/python/images_background.zip"
    DESCRIPTION = "The original drawings of Omniglot, from 105x105 to 28x28 by an area filter; 255 is ink."
    DTYPE = np.uint8
    FILES = ("images_background.zip", "images_evaluation.zip")
    COUNTS = types.MappingProxyType({"train": 19_280, "test": 13_180})
    CHECKSUM = None  # tensorflow-datasets checks the zip files that it downloads by itself
    # The SHA-256 of the black and white pixels, whatever the zip files pack them with.
    DRAWINGS = types.MappingProxyType(
        {
            "train": "0c9dd3e690771a96b7005791e921146797608178e3c6ee5ba6e82cc98a57121e",
            "test": "9981879aa1d6238ebf877b6a048c375fec76cf8ab66b261d4edca5c50a8c9e32",
        }
    )

    def check_reachable(self) -> None:
        if not tfds_omniglot.builder(self._data_dir_root).is_prepared():
            super().check_reachable()

    def read_source(self, dl_manager: tfds.download.DownloadManager) -> dict[str, np.ndarray]:
        if self.source is None:
            return tfds_omniglot.read_tfds_omniglot(self._data_dir_root, self.COUNTS)
        return {
            split: read_drawings(self.source / file, count, self.DRAWINGS[split] if self.verify else None)
            for (split, count), file in zip(self.COUNTS.items(), self.FILES, strict=True)
        }


def load_images(
    builder_class: type[Drawings], name: str, data_dir: str | os.PathLike | None, verify: bool, ways_out: str
) -> dict[str, np.ndarray]:
    """Read a set from its prepared copy, which is made first if there is none.

    Raw files are prepared in the default folder of tensorflow-datasets, because their own may be read-only, and
    prepared again when their bytes change. Without raw files `data_dir` is the folder of tensorflow-datasets.

    Args:
        builder_class: The builder of the set.
        name: The name of the set, for errors.
        data_dir: The folder with the raw files, in it or in its folder `omniglot`.
        verify: Whether raw files must hold what was published.
        ways_out: What an error about a failed download suggests.

    Returns:
        The images of each split, `[n, 784]`, in the order of their source.

    Raises:
        ValueError: If a raw file or the prepared copy is damaged, or a raw file not the published one.
        OSError: If the prepared copy cannot be written.
        DatasetUnavailableError: If there is nothing on disk and the download fails.
    """
    folder = raw_files.find_folder(data_dir, "omniglot", builder_class.FILES)
    if folder is not None:
        key = raw_files.checksum(*(folder / file for file in builder_class.FILES))
        published = key == builder_class.CHECKSUM
        # What was not verified has a copy of its own: one that is there under the plain key was.
        version = None if published else key if verify else f"{key}-not-verified"
        builder = builder_class(source=folder, key=version, verify=verify)
        _prepare_from_raw(builder)
    else:
        builder = builder_class(data_dir=data_dir)
        try:
            if not builder.is_prepared():
                builder.check_reachable()
                _prepare(builder)
        except Exception as error:  # whatever a network or a disk can answer
            raise DatasetUnavailableError(_unavailable(builder, name, data_dir, error, ways_out)) from error
    return {split: read_split(builder, split) for split in ("train", "test")}


def _prepare_from_raw(builder: Drawings) -> None:
    try:
        _prepare(builder)
    except OSError as error:
        raise OSError(
            f"cannot write the prepared copy to {builder.data_path} ({error}); set the environment variable "
            "TFDS_DATA_DIR to a folder that can be written to"
        ) from error


def _prepare(builder: Drawings) -> None:
    if builder.is_prepared():
        return
    config = tfds.download.DownloadConfig(try_download_gcs=False)
    with contextlib.redirect_stdout(sys.stderr):  # what it prints is progress, not a result
        builder.download_and_prepare(download_config=config)


def read_split(builder: Drawings, split: str) -> np.ndarray:
    """Read a split of a prepared copy.

    It parses many records at once, which takes a tenth of the time of `builder.as_dataset`.

    Args:
        builder: The builder, prepared.
        split: "train" or "test".

    Returns:
        `[n, 784]`, in the order of the source.

    Raises:
        ValueError: If the copy is damaged.
    """
    info = builder.info.splits[split]
    parts = []
    try:
        for records in tf.data.TFRecordDataset([str(path) for path in info.filepaths]).batch(_READ_AT_ONCE):
            pixels = tf.io.parse_example(records, {"image": tf.io.FixedLenFeature([], tf.string)})["image"]
            parts.append(tf.io.decode_raw(pixels, builder.DTYPE).numpy())
        images = np.concatenate(parts)
        if images.shape != (info.num_examples, 784):
            raise ValueError(f"{images.shape[0]} images in place of {info.num_examples}")
    except (tf.errors.OpError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"the prepared copy in {builder.data_path} is damaged ({reason}); remove the folder to make it again"
        ) from error
    return images


def _unavailable(
    builder: Drawings, name: str, data_dir: str | os.PathLike | None, error: Exception, ways_out: str
) -> str:
    files = " and ".join(builder.FILES)
    raw = "" if data_dir is None else f"no {files} in data_dir={str(data_dir)!r}, and "
    reason = " ".join(str(error).split())
    return (
        f"dataset '{name}' is not available: {raw}it was neither found prepared in {builder.data_path} nor could "
        f"{builder.URL} be downloaded ({type(error).__name__}: {reason}). Use --data_dir=DIR with DIR/omniglot/"
        f"{' and DIR/omniglot/'.join(builder.FILES)}, or {ways_out}"
    )
