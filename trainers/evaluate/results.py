"""What `trainers.evaluate` prints and writes: a table, evaluation.json, evaluation.csv."""

from __future__ import annotations

import csv
import functools
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import tqdm

from rebar_tf.diagnostics import multi_sample_bound
from trainers.common.errors import one_line, warn
from trainers.common.files import replacing, write_json
from trainers.common.statistics import mean_and_error

COLUMNS = ("split", "samples", "bound", "standard_error", "images")
HEADER = f"{'split':<7}{'samples':>8}{'bound':>10}{'std. error':>12}{'images':>8}"


class Results:
    """The results in a folder. Those of the same checkpoint are kept; each addition is written at once.

    Args:
        folder: of evaluation.json and evaluation.csv.
        origin: what the results are of; those of another origin are dropped.
    """

    def __init__(self, folder: pathlib.Path, origin: dict[str, Any]):
        self.json, self.csv = folder / "evaluation.json", folder / "evaluation.csv"
        self.content: dict[str, Any] = {"run": origin, "bounds": [], "layers": []}
        if not self.json.exists():
            return
        try:
            stored = json.loads(self.json.read_bytes())
            if stored["run"] == origin:
                self.content |= stored
        except (ValueError, KeyError, TypeError) as error:
            warn(f"{self.json} cannot be read ({one_line(error)}); it is computed anew")

    def has(self, kind: str, **key: Any) -> bool:
        """Whether a row of `bounds` or `layers` has these values."""
        return any(key.items() <= row.items() for row in self.content[kind])

    def get(self, kind: str, **key: Any) -> dict[str, Any]:
        """The row that has these values."""
        return next(row for row in self.content[kind] if key.items() <= row.items())

    def add(self, kind: str, rows: list[dict[str, Any]]) -> None:
        """Appends rows, and writes both files."""
        self.put(kind, [*self.content[kind], *rows])

    def put(self, kind: str, value: Any) -> None:
        """Sets an entry, and writes both files."""
        self.content[kind] = value
        write_json(self.json, self.content)
        with replacing(self.csv) as temporary, open(temporary, "w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(self.content["bounds"])


def bound_row(model: Any, examples: Sequence[Any], key: dict[str, Any]) -> dict[str, Any]:
    """Computes a bound, with a progress bar on a terminal.

    Args:
        model: the trained model.
        examples: `(x,)` or `(x, y)`.
        key: `split`, `samples` and `images`.

    Returns:
        A row with the columns `COLUMNS`; the same noise as the bounds of summary.json.
    """
    total, text = key["samples"] * key["images"], f"{key['split']}, {key['samples']} samples"
    with tqdm.tqdm(total=total, desc=text, unit="", unit_scale=True, leave=False, disable=None) as bar:
        bound = functools.partial(multi_sample_bound, num_samples=key["samples"], progress=bar.update)
        values = bound(model, *examples)
    mean, error = mean_and_error(values)
    return {**key, "bound": mean, "standard_error": error}


def line(row: dict[str, Any], shortened: bool) -> str:
    """A bound's line of the table; says whether only the first images were taken."""
    note = f"  the first {row['images']:,} only" if shortened else ""
    return (
        f"{row['split']:<7}{row['samples']:>8}{_number(row['bound']):>10}{_number(row['standard_error']):>12}"
        f"{row['images']:>8}{note}"
    )


def layers_table(rows: list[dict[str, Any]]) -> str:
    """The table of KL and active units."""
    lines = [f"{'split':<7}{'layer':>6}{'KL':>10}{'std. error':>12}{'active units':>16}{'images':>8}"]
    for row in rows:
        active = f"{row['active_units']} of {row['units']}"
        kl, error = _number(row["kl"]), _number(row["kl_standard_error"])
        lines.append(f"{row['split']:<7}{row['layer']:>6}{kl:>10}{error:>12}{active:>16}{row['images']:>8}")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
