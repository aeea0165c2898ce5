"""Damaged files of every format that is read: the reader returns what the file holds, or names it in a ValueError."""

import gzip
import io
import json
import pathlib
import struct
import tempfile
import zipfile

import numpy as np
import scipy.io
import tensorflow as tf
from hypothesis import strategies as st
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.record_writer import RecordWriter

from rebar_tf import callbacks
from rebar_tf.callbacks import event_file, report_table
from rebar_tf.datasets.sources import chardata, drawings, idx, larochelle
from trainers.common.errors import BadInput
from trainers.common.experiment import Experiment
from trainers.run.workdir import Workdir

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (3, 784), dtype=np.uint8)
INKS = RNG.integers(0, 2, (2, 105, 105), dtype=np.uint8) * 255
GREYS = RNG.uniform(size=(3, 784)).astype(np.float32)
IDX = struct.pack(">IIII", 2051, 3, 28, 28) + PIXELS.tobytes()


def images(read):
    """Checks that the reader's images are flat."""

    def checked(path):
        found = read(path)
        assert found.shape == (len(found), 784)
        return found.tolist()

    return checked


def whole_zip(names, contents):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in zip(names, contents, strict=True):
            archive.writestr(name, content)
    return stream.getvalue()


def whole_drawings():
    names = [f"images_background/A/character01/0001_0{i}.png" for i in range(2)]
    return whole_zip(names, [tf.io.encode_png(image[..., np.newaxis]).numpy() for image in INKS])


def whole_matrices():
    stream = io.BytesIO()
    columns = {"data": GREYS[:2], "testdata": GREYS[2:]}
    scipy.io.savemat(stream, {key: by_columns(rows).T for key, rows in columns.items()}, do_compression=True)
    return stream.getvalue()


def by_columns(rows):
    """Images whose pixels go down the columns first, as MATLAB's do."""
    return rows.reshape(-1, 28, 28).transpose(0, 2, 1).reshape(-1, 784)


def whole_events():
    stream = io.BytesIO()
    RecordWriter(stream).write(Event(step=3).SerializeToString())
    return 2 * stream.getvalue()


def read_matrices(path):
    found = chardata.read_chardata(path, {"train": 2, "test": 1})
    assert {split: image.shape for split, image in found.items()} == {"train": (2, 784), "test": (1, 784)}
    return [image.tolist() for image in found.values()]


def read_table(path):
    rows = report_table.read_table(path, COLUMNS)
    assert all(type(row["step"]) is int and set(row) <= set(COLUMNS) for row in rows)
    return rows


def read_flags(path):
    path.rename(path.with_name("flags.json"))
    try:
        found = Workdir(path.parent).stored_flags()
    finally:
        path.with_name("flags.json").rename(path)
    assert set(found) >= {"num_steps"}
    return found


def read_checkpoint(path):
    return callbacks.last_good(path) == path


def read_events(path):
    """Of TensorBoard: what can be read of them, and what is wrong."""
    found, damage = event_file._read(path)
    assert damage is None or damage
    return [event.step for event in found]


COLUMNS = ("step", "bound", "temperature")
TABLE = b"# run\n" + b",".join(name.encode() for name in COLUMNS) + b"\n500,-120.5,0.5\n1000,-110.25,\n"
TEXT = b"\n".join(b" ".join(b"%d" % (p > 127) for p in row) for row in PIXELS[:2]) + b"\n"
MODEL = ("config.json", "metadata.json", "model.weights.h5")
WHOLE = {
    "idx": (gzip.compress(IDX), images(lambda path: idx.read_idx_images(path, 3)), PIXELS.tolist()),
    "amat": (TEXT, images(lambda path: larochelle.read_amat(path, 2)), (PIXELS[:2] > 127).tolist()),
    "zip": (whole_drawings(), images(lambda path: drawings.read_drawings(path, 2)), drawings.shrink(INKS, 2).tolist()),
    "mat": (whole_matrices(), read_matrices, [GREYS[:2].tolist(), GREYS[2:].tolist()]),
    "table": (
        TABLE,
        read_table,
        [{"step": 500, "bound": -120.5, "temperature": 0.5}, {"step": 1000, "bound": -110.25}],
    ),
    "flags": (json.dumps(Experiment().flags()).encode(), read_flags, Experiment().flags()),
    "checkpoint": (whole_zip(MODEL, [RNG.bytes(300)] * 3), read_checkpoint, True),
    "events": (whole_events(), read_events, [3, 3]),
}  # by format a whole file, its reader, and what that returns
IN_A_PROCESS = {"mat"}  # read in a process of its own, which takes half a second

DAMAGE = st.tuples(
    st.sampled_from(["change", "cut", "insert", "remove", "repeat"]),
    st.integers(0, 2**16),
    st.binary(min_size=1, max_size=8),
)


def damages(names):
    """Files of these formats, each with up to four kinds of damage."""
    return st.tuples(st.sampled_from(sorted(names)), st.lists(DAMAGE, max_size=4))


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
    """What comes is a result of the right form, or an error that names the file, and none if nothing is damaged."""
    name, found = case
    whole, read, expected = WHOLE[name]
    content = damaged(whole, found)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "file")
        path.write_bytes(content)
        try:
            result = read(path)
        except (ValueError, BadInput) as error:
            assert content != whole
            if path.name not in str(error) and folder not in str(error):
                raise
            return
        if content == whole:
            assert result == expected
