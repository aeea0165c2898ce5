"""The file format of the raw MNIST images (idx, gzipped), with all fields of its header checked."""

import gzip
import hashlib
import pathlib
import struct
import zlib

import numpy as np

from rebar_tf.datasets.sources.raw_files import check_sum

_IMAGES_MAGIC = 0x00000803  # unsigned bytes, three dimensions
_HEADER = struct.Struct(">IIII")  # magic, images, rows, columns


def read_idx_images(
    path: pathlib.Path, count: int, size: tuple[int, int] = (28, 28), md5: str | None = None
) -> np.ndarray:
    """Read the images of a gzipped idx file.

    Args:
        path: The file.
        count: The number of images that the file must hold.
        size: The rows and columns that each image must have.
        md5: What the MD5 of the unpacked file must be; None is anything.

    Returns:
        `[count, rows * columns]`, uint8, in file order.

    Raises:
        ValueError: If the file is not a whole gzip file of just those images, or has another sum.
    """
    expected = f"expected a gzipped idx file of {count} images of {size[0]}x{size[1]} bytes"
    try:
        with gzip.open(path) as file:
            header = file.read(_HEADER.size)
            payload = file.read(count * size[0] * size[1] + 1)  # no more, whatever the file unpacks to
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is truncated or not gzip ({error}); {expected}") from error
    if len(header) < _HEADER.size:
        raise ValueError(f"{path} ends within its header; {expected}")
    magic, *shape = _HEADER.unpack(header)
    if magic != _IMAGES_MAGIC:
        raise ValueError(f"{path} has the magic number {magic}, not {_IMAGES_MAGIC}; {expected}")
    if shape != [count, *size]:
        raise ValueError(f"{path} announces {shape[0]} images of {shape[1]}x{shape[2]} bytes; {expected}")
    if len(payload) != np.prod(shape):
        found = "more" if len(payload) > np.prod(shape) else len(payload)
        raise ValueError(f"{path} has {found} bytes of images, not {np.prod(shape)}; {expected}")
    if md5 is not None:
        digest = hashlib.md5(header, usedforsecurity=False)
        digest.update(payload)  # apart: together they are a copy of all images
        check_sum(path, "MD5, unpacked,", digest.hexdigest(), md5)
    return np.frombuffer(payload, np.uint8).reshape(count, -1)
