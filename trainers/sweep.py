"""Trains a grid of methods, learning rates and seeds, and picks the best rate on the validation images.

  python -m trainers.sweep
      NVIL, MuProp, REBAR(0.1), REBAR and Concrete(0.1), at the learning rates of the paper's appendix G, on digits
      that need no download.

  python -m trainers.sweep --tasks=mnist:generative,omniglot:generative,mnist:structured --data_dir=data
      --learning_rates=3e-4 --nonlinear_learning_rates=1e-4 --num_steps=100000 --workdir=runs/tables
      The cells of tables App.1 and App.2, at one rate and one seed. (One command, in one line.)

  python -m trainers.sweep --methods=nvil,rebar --learning_rates=3e-4 --seeds=0,1,2 --results=results/three.csv
      A grid of your choice; the table apart from the runs.

  python -m trainers.sweep --backend=dask --cluster=tcp://HOST:8786 --jobs=16 --workdir=/shared/sweep
      The same on a cluster whose machines share --workdir (pip install 'rebar_tf[sweep]'). Under ray the lines of
      progress come at the end, the rows of the table at once.

Each cell is a run of trainers.train in a process of its own, on its share of the cores, in a folder of its own below
--workdir, where log.txt has what it says. A row for each cell that came to an end, finished, diverged or failed, is in
results.csv. The same command goes on where it stopped: finished cells are skipped, others go on from their checkpoints;
diverged and failed ones are tried again with --retry. A larger --num_steps goes on from what is there, too. Ctrl-C and
SIGTERM save the checkpoints before the program ends, with status 130 and 143. The last line of the output counts the
cells.
"""

from __future__ import annotations

import contextlib
import functools
import json
import pathlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import joblib
from absl import app
from absl import flags as absl_flags

from trainers import (
    experiment,
    flags,
    interruption,
    methods_flag,
    quiet,
    sweep_backends,
    sweep_grid,
    sweep_process,
    sweep_results,
)
from trainers.checked_flags import define_boolean, define_integer
from trainers.errors import BadInput, one_line
from trainers.sweep_grid import SHARED_FLAGS, Cell
from trainers.sweep_process import Job, LocalRuns, Outcome
from trainers.sweep_results import Row

_TAKEN = (*SHARED_FLAGS, "data_dir", "num_steps", "checkpoint_minutes", "workdir")
_FREE_ARGUMENTS = ("data_dir", "checkpoint_minutes")
_WORKDIR = "runs/sweep"
_METHODS = ("nvil", "muprop", "rebar:0.1", "rebar", "concrete:0.1")

absl_flags.DEFINE_list(
    "tasks",
    ["mnist_5k:generative"],
    "What is trained on what, separated by commas. Accepted: dataset:task, as in mnist:structured, of the names of "
    "--dataset and --task of trainers.train.",
)
absl_flags.DEFINE_list(
    "models", list(sweep_grid.MODELS), f"Models, separated by commas. Accepted: {', '.join(sweep_grid.MODELS)}."
)
absl_flags.DEFINE_list(
    "learning_rates",
    ["3e-5", "1e-4", "3e-4", "1e-3", "3e-3"],
    "Of the linear models, separated by commas. Accepted: positive numbers.",
)
absl_flags.DEFINE_list(
    "nonlinear_learning_rates",
    ["3e-5", "1e-4"],
    "Of the nonlinear model, separated by commas. Accepted: positive numbers.",
)
absl_flags.DEFINE_list("seeds", ["0"], "Seeds, separated by commas. Accepted: integers of 0 or more.")
absl_flags.DEFINE_string(
    "results", None, "File of the table. Accepted: a path that ends in .csv. Unset: results.csv in --workdir."
)
define_boolean("retry", False, "Whether cells that failed or diverged are tried again.")
define_integer("jobs", None, "Cells trained at a time. Unset: one a core.")
absl_flags.DEFINE_enum("backend", "local", sweep_backends.BACKENDS, "Where the cells are trained.")
absl_flags.DEFINE_string(
    "cluster", None, "Address of the cluster of --backend. Unset: a cluster of --jobs workers on this machine."
)
for _name in (*_TAKEN, "methods"):
    absl_flags.declare_key_flag(_name)


