"""Progress on the terminal, one line for each report."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import keras

from rebar_tf.callbacks.reports import Logs, global_step, report

_LABELS = {
    "bound": "bound {:.2f}",
    "valid_bound": "valid {:.2f}",
    "log_grad_variance": "log grad variance {:.2f}",
    "temperature": "temperature {:.3f}",
    "skipped_steps": "skipped {:.0f}",
    "steps_per_second": "{:.0f} steps/s",
}


class ProgressLine(keras.callbacks.Callback):
    """Prints one line for each epoch: step, bounds, log gradient variance, temperature, speed, time left.

    Under loss scaling also how many steps were skipped in all, as a gradient overflowed.

    Args:
        num_steps: steps at the end of training, to compute the time left; None leaves it out.
        print_fn: called with the line.

    Example:
    >>> import rebar_tf as rt
    >>> callback = rt.callbacks.ProgressLine(num_steps=3000)
    """

    def __init__(self, num_steps: int | None = None, print_fn: Callable[[str], None] | None = None):
        super().__init__()
        self.num_steps = num_steps
        self.print_fn = print_fn or functools.partial(print, flush=True)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        values, step = report(logs or {}), global_step(self.model)
        total = "" if self.num_steps is None else f"/{self.num_steps}"
        parts = [f"step {step:>{max(len(total) - 1, 0)}}{total}"]
        parts += [label.format(values[name]) for name, label in _LABELS.items() if name in values]
        if self.num_steps is not None and "steps_per_second" in values:
            parts.append(f"{_clock((self.num_steps - step) / values['steps_per_second'])} to go")
        self.print_fn("  ".join(parts))


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(math.ceil(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
