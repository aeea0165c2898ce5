"""A bar that follows the steps of a training, for a terminal."""

from __future__ import annotations

import sys

import keras
import tqdm

from rebar_tf.callbacks import global_step


class ProgressBar(keras.callbacks.Callback):
    """Shows how far the training is, how fast, and for how long still, below the lines that `write` prints.

    Args:
        num_steps: at the end of the training.
    """

    def __init__(self, num_steps: int):
        super().__init__()
        self.num_steps = num_steps
        self._bar: tqdm.tqdm | None = None

    def write(self, line: str) -> None:
        """Prints a line above the bar."""
        tqdm.tqdm.write(line)

    def on_train_begin(self, logs: dict | None = None) -> None:
        step = global_step(self.model)
        self._bar = tqdm.tqdm(
            total=self.num_steps, initial=step, unit="step", leave=False, dynamic_ncols=True, file=sys.stdout
        )

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if self._bar is not None:
            self._bar.update(global_step(self.model) - self._bar.n)

    def on_train_end(self, logs: dict | None = None) -> None:
        self.close()

    def close(self) -> None:
        """Takes the bar away."""
        if self._bar is not None:
            self._bar.close()
