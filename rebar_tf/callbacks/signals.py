"""Signals that stop training between two steps."""

from __future__ import annotations

import os
import signal
import types

import keras

from rebar_tf.callbacks.reports import Logs


class Interrupted(Exception):
    """Training was stopped by a signal, between two steps.

    Attributes:
        signum: the signal.
    """

    def __init__(self, signum: int):
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.signum = signum


class StopOnSignal(keras.callbacks.Callback):
    """Turns SIGINT and SIGTERM into an `Interrupted` that leaves `fit` between two programs.

    At that point the model's state is consistent, and the reports of all finished steps are written. A second signal
    ends the process at once.

    A context manager: it handles the signals only inside the block.

    Example:
    >>> import rebar_tf as rt
    >>> with rt.callbacks.StopOnSignal() as stop:
    ...     callbacks = [stop]  # model.fit(..., callbacks=[stop])
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        super().__init__()
        self._received: int | None = None

    def __enter__(self) -> StopOnSignal:
        self._old = {signum: signal.signal(signum, self._receive) for signum in self.SIGNALS}
        return self

    def __exit__(self, exception_type: type[BaseException] | None, *exception: object) -> None:
        for signum, handler in self._old.items():
            signal.signal(signum, handler)
        if exception_type is None:
            self.check()  # a signal that came after the last step

    def _receive(self, signum: int, frame: types.FrameType | None) -> None:
        if self._received is not None:
            os.write(2, b"stopped at once by a second signal; what is saved is the last checkpoint, if there is one\n")
            os._exit(128 + signum)
        self._received = signum

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        self.check()

    def check(self) -> None:
        """Raises `Interrupted` if a signal was received."""
        if self._received is not None:
            raise Interrupted(self._received)
