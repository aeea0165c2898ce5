"""Training steps per second."""

from __future__ import annotations

import time

import keras

from rebar_tf.callbacks.reports import Logs, global_step


class StepsPerSecond(keras.callbacks.Callback):
    """Adds the speed of training to each epoch's logs as `steps_per_second`.

    Without the time of compilation, validation and callbacks.

    Put it before the callbacks that report. The first program of a `fit` is not counted, because it is
    compiled. If the first epoch runs no other program, it has no `steps_per_second`.

    Example:
    >>> import rebar_tf as rt
    >>> callbacks = [rt.callbacks.StepsPerSecond(), rt.callbacks.ProgressLine(num_steps=3000)]
    """

    def on_train_begin(self, logs: Logs = None) -> None:
        self._compiled = False

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self._start()

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        if not self._compiled:
            self._compiled = True
            self._start()

    def on_test_begin(self, logs: Logs = None) -> None:
        self._paused = time.perf_counter()

    def on_test_end(self, logs: Logs = None) -> None:
        self._time += time.perf_counter() - self._paused

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        steps = global_step(self.model) - self._step
        if logs is not None and steps > 0:
            logs["steps_per_second"] = steps / max(time.perf_counter() - self._time, 1e-9)

    def _start(self) -> None:
        self._time, self._step = time.perf_counter(), global_step(self.model)
