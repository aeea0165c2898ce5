"""Raw files are held to the sums of what was published, unless the user says otherwise."""

import gzip
import hashlib
import io
import struct
import zipfile

import numpy as np
import pytest
import tensorflow as tf

from rebar_tf import datasets
from rebar_tf.datasets.sources import drawings, idx, larochelle, mnist

IMAGES = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
IDX = struct.pack(">IIII", 2051, *IMAGES.shape) + IMAGES.tobytes()
WAYS_ON = "To take it all the same: --noverify_data, verify=False"


def test_an_idx_file_by_its_unpacked_bytes(tmp_path):
    path, md5 = tmp_path / "images.gz", hashlib.md5(IDX).hexdigest()
    for level in (1, 9):  # however it was packed
        path.write_bytes(gzip.compress(IDX, compresslevel=level))
        assert idx.read_idx_images(path, 3, (2, 2), md5).shape == (3, 4)
    path.write_bytes(gzip.compress(IDX[:-1] + b"\x63"))
    with pytest.raises(ValueError, match=rf"images.gz does not hold the published data: its MD5, .*{md5}.*{WAYS_ON}"):
        idx.read_idx_images(path, 3, (2, 2), md5)


def test_a_text_of_digits_by_its_bytes(tmp_path):
    line = b"0 1 " * 392 + b"\n"
    path, sha256 = tmp_path / "digits.amat", hashlib.sha256(2 * line).hexdigest()
    path.write_bytes(2 * line)
    assert larochelle.read_amat(path, 2, sha256).shape == (2, 784)
    path.write_bytes(line + b"1" + line[1:])
    with pytest.raises(ValueError, match=rf"digits.amat does not hold the published data: its SHA-256 .*{WAYS_ON}"):
        larochelle.read_amat(path, 2, sha256)


def write_drawings(path, images, compression):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for number, image in enumerate(images, start=1):
            png = tf.io.encode_png(image[..., np.newaxis]).numpy()
            archive.writestr(f"images_background/Greek/character01/0001_{number:02}.png", png)


def test_drawings_by_their_pixels(tmp_path):
    path = tmp_path / "images.zip"
    images = np.where(np.random.default_rng(0).uniform(size=[2, 105, 105]) < 0.1, 0, 255).astype(np.uint8)
    sha256 = hashlib.sha256(b"".join(np.packbits(image != 0).tobytes() for image in images)).hexdigest()
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # however they were packed
        write_drawings(path, images, compression)
        assert drawings.read_drawings(path, 2, sha256).shape == (2, 784)
    write_drawings(path, images[::-1], zipfile.ZIP_STORED)
    with pytest.raises(ValueError, match=rf"images.zip does not hold the published data: its SHA-256 .*{WAYS_ON}"):
        drawings.read_drawings(path, 2, sha256)
    assert drawings.read_drawings(path, 2).shape == (2, 784)


def test_other_digits_are_taken_where_the_user_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(mnist, "_COUNTS", {"train": 3, "test": 3})
    monkeypatch.setattr(mnist, "_NUM_VALID", 1)
    content = io.BytesIO()
    images = np.arange(3 * 784, dtype=np.uint32).astype(np.uint8)
    content.write(struct.pack(">IIII", 2051, 3, 28, 28) + images.tobytes())
    for file in mnist.RAW_FILES.values():
        (tmp_path / file).write_bytes(gzip.compress(content.getvalue()))
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte\.gz does not hold the published data"):
        datasets.load("mnist", tmp_path)
    assert datasets.load("mnist", tmp_path, verify=False).train.shape == (2, 784)
