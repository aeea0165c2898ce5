"""The training curve as a csv file: what writes it and what reads it."""

from __future__ import annotations

import csv
import os
import pathlib

import keras

from rebar_tf.callbacks.files import replacing
from rebar_tf.callbacks.reports import Logs, global_step, report

CURVE_COLUMNS = ("step", "bound", "valid_bound", "log_grad_variance", "temperature", "steps_per_second")


class CurveCsv(keras.callbacks.Callback):
    """Appends each epoch's report to a csv file with the columns `CURVE_COLUMNS`. Missing values are empty.

    Training that resumes from a checkpoint repeats the steps after it, so rows beyond the model's step are removed
    first.

    Args:
        path: of the file.
        every: steps of a full report. When training resumes, a shorter last report is removed, because the full one
            follows.

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
        One dictionary a row, without empty cells: `step` is an int, the rest are floats. A last line that was cut
        off is left out. Without a file there are no rows.
    """
    if not os.path.exists(path):
        return []
    with open(path, newline="") as file:
        # A process that is killed while it writes leaves an incomplete line.
        lines = [line for line in file if line.endswith("\n")]
    rows = [{name: float(cell) for name, cell in row.items() if cell} for row in csv.DictReader(lines)]
    return [{**row, "step": int(row["step"])} for row in rows]
