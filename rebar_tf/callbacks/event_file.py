"""TensorBoard's event files, written and mended."""

from __future__ import annotations

import os
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar.summary import pb as layout_summary
from tensorboard.plugins.histogram.summary_v2 import histogram_pb
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.plugins.image.metadata import create_summary_metadata as image_metadata
from tensorboard.plugins.scalar.summary_v2 import scalar_pb
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util.tensor_util import make_tensor_proto

from rebar_tf.callbacks.files import replacing

_PREFIX = "events.out.tfevents."
_POINTS = ("scalars", "histograms", "images")  # plugins whose events belong to a step of the training


class EventFile:
    """A new file of TensorBoard's events.

    Unlike TensorFlow's writer it writes at once, and a disk that is full is an OSError.

    Args:
        log_dir: its folder, an existing one: a run whose folder is removed is to stop.
        layout: charts of the page "Custom scalars", each with patterns of the tags that it draws.
        settings: of the run, for the page "HParams": numbers, texts, true or false. This and the layout are written
            with the first file of a folder.
    """

    def __init__(
        self,
        log_dir: pathlib.Path,
        layout: Mapping[str, Sequence[str]] | None = None,
        settings: Mapping[str, Any] | None = None,
    ):
        is_first = not any(path.stat().st_size for path in log_dir.glob(f"{_PREFIX}*"))
        # TensorBoard reads the files of a folder in the order of their names.
        self.path = log_dir / f"{_PREFIX}{time.time_ns()}.{os.getpid()}"
        begin = [Event(wall_time=time.time(), file_version="brain.Event:2")]
        if layout and is_first:
            begin.append(Event(wall_time=time.time(), summary=_layout(layout)))
        if settings and is_first:
            begin.append(Event(wall_time=time.time(), summary=_converted(hparams_pb(dict(settings)))))
        self._append(*begin)

    def add(
        self,
        step: int,
        values: Mapping[str, float],
        histograms: Mapping[str, np.ndarray] | None = None,
        pictures: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Writes one point of several curves, with histograms of arrays, and pictures with values from 0 to 1."""
        found = [scalar_pb(name, value) for name, value in values.items()]
        found += [histogram_pb(name, array) for name, array in (histograms or {}).items()]
        found += [_picture(name, array) for name, array in (pictures or {}).items()]
        event = Event(wall_time=time.time(), step=step)
        for summary in found:
            event.summary.MergeFrom(summary)
        self._append(event)

    def _append(self, *events: Event) -> None:
        with open(self.path, "ab") as file:
            for event in events:
                RecordWriter(file).write(event.SerializeToString())


def _layout(charts: Mapping[str, Sequence[str]]) -> Summary:
    found = [
        layout_pb2.Chart(title=title, multiline=layout_pb2.MultilineChartContent(tag=patterns))
        for title, patterns in charts.items()
    ]
    return _converted(layout_summary(layout_pb2.Layout(category=[layout_pb2.Category(title="training", chart=found)])))


def _converted(summary: Any) -> Summary:
    """A summary of TensorFlow's, made TensorBoard's."""
    return Summary.FromString(summary.SerializeToString())


def _picture(name: str, array: np.ndarray) -> Summary:
    """`[height, width]` or `[height, width, channels]`."""
    pixels = np.rint(255 * np.clip(array, 0.0, 1.0)).astype(np.uint8)
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    height, width, _ = pixels.shape
    content = [str(width).encode(), str(height).encode(), tf.io.encode_png(pixels).numpy()]
    value = Summary.Value(tag=name, metadata=image_metadata(None, None), tensor=make_tensor_proto(content))
    return Summary(value=[value])


def remove_repeated(log_dir: pathlib.Path, reached: int, every: int) -> None:
    """Removes the points that do not stand when training goes on from the step `reached`.

    Those of later steps are repeated. One at `reached` itself, between two full reports, is that of a shorter last
    report, which the full one follows. At step 0 all begins anew.

    A damaged file is set aside, in one line, and what can be read of it is kept.
    """
    for path in sorted(log_dir.glob(f"{_PREFIX}*")):
        events, damage = _read(path)
        kept = [event for event in events if not _is_point(event) or _stands(event.step, reached, every)]
        if damage is None and len(kept) == len(events):
            continue
        with replacing(path, keep=_aside(path) if damage else None) as temporary, open(temporary, "wb") as file:
            for event in kept:
                RecordWriter(file).write(event.SerializeToString())
        if damage:
            print(f"{path} is damaged ({damage}), and kept as {_aside(path).name}; {len(kept)} events before are used")


def _aside(path: pathlib.Path) -> pathlib.Path:
    """Where a damaged file goes: TensorBoard reads no file of such a name."""
    return path.with_name(path.name.replace(_PREFIX, "damaged."))


def _read(path: pathlib.Path) -> tuple[list[Event], str | None]:
    """The events of a file up to its end or a damaged one, and what is wrong there."""
    events: list[Event] = []
    try:
        for record in tf.data.TFRecordDataset(os.fspath(path)).as_numpy_iterator():
            events.append(Event.FromString(record))
    except (tf.errors.DataLossError, DecodeError) as error:
        return events, str(error).partition(" [")[0]
    return events, None


def _is_point(event: Event) -> bool:
    return any(value.metadata.plugin_data.plugin_name in _POINTS for value in event.summary.value)


def _stands(step: int, reached: int, every: int) -> bool:
    return reached > 0 and (step < reached or (step == reached and step % every == 0))
