"""Larochelle's fixed binarization of MNIST, from its text files, compressed or not, or through tensorflow-datasets."""

from __future__ import annotations

import gzip
import hashlib
import os
import pathlib
import zlib

import numpy as np

from rebar_tf.datasets.sources.raw_files import check_sum
from rebar_tf.datasets.sources.tfds_images import Download, read_tfds_images

_COUNTS = {"train": 50_000, "valid": 10_000, "test": 10_000}
FILES = {split: f"binarized_mnist_{split}.amat" for split in _COUNTS}
SHA256 = {
    "train": "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d",
    "valid": "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2",
    "test": "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c",
}  # of the text, as tensorflow-datasets has them
_TFDS_SPLITS = {"train": "train", "valid": "validation", "test": "test"}
_URL = "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/"
_UNITS = 784
_SPACES = b" \t\r"


def mnist_larochelle_splits(
    data_dir: str | os.PathLike | None, verify: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read the binarized digits on which many papers report bounds.

    To read the text takes no longer than to read a copy of it would, so that none is kept.

    Args:
        data_dir: The folder with `binarized_mnist_{train,valid,test}.amat`, each as it is or with `.gz`, in it or in
            its folder `mnist`; else the folder of tensorflow-datasets. None is the latter's default folder.
        verify: Whether the files must be the published ones.

    Returns:
        The training, validation and test split: `[50000, 784]`, `[10000, 784]` and `[10000, 784]`, boolean.

    Raises:
        ValueError: If one file is there without the others, or one is damaged or not the published one.
        DatasetUnavailableError: If there is nothing on disk and the download fails.
    """
    files = find_files(data_dir)
    if files is None:
        images = _from_tensorflow_datasets(data_dir)
    else:
        images = {
            split: read_amat(files[split], count, SHA256[split] if verify else None) for split, count in _COUNTS.items()
        }
    return images["train"], images["valid"], images["test"]


def find_files(data_dir: str | os.PathLike | None) -> dict[str, pathlib.Path] | None:
    """Find the three files, compressed or not.

    Args:
        data_dir: The folder to look in, first in its folder `mnist`; None means that there are no files.

    Returns:
        The path of each split; None if none of the files is there.

    Raises:
        ValueError: If some of the files are there without the others.
    """
    if data_dir is None:
        return None
    for folder in (pathlib.Path(data_dir) / "mnist", pathlib.Path(data_dir)):
        found = {
            split: path
            for split, name in FILES.items()
            for path in (folder / f"{name}.gz", folder / name)  # the latter counts where both are there
            if path.is_file()
        }
        missing = [name for split, name in FILES.items() if split not in found]
        if not missing:
            return found
        if found:
            raise ValueError(
                f"data_dir must hold {' and '.join(FILES.values())}, all of them, as they are or with .gz. "
                f"Received: data_dir={str(data_dir)!r}, where {folder} lacks {' and '.join(missing)}"
            )
    return None


def read_amat(path: pathlib.Path, count: int, sha256: str | None = None) -> np.ndarray:
    """Read the binary images of a text file, one a line, each pixel a 0 or a 1.

    Args:
        path: The file, compressed if its name ends in `.gz`.
        count: The number of images that the file must hold.
        sha256: What the SHA-256 of the text must be; None is anything.

    Returns:
        `[count, 784]`, boolean, in file order.

    Raises:
        ValueError: If the file does not hold just those images, or has another sum.
    """
    text = _read_text(path)
    digits = text.translate(None, _SPACES)  # every pixel is a single character, so the space between them can go
    digits += b"" if digits.endswith(b"\n") else b"\n"
    characters = np.frombuffer(digits, np.uint8)
    if len(digits) != count * (_UNITS + 1):
        raise ValueError(_complaint(path, digits, count))
    lines = characters.reshape(count, _UNITS + 1)
    images = lines[:, :_UNITS] - np.uint8(ord("0"))
    if images.max() > 1 or not (lines[:, _UNITS] == ord("\n")).all():
        raise ValueError(_complaint(path, digits, count))
    if sha256 is not None:
        check_sum(path, "SHA-256", hashlib.sha256(text).hexdigest(), sha256)
    return images.astype(bool)


def _read_text(path: pathlib.Path) -> bytes:
    content = path.read_bytes()
    if path.suffix != ".gz":
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is cut short or damaged ({error}); expected a whole file of gzip") from error


def _complaint(path: pathlib.Path, digits: bytes, count: int) -> str:
    """What is wrong with a text without spaces that is not `count` lines of digits."""
    expected = f"expected {count} lines of {_UNITS} digits 0 or 1"
    lines = digits.split(b"\n")[:-1]
    for number, line in enumerate(lines, start=1):
        if len(line) != _UNITS or line.strip(b"01"):
            if lines != [b""]:
                return f"{path}: line {number} does not hold {_UNITS} digits 0 or 1; {expected}"
            lines.pop()  # of an empty file
    found = f"more than {count}" if len(lines) > count else len(lines)
    return f"{path} has {found} lines; {expected}"


def _from_tensorflow_datasets(data_dir: str | os.PathLike | None) -> dict[str, np.ndarray]:
    download = Download(
        dataset="mnist_larochelle",
        builder="binarized_mnist:1.*.*",
        url=_URL + FILES["train"],
        counts={_TFDS_SPLITS[split]: count for split, count in _COUNTS.items()},
        raw_file=FILES["train"],
        ways_out="Use --data_dir=DIR with DIR/mnist/binarized_mnist_{train,valid,test}.amat or .amat.gz, from "
        f"{_URL}, or --dataset=mnist_5k, which needs none",
    )
    images = read_tfds_images(download, data_dir)
    return {split: images[name].astype(bool) for split, name in _TFDS_SPLITS.items()}
