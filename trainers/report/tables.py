"""Tables App.1 and App.2 of the paper, from the tables of sweeps, next to the paper's own numbers."""

from __future__ import annotations

import csv
import dataclasses
import importlib.resources
import itertools
import math
import pathlib
import shlex
import statistics
from collections.abc import Mapping
from typing import Any

from trainers.common import files
from trainers.common.errors import BadInput
from trainers.common.markdown import table
from trainers.common.methods import label
from trainers.sweep import results
from trainers.sweep.results import DIVERGED, FINISHED, Row
from trainers.sweep.settings import MODELS, SHARED_FLAGS

METHODS = ("nvil", "muprop", "rebar:0.1", "rebar", "concrete:0.1")
MODEL_TITLES = {"linear1": "Linear, 1 layer", "linear2": "Linear, 2 layers", "nonlinear": "Nonlinear"}
TABLES = {
    "train_bound": "Table App.1: training bound",
    "test_bound_100": "Table App.2: test bound of 100 samples",
}
_PAPER = "paper_tables.csv"
_PAPER_TRIALS = 5
NOT_RUN = "not run"

Key = tuple[str, ...]  # column, dataset, task, model, method


@dataclasses.dataclass(frozen=True)
class Published:
    """One number of the paper's tables: mean and standard error of its trials, in nats."""

    mean: float
    standard_error: float

    def __str__(self) -> str:
        return f"{self.mean:g} ± {self.standard_error:g}"


@dataclasses.dataclass(frozen=True)
class Entry:
    """One number of a table.

    Attributes:
        mean: over the seeds, in nats.
        standard_error: of the mean; None with one seed.
        seeds: how many finished.
        tried: how many seeds were run, those that failed or diverged too.
        learning_rate: the best on the validation images.
    """

    mean: float
    standard_error: float | None
    seeds: int
    tried: int
    learning_rate: float

    def minus(self, paper: Published) -> tuple[float, float]:
        """The difference to the paper's number in nats, and in standard errors of it.

        One seed has no standard error of its own; it is then taken to vary as one trial of the paper's does.
        """
        own = _PAPER_TRIALS**0.5 * paper.standard_error if self.standard_error is None else self.standard_error
        difference = self.mean - paper.mean
        return difference, difference / math.hypot(own, paper.standard_error)

    def __str__(self) -> str:
        error = "" if self.standard_error is None else f" ± {self.standard_error:.2f}"
        of = f" of {self.tried}" if self.tried != self.seeds else ""
        return f"{self.mean:.2f}{error} ({self.seeds}{of} seed{'s' * (self.tried != 1)})"


def paper() -> dict[Key, Published]:
    """The paper's numbers."""
    text = importlib.resources.files(__package__).joinpath(_PAPER).read_text()
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    names = ("column", "dataset", "task", "model", "method")
    return {tuple(row[n] for n in names): Published(float(row["mean"]), float(row["standard_error"])) for row in rows}


def longest(rows: list[Row]) -> list[Row]:
    """The rows but for those of runs that were continued, and have finished or diverged with more steps."""
    most: dict[tuple, int] = {}
    for row in rows:
        if row["status"] != results.FAILED:
            most[_run(row)] = max(row["steps"], most.get(_run(row), 0))
    return [row for row in rows if row["steps"] >= most.get(_run(row), 0)]


def _run(row: Row) -> tuple:
    """What a row is of, but for the number of steps."""
    names = ("dataset", "task", "model", "method", "learning_rate", "seed")
    return (*(row[name] for name in names), _shared(row["command"]))


def check_comparable(rows: list[Row], path: pathlib.Path) -> None:
    """Raises `BadInput` unless the rows differ only in what the tables show separately.

    Args:
        rows: of one file.
        path: of the file, for the message.
    """
    several = "expected rows with the same ones; give trainers.sweep another --results for the others"
    steps = sorted({row["steps"] for row in rows})
    if len(steps) > 1:
        raise BadInput(f"{path}: has runs of {' and '.join(map(str, steps))} steps; {several}")
    shared = sorted({_shared(row["command"]) for row in rows})
    if len(shared) > 1:
        texts = (" ".join(flags) or "the trainer's own values" for flags in shared)
        raise BadInput(f"{path}: has runs with other flags: {' / '.join(texts)}; {several}")
    for names, rates in results.by_rate(rows).items():
        for (one, ours), (other, theirs) in itertools.combinations(rates.items(), 2):
            if not {row["seed"] for row in ours} & {row["seed"] for row in theirs}:
                raise BadInput(
                    f"{path}: {' '.join(names)} has learning rates {one:g} and {other:g} at different seeds; expected "
                    "are rates with a seed in common"
                )


def _shared(command: str) -> tuple[str, ...]:
    """The flags of a cell's command that hold for a whole sweep."""
    return tuple(part for part in shlex.split(command) if part.lstrip("-").partition("=")[0] in SHARED_FLAGS)