@flags.reports_bad_input
def main(argv: Sequence[str]) -> int:
    """Trains, or goes on training, the cells of the flags."""
    settings = _settings()
    workdir = pathlib.Path(settings["workdir"] or _WORKDIR).absolute()
    results = pathlib.Path(settings["results"]).absolute() if settings["results"] else workdir / "results.csv"
    with interruption.exits_on_signals():
        quiet.quiet_logs()
        quiet.import_tensorflow()
        cells = sweep_grid.cells(settings)
        _check(cells, settings)
        _make_folders(workdir, results)
        left = _left(cells, sweep_results.read(results), settings["retry"])
        _load_datasets(left, settings)
    free = tuple(f"--{name}={settings[name]}" for name in _FREE_ARGUMENTS if settings[name] is not None)
    jobs = [Job(cell, workdir / cell.folder, free) for cell in left]
    stopped_by = _train(jobs, len(cells), results, settings)
    rows = _rows(cells, results)
    print_best(rows)
    print(json.dumps(count(cells, rows)), flush=True)
    return 0 if stopped_by is None else interruption.exit_status(stopped_by, "within a sweep")


def _settings() -> dict[str, Any]:
    """The values of the flags that count here."""
    for name in flags.experiment():
        if name not in _TAKEN and absl_flags.FLAGS[name].present:
            raise BadInput(f"flag --{name}: accepted by trainers.train only; a sweep takes lists, see --help")
    settings = {flag.name: flag.value for flag in absl_flags.FLAGS.get_flags_for_module(sys.modules[__name__])}
    settings |= {name: absl_flags.FLAGS[name].value for name in _TAKEN}
    settings["methods"] = methods_flag.methods(_METHODS)
    defaults = {name: absl_flags.FLAGS[name].default for name in SHARED_FLAGS}
    settings["shared"] = {name: settings[name] for name in SHARED_FLAGS if settings[name] != defaults[name]}
    if settings["results"] is not None and not settings["results"].endswith(".csv"):
        raise BadInput(f"flag --results={settings['results']}: accepted is a path that ends in .csv")
    if settings["cluster"] is not None and settings["backend"] == "local":
        raise BadInput(f"flag --cluster={settings['cluster']}: accepted with --backend=dask or ray")
    return settings


def _check(cells: list[Cell], settings: dict[str, Any]) -> None:
    """Raises `BadInput` for what every cell would fail at."""
    for cell in cells[:1]:
        flags.check_names({**flags.experiment(), "dataset": cell.dataset, "binarization": settings["binarization"]})


def _make_folders(workdir: pathlib.Path, results: pathlib.Path) -> None:
    for name, folder in (("workdir", workdir), ("results", results.parent)):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInput(f"flag --{name}={folder}: {one_line(error)}; accepted is one that can be made") from error


def _left(cells: list[Cell], rows: list[Row], retry: bool) -> list[Cell]:
    """The cells that are to be trained: those without a row, and with `retry` those that did not finish."""
    done = {row["command"] for row in rows if not retry or row["status"] == sweep_results.FINISHED}
    return [cell for cell in cells if cell.command not in done]


def _load_datasets(cells: list[Cell], settings: dict[str, Any]) -> None:
    """Prepares each dataset once, before several processes would at a time; says so here if it cannot be."""
    for dataset in dict.fromkeys(cell.dataset for cell in cells):
        experiment.load_dataset({**settings, "dataset": dataset})


def _train(jobs: list[Job], total: int, results: pathlib.Path, settings: dict[str, Any]) -> int | None:
    """Trains and records the cells; the signal that stopped it, or None."""
    at_a_time = settings["jobs"] or len(sweep_process.available_cores())
    print(f"{total} cells, {total - len(jobs)} of them done before; {at_a_time} at a time; {results}", flush=True)
    if not jobs:
        return None
    with _runner(settings, at_a_time) as (runner, parallel, received):
        progress = Progress(total, total - len(jobs))
        run = joblib.delayed(sweep_process.run_and_record)
        for outcome in parallel(run(runner, job, results) for job in jobs):
            progress.show(outcome)
        return received()


