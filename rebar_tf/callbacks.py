"""Keras callbacks that watch and save the training of a model with stochastic layers.

One epoch of `fit` is one report: with `steps_per_epoch=500` a line, a TensorBoard point and a row of the
curve appear every 500 steps. The step of a report is the optimizer's, so curves go on where they stopped when
training is resumed.

A report is a dictionary of floats: `bound` (the negative of the loss, in nats for a belief network),
`log_grad_variance`, what the estimator's `diagnostics` say (`temperature`), and what earlier callbacks of the
list put into the logs (`valid_bound`, `steps_per_second`).
"""

from __future__ import annotations

import contextlib
import csv
import math
import os
import pathlib
import signal
import time
import types
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

Logs = dict[str, float] | None

CURVE_COLUMNS = ("step", "bound", "valid_bound", "log_grad_variance", "temperature", "steps_per_second")


def global_step(model: keras.Model) -> int:
    """The number of training steps that the model has done, those of earlier calls of `fit` included."""
    return int(model.optimizer.iterations)


def report(logs: dict[str, float]) -> dict[str, float]:
    """What an epoch's logs say, with the bound in place of the loss."""
    return {
        ("bound" if name == "loss" else name): (-value if name == "loss" else value) for name, value in logs.items()
    }


class StepsPerSecond(keras.callbacks.Callback):
    """Puts `steps_per_second` into each epoch's logs: of training alone, without compilation and callbacks.

    Put it before the callbacks that report. The first program of a `fit` compiles, so it is left out of the
    rate; where it is all that the first epoch ran, that epoch has no rate.

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

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        steps = global_step(self.model) - self._step
        if logs is not None and steps > 0:
            logs["steps_per_second"] = steps / max(time.perf_counter() - self._time, 1e-9)

    def _start(self) -> None:
        self._time, self._step = time.perf_counter(), global_step(self.model)


class ValidationBound(keras.callbacks.Callback):
    """Puts `valid_bound`, the mean bound of held-out examples in nats, into the logs of each epoch.

    Put it before the callbacks that report. Its samples are the same at every epoch.

    Args:
        x: `[examples, ...]` inputs, a NumPy array.
        y: targets likewise, or None.
        num_samples: samples of the bound, 1 for the bound that is trained.

    Example:
    >>> import numpy as np, rebar_tf as rt
    >>> callback = rt.callbacks.ValidationBound(np.zeros([10, 784], "float32"))
    """

    def __init__(self, x: np.ndarray, y: np.ndarray | None = None, num_samples: int = 1):
        super().__init__()
        self.x, self.y, self.num_samples = x, y, num_samples

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        if logs is not None:
            logs["valid_bound"] = self.value()

    def value(self) -> float:
        """The mean bound under the model as it is now, in nats."""
        return float(np.mean(self.model.bound(self.x, self.y, num_samples=self.num_samples), dtype=np.float64))


_LABELS = {
    "bound": "bound {:.2f}",
    "valid_bound": "valid {:.2f}",
    "log_grad_variance": "log grad variance {:.2f}",
    "temperature": "temperature {:.3f}",
    "steps_per_second": "{:.0f} steps/s",
}


class ProgressLine(keras.callbacks.Callback):
    """Prints one line for each epoch: step, bounds, log gradient variance, temperature, speed, time to go.

    Args:
        num_steps: steps at the end of training, for the time to go; None leaves it out.
        print_fn: called with the line.

    Example:
    >>> import rebar_tf as rt
    >>> callback = rt.callbacks.ProgressLine(num_steps=3000)
    """

    def __init__(self, num_steps: int | None = None, print_fn: Callable[[str], None] | None = None):
        super().__init__()
        self.num_steps = num_steps
        self.print_fn = print_fn or (lambda line: print(line, flush=True))

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


class TensorBoardScalars(keras.callbacks.Callback):
    """Writes each epoch's report as TensorBoard scalars, at the global step.

    Keras's own TensorBoard callback counts epochs, from 0 again when training is resumed.

    Args:
        log_dir: folder of the event files; created with the first report.

    Example:
    >>> import rebar_tf as rt
    >>> callback = rt.callbacks.TensorBoardScalars("runs/rebar/tensorboard")
    """

    def __init__(self, log_dir: str | os.PathLike):
        super().__init__()
        self.log_dir = os.fspath(log_dir)
        self._writer = None

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        if self._writer is None:
            self._writer = tf.summary.create_file_writer(self.log_dir)
        with self._writer.as_default(step=global_step(self.model)):
            for name, value in report(logs or {}).items():
                tf.summary.scalar(name, value)
        self._writer.flush()  # so that the curve is there while training goes on, and after an interruption


class CurveCsv(keras.callbacks.Callback):
    """Appends each epoch's report to a csv file with the columns `CURVE_COLUMNS`; empty where it lacks one.

    Training that goes on from a checkpoint repeats the steps after it: rows after the model's step are taken
    out first.

    Args:
        path: of the file.
        every: steps of a whole report. A last, shorter one is taken out when training goes on, as the whole
            one follows.

    Example:
    >>> import rebar_tf as rt
    >>> callback = rt.callbacks.CurveCsv("runs/rebar/curve.csv", every=500)
    """

    def __init__(self, path: str | os.PathLike, every: int = 1):
        super().__init__()
        self.path, self.every = pathlib.Path(path), every

    def on_train_begin(self, logs: Logs = None) -> None:
        step = global_step(self.model)
        rows = [row for row in read_curve(self.path) if row["step"] <= step and row["step"] % self.every == 0]
        with replacing(self.path) as temporary, open(temporary, "w", newline="") as file:
            csv.writer(file).writerows([CURVE_COLUMNS, *(_cells(row) for row in rows)])

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        row = {"step": global_step(self.model), **report(logs or {})}
        with open(self.path, "a", newline="") as file:
            csv.writer(file).writerow(_cells(row))


def _cells(row: dict[str, float]) -> list[str]:
    return [str(row[name]) if name in row else "" for name in CURVE_COLUMNS]


def read_curve(path: str | os.PathLike) -> list[dict[str, float]]:
    """Reads a file that `CurveCsv` wrote.

    Args:
        path: of the file.

    Returns:
        One dictionary a row, without the cells that are empty: `step` is an int, the rest are floats. A last
        line that was cut off is left out. No rows where there is no file.
    """
    if not os.path.exists(path):
        return []
    with open(path, newline="") as file:
        # A process that was killed while it wrote leaves a line without its end.
        lines = [line for line in file if line.endswith("\n")]
    rows = [{name: float(cell) for name, cell in row.items() if cell} for row in csv.DictReader(lines)]
    return [{**row, "step": int(row["step"])} for row in rows]


class Checkpoint(keras.callbacks.Callback):
    """Saves the whole model every few minutes and at the end; a file that was written whole is always there.

    `keras.models.load_model(path)` brings back weights, estimator, optimizer, step counters and the averages
    of the current report; training that goes on from there with the data of the step repeats the one that
    never stopped.

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
        # Between two programs, and after the reports of the steps done: not at a batch's end, where the
        # report of an epoch that ends there is not yet written.
        if time.monotonic() - self._time >= 60.0 * self.minutes:
            self.save()

    def on_train_end(self, logs: Logs = None) -> None:
        self.save()

    def save(self) -> None:
        """Replaces the checkpoint by the model as it is now; if that fails the old one stays."""
        with replacing(self.path) as temporary:
            self.model.save(temporary)
        self._time = time.monotonic()


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives a temporary path to write, which takes the place of `path` unless the block raises an error."""
    # One name, so that what a killed process left is overwritten; the same ending, as Keras takes no other.
    temporary = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


class ContinueReport(keras.callbacks.Callback):
    """Lets a report that a checkpoint cut in two go on, as if training had not stopped.

    `fit` starts every epoch with fresh averages. Where training goes on within a report, this puts back those
    that the checkpoint brought, so that the report is the one of all its steps.

    Args:
        every: steps of a report.

    Example:
    >>> import rebar_tf as rt
    >>> callback = rt.callbacks.ContinueReport(every=500)
    """

    def __init__(self, every: int):
        super().__init__()
        self.every = every
        self._averages = []

    def on_train_begin(self, logs: Logs = None) -> None:
        if global_step(self.model) % self.every:
            self._averages = [v.numpy() for metric in self.model.metrics for v in metric.variables]

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        if self._averages:
            variables = [v for metric in self.model.metrics for v in metric.variables]
            for variable, value in zip(variables, self._averages, strict=True):
                variable.assign(value)
        self._averages = []


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

    There the state is whole, and the reports of all steps done are written.

    A context manager: the signals are taken over inside the block only.

    Example:
    >>> import rebar_tf as rt
    >>> with rt.callbacks.StopOnSignal() as stop:
    ...     callbacks = [stop]  # model.fit(..., callbacks=[stop])
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self):
        super().__init__()
        self._received = None

    def __enter__(self) -> StopOnSignal:
        self._old = {signum: signal.signal(signum, self._receive) for signum in self.SIGNALS}
        return self

    def __exit__(self, exception_type: type[BaseException] | None, *exception: Any) -> None:
        for signum, handler in self._old.items():
            signal.signal(signum, handler)
        if exception_type is None:
            self.check()  # a signal that came after the last step

    def _receive(self, signum: int, frame: types.FrameType | None) -> None:
        self._received = signum

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        self.check()

    def check(self) -> None:
        """Raises `Interrupted` if a signal came."""
        if self._received is not None:
            raise Interrupted(self._received)
