"""The table of a sweep, results.csv: one row for each cell that has ended."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import math
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from trainers.common.errors import BadInput, one_line
from trainers.common.files import write_csv

FINISHED, DIVERGED, FAILED = "finished", "diverged", "failed"
BOUNDS = ("train_bound", "valid_bound_100", "test_bound_100")
MEASURED = (*BOUNDS, "test_bound_100_standard_error", "log_grad_variance", "temperature", "steps_per_second")
_NAMES = ("dataset", "task", "model", "method")
COLUMNS = (*_NAMES, "learning_rate", "seed", "steps", *MEASURED, "status", "date", "commit", "command")
_NEW = ("test_bound_100_standard_error", "commit")  # which tables from before do not have
_BEFORE = tuple(column for column in COLUMNS if column not in _NEW)
_ORDER = (*_NAMES, "learning_rate", "seed", "command")
_CONVERT = {"learning_rate": float, "seed": int, "steps": int}

Row = dict[str, Any]


def read(path: str | os.PathLike) -> list[Row]:
    """The rows of a table.

    Args:
        path: of the file.

    Returns:
        A dictionary for each row: `learning_rate` a float, `seed` and `steps` integers, the measured numbers
        floats or None, the rest text. No rows where there is no file.

    Raises:
        BadInput: if it is no such table.
    """
    if not os.path.exists(path):
        return []
    try:
        with open(path, newline="") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) not in (COLUMNS, _BEFORE):
                raise ValueError(f"its columns are not {', '.join(COLUMNS)}")
            return [_converted({**dict.fromkeys(COLUMNS, ""), **row}) for row in reader]
    except (OSError, ValueError, TypeError) as error:
        raise BadInput(f"{path}: no results of trainers.sweep: {one_line(error)}") from error


def _converted(row: dict[str, str]) -> Row:
    numbers = {name: float(row[name]) if row[name] else None for name in MEASURED}
    return {**row, **{name: convert(row[name]) for name, convert in _CONVERT.items()}, **numbers}


def record(path: pathlib.Path, row: Row) -> None:
    """Adds a row to the table, or replaces the one with the same command; the file is replaced as a whole.

    Args:
        path: of the file, which is made where there is none.
        row: with the columns `COLUMNS`; None is an empty cell.
    """
    with locked(path.parent):  # several sweeps may write into one table
        rows = read(path)
        places = [i for i, other in enumerate(rows) if other["command"] == row["command"]]
        if places:
            rows[places[0]] = row
        else:
            rows.append(row)
        rows.sort(key=lambda row: tuple(row[name] for name in _ORDER))  # not as they ended, which is by chance
        write_csv(path, COLUMNS, rows)


@contextlib.contextmanager
def locked(folder: pathlib.Path) -> Iterator[None]:
    """In this block no other process writes a table in the folder; waits for one that does."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def measured(summary: dict[str, Any]) -> Row:
    """The measured columns and the status of a run, from its summary.json."""
    numbers = {name: summary.get(name) for name in MEASURED}
    whole = all(bound is not None and math.isfinite(bound) for bound in (numbers[name] for name in BOUNDS))
    return {**numbers, "status": FINISHED if whole else DIVERGED}


def by_rate(rows: list[Row]) -> dict[tuple, dict[float, list[Row]]]:
    """The finished rows by (dataset, task, model, method), and then by learning rate."""
    groups: dict[tuple, dict[float, list[Row]]] = {}
    for row in rows:
        if row["status"] == FINISHED:
            rates = groups.setdefault(tuple(row[name] for name in _NAMES), {})
            rates.setdefault(row["learning_rate"], []).append(row)
    return groups


def best_rate(rates: dict[float, list[Row]]) -> float:
    """The learning rate with the highest mean bound on the validation images.

    Among those at which the most seeds finished: one at which a seed diverged is no better for that.
    """
    most = max(len(rows) for rows in rates.values())
    complete = [rate for rate, rows in rates.items() if len(rows) == most]
    return max(complete, key=lambda rate: mean(rates[rate], "valid_bound_100"))


def mean(rows: list[Row], column: str) -> float:
    """The mean of a column."""
    return math.fsum(row[column] for row in rows) / len(rows)