def entries(rows: list[Row], reached: Mapping[tuple, int] | None = None) -> dict[Key, Entry | str]:
    """The numbers of the tables by place, each at the learning rate that is best on the validation images.

    Args:
        rows: of one file, comparable.
        reached: of runs that have not finished the last step so far, by dataset, task, model, method, steps in all and
            shared flags.

    Returns:
        For each place that was run an `Entry`, or where none finished words for how its runs ended or how far they are.
    """
    found = _begun(rows, reached)
    for column in TABLES:
        for row in rows:
            if row["status"] != FINISHED:
                place = (column, *_names(row))
                found[place] = DIVERGED if DIVERGED in (row["status"], found.get(place)) else row["status"]
        for names, rates in results.by_rate(rows).items():
            rate = results.best_rate(rates)
            values = [row[column] for row in rates[rate]]
            error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
            tried = sum(_names(row) == names and row["learning_rate"] == rate for row in rows)
            found[(column, *names)] = Entry(statistics.fmean(values), error, len(values), tried, rate)
    return found


def _names(row: Row) -> tuple[str, ...]:
    return tuple(row[name] for name in ("dataset", "task", "model", "method"))


def settings_line(rows: list[Row]) -> str:
    """What the rows of one file have in common, in words."""
    rates = {f"{row['learning_rate']:g}" for row in rows}
    seeds = sorted({row["seed"] for row in rows})
    dates = sorted({row["date"] for row in rows})
    days = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    flags = " ".join(_shared(rows[0]["command"]))
    listed = [
        f"{rows[0]['steps']:,} steps",
        f"learning rate{'s' * (len(rates) > 1)} {', '.join(sorted(rates, key=float))}",
        f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}",
        days,
    ]
    return f"{'; '.join([*listed, *([flags] if flags else [])])}."


def markdown(rows: list[Row], reached: Mapping[tuple, int] | None = None) -> str:
    """Both tables of one file, a part for each dataset and task, each number above the paper's and the difference.

    Args:
        rows: of one file, comparable.
        reached: as of `entries`.
    """
    ours, theirs = entries(rows, reached), paper()
    methods = list(dict.fromkeys([*METHODS, *(row["method"] for row in rows)]))
    run = list(dict.fromkeys((row["dataset"], row["task"]) for row in rows))
    compared = list(dict.fromkeys(key[1:3] for key in theirs))
    parts = [settings_line(rows)]
    for column, title in TABLES.items():
        for dataset, task in sorted(run, key=lambda problem: problem not in compared):
            own = "" if (dataset, task) in compared else "; not in the paper"
            parts.append(f"**{title}, {dataset}, {task}{own}**")
            parts.append(_part(column, (dataset, task), methods, ours, theirs))
    missing = [" ".join(problem) for problem in compared if problem not in run]
    if missing:
        parts.append(f"Of the paper's tables {' and '.join(missing)}: {NOT_RUN}.")
    return "\n\n".join(parts)


def _begun(rows: list[Row], reached: Mapping[tuple, int] | None) -> dict[Key, Entry | str]:
    """For each place of a run like the rows', which has not finished, how far it is."""
    steps, shared = rows[0]["steps"], frozenset(_shared(rows[0]["command"]))
    return {
        (column, *names): f"at step {last:,}"
        for column in TABLES
        for (*names, total, flags), last in (reached or {}).items()
        if (total, flags) == (steps, shared)
    }


def _part(column: str, problem: tuple[str, str], methods: list[str], ours: dict, theirs: dict) -> str:
    lines: list[list[str]] = []
    for model in MODELS:
        keys = [(column, *problem, model, method) for method in methods]
        lines.append([MODEL_TITLES[model], "here", *(str(ours.get(key, NOT_RUN)) for key in keys)])
        if any(key in theirs for key in keys):
            lines.append(["", "paper", *(str(theirs.get(key, "-")) for key in keys)])
        if any(key in theirs and isinstance(ours.get(key), Entry) for key in keys):
            lines.append(["", "difference", *(_difference(ours.get(key), theirs.get(key)) for key in keys)])
    return table(["", "", *map(label, methods)], lines)


def _difference(own: Entry | str | None, paper: Published | None) -> str:
    if not isinstance(own, Entry) or paper is None:
        return "-"
    difference, errors = own.minus(paper)
    return f"{difference:+.2f} ({errors:+.1f} s.e.)"


_CSV_COLUMNS = (
    *("column", "dataset", "task", "model", "method", "mean", "standard_error", "seeds", "tried", "learning_rate"),
    *("steps", "status", "paper_mean", "paper_standard_error", "difference", "difference_in_standard_errors"),
)


def csv_rows(rows: list[Row], reached: Mapping[tuple, int] | None = None) -> list[dict[str, Any]]:
    """Both tables of one file as rows: every place of the paper's tables, and what was run besides."""
    ours, theirs = entries(rows, reached), paper()
    lines = []
    for key in dict.fromkeys([*theirs, *ours]):
        line: dict[str, Any] = dict(zip(_CSV_COLUMNS, key, strict=False))
        entry = ours.get(key, NOT_RUN)
        if isinstance(entry, Entry):
            line |= {**dataclasses.asdict(entry), "steps": rows[0]["steps"], "status": FINISHED}
        else:
            line["status"] = entry
        if key in theirs:
            line |= {"paper_mean": theirs[key].mean, "paper_standard_error": theirs[key].standard_error}
            if isinstance(entry, Entry):
                line["difference"], line["difference_in_standard_errors"] = entry.minus(theirs[key])
        lines.append(line)
    return lines


def write_csv(path: pathlib.Path, rows: list[Row], reached: Mapping[tuple, int] | None = None) -> None:
    """Writes `csv_rows`; None and what is missing is an empty cell."""
    files.write_csv(path, _CSV_COLUMNS, csv_rows(rows, reached))
