"""The training curve as a csv file: what writes it and what reads it."""

from __future__ import annotations

import os

from rebar_tf.callbacks.report_table import ReportTable, read_table
from rebar_tf.callbacks.reports import Logs, global_step, report

CURVE_COLUMNS = ("step", "bound", "valid_bound", "log_grad_variance", "temperature", "steps_per_second")


class CurveCsv(ReportTable):
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
        super().__init__(path, CURVE_COLUMNS, every)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        self.append([{"step": global_step(self.model), **report(logs or {})}])


def read_curve(path: str | os.PathLike) -> list[dict[str, float]]:
    """Reads a file that `CurveCsv` wrote.

    Args:
        path: of the file.

    Returns:
        One dictionary a row, without empty cells: `step` is an int, the rest are floats. A last line that was cut
        off is left out. Without a file there are no rows.

    Raises:
        ValueError: for a damaged file; names the line.
    """
    return read_table(path, CURVE_COLUMNS)
