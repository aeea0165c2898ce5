"""Reports as rows of a csv file."""

from __future__ import annotations

import csv
import io
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import keras

from rebar_tf.callbacks.files import replacing
from rebar_tf.callbacks.reports import Logs, global_step, stands

Row = dict[str, Any]


class ReportTable(keras.callbacks.Callback):
    """Appends rows to a csv file. The base of `CurveCsv`; others derive from it, and call `append` at each report.

    Training that resumes from a checkpoint repeats the steps after it, so rows beyond the model's step are removed
    first.

    Args:
        path: of the file.
        columns: their names; the first is the step. A cell is empty where there is no value.
        every: steps of a full report. When training resumes, a shorter last report is removed, because the full one
            follows.
        text: those of the columns that are not numbers.
        origin: a line about where the file comes from, which is its first line, after a `#`; None leaves it out.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        columns: Sequence[str],
        every: int = 1,
        text: Sequence[str] = (),
        origin: str | None = None,
    ):
        super().__init__()
        self.path, self.columns, self.every = pathlib.Path(path), tuple(columns), every
        self.text, self.origin = tuple(text), origin

    def on_train_begin(self, logs: Logs = None) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        rows, reached = read_table(self.path, self.columns, self.text), global_step(self.model)
        self.write(row for row in rows if stands(row["step"], reached, self.every))

    def parse(self, content: bytes) -> list[Row]:
        """The rows of such a file's content; see `read_table`."""
        return parse_table(content, self.path.name, self.columns, self.text)

    def write(self, rows: Iterable[Row]) -> None:
        """Replaces the file with one of these rows."""
        with replacing(self.path) as temporary, open(temporary, "w", newline="") as file:
            if self.origin is not None:
                file.write(f"# {self.origin}\n")
            csv.writer(file).writerow(self.columns)
            self._write(file, rows)

    def append(self, rows: Iterable[Row]) -> None:
        """Adds rows at the end."""
        with open(self.path, "r+", newline="") as file:  # not "a", which makes a file without its first line
            file.seek(0, os.SEEK_END)
            self._write(file, rows)

    def _write(self, file: Any, rows: Iterable[Row]) -> None:
        csv.DictWriter(file, self.columns, restval="", extrasaction="ignore").writerows(rows)


def read_table(path: str | os.PathLike, columns: Sequence[str], text: Sequence[str] = ()) -> list[Row]:
    """Reads a file that a `ReportTable` wrote.

    Args:
        path: of the file.
        columns: as the callback has them.
        text: likewise.

    Returns:
        One dictionary a row, without empty cells: `step` is an int, the rest are floats, or text. A last line that was
        cut off is left out. Without a file there are no rows.

    Raises:
        ValueError: for a damaged file; names the line.
    """
    if not os.path.exists(path):
        return []
    return parse_table(pathlib.Path(path).read_bytes(), os.fspath(path), columns, text)


def parse_table(content: bytes, name: str, columns: Sequence[str], text: Sequence[str] = ()) -> list[Row]:
    """The rows of a file's content, as `read_table` returns them; an error has the `name`."""
    # A process that is killed while it writes leaves an incomplete line.
    lines = io.StringIO(content.decode(errors="replace"), newline="").readlines()
    rows: list[Row] = []
    header = None
    for number, line in enumerate(lines, start=1):
        if not line.endswith("\n") or (header is None and line.startswith("#")):
            continue
        try:
            (cells,) = csv.reader([line], strict=True)
            if header is None:
                header = cells
                if tuple(header) != tuple(columns):
                    raise ValueError
            else:
                rows.append(_row(dict(zip(columns, cells, strict=True)), text))
        except (ValueError, KeyError, csv.Error) as error:
            raise ValueError(f"{name}: line {number} is damaged; expected {','.join(columns)}") from error
    return rows


def _row(cells: dict[str, str], text: Sequence[str]) -> Row:
    return {
        name: int(cell) if name == "step" else cell if name in text else float(cell)
        for name, cell in cells.items()
        if cell or name == "step"
    }
