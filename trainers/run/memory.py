"""Memory that compiling took, given back: a compiler's work space is a fifth of what a training process holds."""

from __future__ import annotations

import ctypes
import sys

import keras


def give_back_freed_memory() -> None:
    """Gives the system what this process has freed, which glibc else keeps for later; elsewhere nothing."""
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)


class GiveBackMemory(keras.callbacks.Callback):
    """Gives back what compiling the training step took, after the first program of each `fit`."""

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._is_first = True

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if self._is_first:
            self._is_first = False
            give_back_freed_memory()
