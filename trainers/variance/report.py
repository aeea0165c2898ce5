"""What `trainers.variance` prints and writes about the methods: a line, variance.csv, summary.json."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from typing import Any

import keras

from rebar_tf.callbacks import Logs, ReportTable, Row, global_step, read_table
from rebar_tf.diagnostics.compared_variance import log_name
from trainers.run.summary import steps_per_second
from trainers.variance.settings import Settings

WHOLE = "all"  # the part that is the whole model
COLUMNS = ("step", "method", "part", "log_variance", "signal_to_noise", "temperature")
_TEXT, _NUMBERS = COLUMNS[1:3], COLUMNS[3:]


def rows_of(model: keras.Model, logs: dict[str, float]) -> Iterator[Row]:
    """One report as rows with the columns `COLUMNS`: of each method the whole model, then its parts.

    Args:
        model: a `rebar_tf.diagnostics.EstimatorComparison`.
        logs: what it logged.
    """
    for method in model.models:
        for part in (None, *model.parts):
            names = {column: log_name(column, method, part) for column in _NUMBERS}
            values = {column: logs[name] for column, name in names.items() if name in logs}
            yield {"step": global_step(model), "method": method, "part": part or WHOLE, **values}


class VarianceLine(keras.callbacks.Callback):
    """Prints each method's log variance for each epoch, below the progress line."""

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        rows = [row for row in rows_of(self.model, logs or {}) if row["part"] == WHOLE]
        texts = [f"{row['method']} {row['log_variance']:.2f}" for row in rows]
        print("    log variance  " + "  ".join(texts), flush=True)


class VarianceCsv(ReportTable):
    """Appends each epoch's report to a csv file with the columns `COLUMNS`; a cell is empty where there is no number.

    Args:
        path: of the file.
        every: steps of a whole report; a last, shorter one is removed when the run continues.
        origin: a line about where the file comes from, which is its first line, after a `#`.
    """

    def __init__(self, path: str | os.PathLike, every: int, origin: str):
        super().__init__(path, COLUMNS, every, _TEXT, origin)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        self.append(rows_of(self.model, logs or {}))


def read_rows(path: str | os.PathLike) -> list[Row]:
    """Reads a file that `VarianceCsv` wrote; see `rebar_tf.callbacks.read_table`."""
    return read_table(path, COLUMNS, _TEXT)


def summarize(settings: Settings, curve: list[dict[str, float]], rows: list[Row]) -> dict[str, Any]:
    """The summary of a finished comparison.

    Args:
        settings: of the comparison.
        curve: the trajectory's reports, as `rebar_tf.callbacks.read_curve` reads them.
        rows: the methods' reports, as `read_rows` reads them.

    Returns:
        `methods`, from each one's name and then that of the part to the numbers of the last report; `bound` and
        `valid_bound` there, in nats; `steps`; `steps_per_second` of training alone, None if too short to measure;
        `flags`.
    """
    methods: dict[str, dict[str, dict[str, float | None]]] = {}
    for row in rows:
        if row["step"] == settings.experiment.num_steps:
            # JSON has no word for NaN or infinity, which no variance at all has.
            numbers = {name: row[name] if math.isfinite(row[name]) else None for name in _NUMBERS if name in row}
            methods.setdefault(row["method"], {})[row["part"]] = numbers
    return {
        "methods": methods,
        "bound": curve[-1]["bound"],
        "valid_bound": curve[-1]["valid_bound"],
        "steps": settings.experiment.num_steps,
        "steps_per_second": steps_per_second(curve),
        "flags": settings.flags(),
    }