@contextlib.contextmanager
def _runner(
    settings: dict[str, Any], jobs: int
) -> Iterator[tuple[Callable[[Job], Outcome], joblib.Parallel, Callable[[], int | None]]]:
    """What runs a job, what runs several, and what says which signal stopped them."""
    as_they_end = {"return_as": "generator_unordered"} if settings["backend"] in sweep_backends.GENERATING else {}
    arguments = {"n_jobs": jobs, "batch_size": 1, **as_they_end}
    if settings["backend"] == "local":
        # Threads are enough, as each only waits for its process.
        with LocalRuns(jobs) as runs:
            yield runs.run, joblib.Parallel(backend="threading", **arguments), lambda: runs.received
    else:
        with (
            interruption.exits_on_signals(),
            sweep_backends.connected(settings["backend"], settings["cluster"], jobs),
        ):
            yield sweep_process.run, joblib.Parallel(**arguments), lambda: None


class Progress:
    """A line for each cell that came to an end.

    Args:
        total: cells of the sweep.
        done: of them, before.
    """

    def __init__(self, total: int, done: int):
        self.total, self.done, self._before, self._start = total, done, done, time.monotonic()

    def show(self, outcome: Outcome) -> None:
        """Prints how a cell ended, and about how long the rest will take."""
        if outcome.row is None:
            if outcome.reason:
                print(f"[{self.done}/{self.total}] {outcome.cell}: not run, {outcome.reason}", flush=True)
            return
        self.done += 1
        print(f"[{self.done}/{self.total}] {outcome.cell}: {_text(outcome)}; {self._left()} to go", flush=True)

    def _left(self) -> str:
        each = (time.monotonic() - self._start) / (self.done - self._before)
        minutes = round(each * (self.total - self.done) / 60)
        return f"about {minutes // 60}:{minutes % 60:02d} h"


def _text(outcome: Outcome) -> str:
    row = outcome.row
    if row["status"] == sweep_results.FAILED:
        return f"failed, {outcome.reason}"
    if row["status"] == sweep_results.DIVERGED:
        return "diverged"
    bounds = f"train {row['train_bound']:.2f}  valid {row['valid_bound_100']:.2f}  test {row['test_bound_100']:.2f}"
    speed = row["steps_per_second"]
    return bounds if speed is None else f"{bounds}  {speed:.0f} steps/s"


def _rows(cells: list[Cell], results: pathlib.Path) -> list[Row]:
    """The rows of the table that are this sweep's."""
    commands = {cell.command for cell in cells}
    return [row for row in sweep_results.read(results) if row["command"] in commands]


def print_best(rows: list[Row]) -> None:
    """Prints, for each task, model and method, the best learning rate and the bounds at it."""
    for names, rates in sweep_results.by_rate(rows).items():
        rate = sweep_results.best_rate(rates)
        mean = functools.partial(sweep_results.mean, rates[rate])
        seeds = f"{len(rates[rate])} seed{'s' * (len(rates[rate]) > 1)}"
        bounds = f"valid {mean('valid_bound_100'):.2f}  test {mean('test_bound_100'):.2f}"
        print(f"best of {len(rates)}: {' '.join(names)}, learning rate {rate:g}  {bounds}  ({seeds})", flush=True)


def count(cells: list[Cell], rows: list[Row]) -> dict[str, int]:
    """How many cells finished, diverged and failed, and how many have not been run to the end."""
    states = (sweep_results.FINISHED, sweep_results.DIVERGED, sweep_results.FAILED)
    counts = {status: sum(row["status"] == status for row in rows) for status in states}
    return {**counts, "not_run": len(cells) - len(rows)}


if __name__ == "__main__":
    app.run(main, flags_parser=flags.parse)
