"""Reports as TensorBoard scalars."""

from __future__ import annotations

import os

import keras
import tensorflow as tf

from rebar_tf.callbacks.reports import Logs, global_step, report


class TensorBoardScalars(keras.callbacks.Callback):
    """Writes each epoch's report as TensorBoard scalars, at the global step.

    Keras's own TensorBoard callback counts epochs, and starts at 0 again when training resumes.

    Args:
        log_dir: folder of the event files; it is created with the first report.

    Example:
    >>> import rebar_tf as rt
    >>> callback = rt.callbacks.TensorBoardScalars("runs/rebar/tensorboard")
    """

    def __init__(self, log_dir: str | os.PathLike):
        super().__init__()
        self.log_dir = os.fspath(log_dir)
        self._writer: tf.summary.SummaryWriter | None = None

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        if self._writer is None:
            self._writer = tf.summary.create_file_writer(self.log_dir)
        with self._writer.as_default(step=global_step(self.model)):
            for name, value in report(logs or {}).items():
                tf.summary.scalar(name, value)
        self._writer.flush()  # so that the curve is visible during training and after an interruption
