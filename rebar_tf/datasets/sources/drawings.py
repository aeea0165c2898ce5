"""The original Omniglot drawings: zip files of PNG images, brought to 28x28."""

import hashlib
import pathlib
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
import tqdm

from rebar_tf.datasets.sources.raw_files import check_sum

SIDE = 105
_SMALL_SIDE = 28
_DRAWING = re.compile(r"images_\w+/[^/]+/character\d+/\d+_\d+\.png")
_CHUNK = 1000
_MOST_BYTES = 100_000  # of a drawing unpacked; the largest has some 500
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_SIZE = struct.Struct(">16xII")  # where a PNG file says its width and height


def read_drawings(path: pathlib.Path, count: int, sha256: str | None = None) -> np.ndarray:
    """Read the drawings of a zip file without unpacking it to disk.

    Args:
        path: The file.
        count: The number of drawings that the file must hold.
        sha256: What the SHA-256 of all drawings must be, a bit a pixel; None is anything.

    Returns:
        `[count, 784]`, uint8, 255 is ink; sorted by the names in the zip file: alphabet, character, drawing.

    Raises:
        ValueError: If the file is not a whole zip file of just those drawings, or they have another sum.
    """
    expected = f"expected a zip file of {count} PNG images of {SIDE}x{SIDE} pixels, ALPHABET/characterNN/NNNN_NN.png"
    with open(path, "rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                names = sorted(filter(_DRAWING.fullmatch, archive.namelist()))
                if len(names) != count:
                    raise ValueError(f"{path} has {len(names)} drawings; {expected}")
                digest = hashlib.sha256()
                small = shrink(_summed(_decoded(archive, names, path, expected), digest), count)
        # zipfile says NotImplementedError to an unknown compression, RuntimeError to an encrypted file and OSError to
        # an entry that starts before the file, which is what damaged headers look like.
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{path} is truncated, damaged or no zip file ({reason}); {expected}") from error
    if sha256 is not None:
        check_sum(path, "SHA-256 of all drawings", digest.hexdigest(), sha256)
    return small


def _summed(images: Iterable[np.ndarray], digest: Any) -> Iterator[np.ndarray]:
    for image in images:
        digest.update(np.packbits(image != 0))  # ink or paper, whatever way the file says it
        yield image


def _decoded(archive: zipfile.ZipFile, names: list[str], path: pathlib.Path, expected: str) -> Iterator[np.ndarray]:
    for name in tqdm.tqdm(names, desc=f"Reading {path.name}", unit=" drawings", leave=False):
        if archive.getinfo(name).file_size > _MOST_BYTES:
            raise ValueError(f"{path}: {name} unpacks to more than {_MOST_BYTES} bytes; {expected}")
        png = archive.read(name)
        if not png.startswith(_PNG_SIGNATURE) or len(png) < _PNG_SIZE.size:
            raise ValueError(f"{path}: {name} is no PNG image; {expected}")
        columns, rows = _PNG_SIZE.unpack_from(png)
        if (rows, columns) != (SIDE, SIDE):  # before room is made for them
            raise ValueError(f"{path}: {name} has {rows}x{columns} pixels; {expected}")
        try:
            image = tf.io.decode_png(png, channels=1).numpy()[..., 0]
        except tf.errors.InvalidArgumentError:
            raise ValueError(f"{path}: {name} is no PNG image; {expected}") from None
        yield image


def shrink(images: Iterable[np.ndarray], count: int) -> np.ndarray:
    """Bring drawings to 28x28, with the ink as 1.

    A new pixel is the mean over the 3.75 x 3.75 old ones below it, each weighted by the part of it that is covered.
    This area filter is an anti-aliased one by itself.

    Args:
        images: `count` images `[105, 105]`, uint8, where ink is 0 and paper 255.
        count: The number of images.

    Returns:
        `[count, 784]`, uint8, 255 is ink.

    Example:
        >>> paper = np.full([105, 105], 255, np.uint8)
        >>> shrink([paper, 0 * paper], count=2)[:, 0]
        array([  0, 255], dtype=uint8)
    """
    images = iter(images)
    small = np.empty([count, _SMALL_SIDE, _SMALL_SIDE], np.uint8)
    for start in range(0, count, _CHUNK):
        rows = small[start : start + _CHUNK]
        paper = np.stack([next(images) for _ in rows])[..., np.newaxis]
        rows[...] = np.rint(255 - tf.image.resize(paper, (_SMALL_SIDE, _SMALL_SIDE), "area"))[..., 0]
    return small.reshape(count, -1)
