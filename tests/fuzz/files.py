"""Damaged files of every format that is read: the reader returns what the file holds, or names it in a ValueError."""

import gzip
import pathlib
import struct
import tempfile

import numpy as np
from hypothesis import strategies as st

from rebar_tf.datasets.sources import drawings, idx, larochelle

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (3, 784), dtype=np.uint8)


def read_amat(path):
    return larochelle.read_amat(path, 2)


def read_idx(path):
    return idx.read_idx_images(path, 3)


def read_zip(path):
    return drawings.read_drawings(path, 2)


def whole_zip():
    import io
    import zipfile

    import tensorflow as tf

    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(2):
            image = RNG.integers(0, 2, (105, 105, 1), dtype=np.uint8) * 255
            archive.writestr(f"images_background/A/character01/0001_0{i}.png", tf.io.encode_png(image).numpy())
    return stream.getvalue()


WHOLE = {
    "idx": (gzip.compress(struct.pack(">IIII", 2051, 3, 28, 28) + PIXELS.tobytes()), read_idx),
    "amat": (b"\n".join(b" ".join(b"%d" % (p > 127) for p in row) for row in PIXELS[:2]) + b"\n", read_amat),
    "zip": (whole_zip(), read_zip),
}


DAMAGE = st.tuples(
    st.sampled_from(["change", "cut", "insert", "remove", "repeat"]),
    st.integers(0, 2**16),
    st.binary(min_size=1, max_size=8),
)
DAMAGES = st.tuples(st.sampled_from(sorted(WHOLE)), st.lists(DAMAGE, max_size=4))


def damaged(content, damages):
    """The bytes with some changed, cut off, put in, taken out, or repeated."""
    content = bytearray(content)
    for kind, place, junk in damages:
        place %= len(content) + 1
        if kind == "change":
            content[place : place + len(junk)] = junk
        elif kind == "cut":
            del content[place:]
        elif kind == "insert":
            content[place:place] = junk
        elif kind == "remove":
            del content[place : place + 40]
        else:
            content += content[place : place + 1000]
    return bytes(content)


def check_damaged_file(case):
    """What comes is a whole array of the right shape, or a ValueError that names the file."""
    name, damages = case
    whole, read = WHOLE[name]
    content = damaged(whole, damages)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "file")
        path.write_bytes(content)
        try:
            images = read(path)
        except ValueError as error:
            if str(path) not in str(error):
                raise
            return
        assert images.shape == (len(images), 784)
        if content == whole:
            path.write_bytes(whole)
            np.testing.assert_array_equal(images, read(path))
