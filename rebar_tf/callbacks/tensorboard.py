"""Reports as TensorBoard scalars."""

from __future__ import annotations

import os
import pathlib
from typing import TYPE_CHECKING

import keras

from rebar_tf.callbacks.reports import Logs, global_step, report
from rebar_tf.extras import needs_extra

if TYPE_CHECKING:
    from rebar_tf.callbacks.event_file import EventFile


class TensorBoardScalars(keras.callbacks.Callback):
    """Writes each epoch's report as TensorBoard scalars, at the global step.

    Keras's own TensorBoard callback counts epochs, and starts at 0 again when training resumes. Here points of steps
    that are repeated are removed first, so that each step stands once.

    Args:
        log_dir: folder of the event files, which is made where there is none.
        every: steps of a full report. When training resumes, the point of a shorter last report is removed.

    Raises:
        ImportError: where TensorBoard is not installed, which the extra `trainers` brings.

    Example:
    >>> import rebar_tf as rt
    >>> callback = rt.callbacks.TensorBoardScalars("runs/rebar/tensorboard")
    """

    def __init__(self, log_dir: str | os.PathLike, every: int = 1):
        super().__init__()
        with needs_extra("trainers", "rt.callbacks.TensorBoardScalars"):
            from rebar_tf.callbacks import event_file  # TensorBoard with it
        self._file = event_file
        self.log_dir, self.every = pathlib.Path(log_dir), every
        self._events: EventFile | None = None

    def on_train_begin(self, logs: Logs = None) -> None:
        self.log_dir.mkdir(parents=True, exist_ok=True)
        if self._events is None:
            self._file.remove_repeated(self.log_dir, global_step(self.model), self.every)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        if self._events is None:
            self._events = self._file.EventFile(self.log_dir)
        self._events.add(global_step(self.model), report(logs or {}))
