"""Trains the cells of a sweep, one or several in a process, and prints how they end."""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
import shlex
import time
from collections.abc import Sequence

import joblib

from trainers.common import build, signals
from trainers.common.errors import BadInput, one_line
from trainers.run.workdir import Workdir
from trainers.sweep import backends, grid, group, heartbeat, process, results
from trainers.sweep.grid import Cell
from trainers.sweep.process import Job, Jobs, LocalRuns, Outcome
from trainers.sweep.results import Row
from trainers.sweep.settings import Settings

NOT_RUN = "not_run"  # of the counts
_INCOMPLETE_STATUS = 1  # of a sweep of which cells failed, or were not run to the end
_WORKDIR = "runs/sweep"


def run(settings: Settings) -> int:
    """Trains, or continues to train, the cells; the exit status, 0 if all have finished or diverged.

    Raises:
        BadInput: for what every cell would fail at, and folders that hold other runs.
    """
    workdir = pathlib.Path(settings.experiment.workdir or _WORKDIR).absolute()
    table = pathlib.Path(settings.results).absolute() if settings.results else workdir / "results.csv"
    cells = grid.cells(settings)
    for flag in ("binarization", "mixed_precision"):
        build.check_name(flag, getattr(settings.experiment, flag))
    _make_folders(workdir, table)
    left = _left(cells, results.read(table), settings.retry)
    jobs = [Job(cell, workdir / cell.folder, settings.free_arguments) for cell in left]
    _check_folders(jobs)
    for dataset in dict.fromkeys(cell.dataset for cell in left):
        # Prepared once, before several processes would at a time.
        build.load_dataset(dataclasses.replace(settings.experiment, dataset=dataset))
    stopped_by = _train(jobs, len(cells), table, settings)
    rows = _rows(cells, table)
    print(f"the curves of all cells: tensorboard --logdir={workdir}", flush=True)
    print_best(rows)
    counts = count(cells, rows)
    print(json.dumps(counts), flush=True)
    if stopped_by is not None:
        return signals.exit_status(stopped_by, "within a sweep")
    return _INCOMPLETE_STATUS if counts[results.FAILED] or counts[NOT_RUN] else 0


def _make_folders(workdir: pathlib.Path, table: pathlib.Path) -> None:
    for name, folder in (("workdir", workdir), ("results", table.parent)):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInput(f"flag --{name}={folder}: {one_line(error)}; expected one that can be made") from error


def _check_folders(jobs: Sequence[Job]) -> None:
    """Raises `BadInput` if a cell's folder holds a run that the cell does not continue: no cell could be trained."""
    for job in jobs:
        folder = Workdir(job.folder)
        try:
            stored = folder.stored_flags()
        except BadInput:  # of no run, or of a damaged one, which the cell itself will name
            continue
        folder.check_continues(stored, group.parse(shlex.join(job.arguments)).flags())


def _left(cells: list[Cell], rows: list[Row], retry: bool) -> list[Cell]:
    """The cells that are to be trained: those without a row, and with `retry` those that did not finish."""
    done = {row["command"] for row in rows if not retry or row["status"] == results.FINISHED}
    return [cell for cell in cells if cell.command not in done]


def _train(jobs: list[Job], total: int, table: pathlib.Path, settings: Settings) -> int | None:
    """Trains and records the cells; the signal that stopped it, or None."""
    at_a_time = settings.jobs or len(process.available_cores())
    print(f"{total} cells, {total - len(jobs)} of them done before; {at_a_time} at a time; {table}", flush=True)
    if not jobs:
        return None
    progress = Progress(total, total - len(jobs))
    if settings.backend != "local":
        outcomes = backends.OUTCOMES[settings.backend]
        with heartbeat.beating(jobs[0].folder.parent) as path:
            for outcome in outcomes(settings.cluster, at_a_time, backends.RemoteRun(table, path), jobs):
                progress.show((outcome,))
        return None
    with LocalRuns(at_a_time) as runs:
        # Threads are enough, as each only waits for its process.
        parallel = joblib.Parallel(at_a_time, "threading", return_as="generator_unordered", batch_size=1)
        run = joblib.delayed(process.run_and_record)
        for outcomes in parallel(run(runs.run, together, table) for together in groups(jobs, settings.stacked)):
            progress.show(outcomes)
        return runs.received


def groups(jobs: list[Job], size: int) -> list[Jobs]:
    """The cells that one program trains: at most so many, which differ in learning rate and seed alone."""
    alike: dict[Cell, list[Job]] = {}
    for job in jobs:
        alike.setdefault(dataclasses.replace(job.cell, learning_rate=0.0, seed=0), []).append(job)
    return [tuple(of_one[i : i + size]) for of_one in alike.values() for i in range(0, len(of_one), size)]


class Progress:
    """Prints a line for each cell that has ended.

    Args:
        total: cells of the sweep.
        done: of them, before.
    """

    def __init__(self, total: int, done: int):
        self.total, self.done, self._before, self._start = total, done, done, time.monotonic()

    def show(self, outcomes: Sequence[Outcome]) -> None:
        """Prints how the cells of a program ended, and about how long the rest will take."""
        for outcome in outcomes:
            if outcome.row is None and outcome.reason:
                print(f"[{self.done}/{self.total}] {outcome.cell}: not run, {outcome.reason}", flush=True)
        ended = [(outcome.cell, outcome.row, outcome.reason) for outcome in outcomes if outcome.row is not None]
        done = self.done + len(ended)
        for cell, row, reason in ended:
            self.done += 1
            text = f"{_text(row, reason)}; {self._left(done)} to go"
            print(f"[{self.done}/{self.total}] {cell}: {text}", flush=True)

    def _left(self, done: int) -> str:
        each = (time.monotonic() - self._start) / (done - self._before)
        minutes = round(each * (self.total - done) / 60)
        return f"about {minutes // 60}:{minutes % 60:02d} h"


def _text(row: Row, reason: str) -> str:
    if row["status"] == results.FAILED:
        return f"failed, {reason}"
    if row["status"] == results.DIVERGED:
        return f"diverged, {reason}" if reason else "diverged"
    bounds = f"train {row['train_bound']:.2f}  valid {row['valid_bound_100']:.2f}  test {row['test_bound_100']:.2f}"
    speed = row["steps_per_second"]
    return bounds if speed is None else f"{bounds}  {speed:.0f} steps/s"


def _rows(cells: list[Cell], table: pathlib.Path) -> list[Row]:
    """The rows of the table that are this sweep's."""
    commands = {cell.command for cell in cells}
    return [row for row in results.read(table) if row["command"] in commands]


def print_best(rows: list[Row]) -> None:
    """Prints, for each task, model and method, the best learning rate and the bounds at it."""
    for names, rates in results.by_rate(rows).items():
        rate = results.best_rate(rates)
        mean = functools.partial(results.mean, rates[rate])
        seeds = f"{len(rates[rate])} seed{'s' * (len(rates[rate]) > 1)}"
        bounds = f"valid {mean('valid_bound_100'):.2f}  test {mean('test_bound_100'):.2f}"
        print(f"best of {len(rates)}: {' '.join(names)}, learning rate {rate:g}  {bounds}  ({seeds})", flush=True)


def count(cells: list[Cell], rows: list[Row]) -> dict[str, int]:
    """How many cells finished, diverged and failed, and how many have not been run to the end."""
    states = (results.FINISHED, results.DIVERGED, results.FAILED)
    counts = {status: sum(row["status"] == status for row in rows) for status in states}
    return {**counts, NOT_RUN: len(cells) - len(rows)}
