"""The whole model in a file, from which training goes on."""

from __future__ import annotations

import os
import pathlib
import time

import keras

from rebar_tf.callbacks.files import replacing
from rebar_tf.callbacks.reports import Logs


class Checkpoint(keras.callbacks.Callback):
    """Saves the whole model every few minutes and at the end, so that there is always a complete file.

    `keras.models.load_model(path)` restores weights, estimator, optimizer, step counters and the averages of the
    current report. Training resumes from there bit-exactly if it gets the batches that follow.

    Args:
        path: of the file, ending in `.keras`.
        minutes: between two checkpoints, > 0.

    Example:
    >>> import rebar_tf as rt
    >>> callback = rt.callbacks.Checkpoint("runs/rebar/checkpoint.keras", minutes=5)
    """

    def __init__(self, path: str | os.PathLike, minutes: float = 5.0):
        super().__init__()
        self.path, self.minutes = pathlib.Path(path), minutes
        self._time = time.monotonic()

    def on_train_begin(self, logs: Logs = None) -> None:
        self._time = time.monotonic()

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        # Between two programs, after all reports so far. At a batch's end the report of an epoch that ends there
        # is not written yet.
        if time.monotonic() - self._time >= 60.0 * self.minutes:
            self.save()

    def on_train_end(self, logs: Logs = None) -> None:
        self.save()

    def save(self) -> None:
        """Replaces the checkpoint with the current model; if that fails, the old checkpoint stays."""
        with replacing(self.path) as temporary:
            self.model.save(temporary)
        self._time = time.monotonic()
