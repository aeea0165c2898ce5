"""Runs the cells of a sweep in separate processes, each on its share of the cores."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import pathlib
import queue
import shlex
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from typing import IO

from trainers.common.commit import commit
from trainers.common.errors import DIVERGED_STATUS, IN_USE_STATUS, one_line
from trainers.common.signals import SIGNALS
from trainers.run.workdir import Workdir
from trainers.sweep import results
from trainers.sweep.grid import Cell
from trainers.sweep.results import DIVERGED, FAILED, Row

TRAINER = (sys.executable, "-m", "trainers.sweep.cell")
GROUP_TRAINER = (sys.executable, "-m", "trainers.sweep.group")
LOG = "log.txt"  # in the folder of a cell
_LOG_END = 4096  # bytes of the log that are searched for its last line


@dataclasses.dataclass(frozen=True)
class Job:
    """A cell to train, and where.

    Attributes:
        cell: the cell.
        folder: of its run.
        free_arguments: flags that its numbers do not depend on.
    """

    cell: Cell
    folder: pathlib.Path
    free_arguments: tuple[str, ...] = ()

    @property
    def arguments(self) -> list[str]:
        """Flags of `trainers.train`."""
        return [*self.cell.arguments, f"--workdir={self.folder}", *self.free_arguments]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        cell: the cell.
        row: of the results; None if it was stopped, to be continued another time.
        reason: why it failed, or was not run though the sweep was not stopped.
    """

    cell: Cell
    row: Row | None
    reason: str = ""


Jobs = tuple[Job, ...]  # that one process trains: one, or several in one program
Watch = Callable[[subprocess.Popen], contextlib.AbstractContextManager]


def run(jobs: Jobs, threads: int = 1, watch: Watch = contextlib.nullcontext, in_use_s: float = 0.0) -> list[Outcome]:
    """Trains cells, or continues to, in a separate process, whose output goes to log.txt in the folder of the first.

    Args:
        jobs: what to run.
        threads: of TensorFlow.
        watch: from the process to a context in which it is waited for.
        in_use_s: seconds in which to try again where another process trains in a folder.
    """
    try:
        for job in jobs:
            job.folder.mkdir(parents=True, exist_ok=True)
        (jobs[0].folder / LOG).touch()
    except OSError as error:  # of this folder; the other cells are trained
        return [Outcome(job.cell, None, one_line(error)) for job in jobs]
    begin, code = time.monotonic(), commit()
    while True:
        with open(jobs[0].folder / LOG, "a") as log, _start(jobs, threads, log) as process, watch(process):
            status = process.wait()
        if status != IN_USE_STATUS or time.monotonic() - begin > in_use_s:
            return [_outcome(job, jobs, status, code) for job in jobs]
        time.sleep(1.0)


def run_and_record(runner: Callable[[Jobs], list[Outcome]], jobs: Jobs, table: pathlib.Path) -> list[Outcome]:
    """Runs cells and records their rows from where they ran, as the sweep itself may have ended by then."""
    outcomes = runner(jobs)
    for outcome in outcomes:
        if outcome.row is not None:
            results.record(table, outcome.row)
    return outcomes


def _start(jobs: Jobs, threads: int, log: IO[str]) -> subprocess.Popen:
    flags = [job.arguments for job in jobs]
    return subprocess.Popen(
        [*TRAINER, *flags[0]] if len(jobs) == 1 else [*GROUP_TRAINER, *map(shlex.join, flags)],
        stdin=subprocess.PIPE,  # which closes when this process ends, however it ends
        stdout=log,
        stderr=log,
        env={**os.environ, "TF_NUM_INTRAOP_THREADS": str(threads), "TF_NUM_INTEROP_THREADS": str(threads)},
        start_new_session=True,  # Ctrl-C reaches the sweep alone, which hands it on once
    )


def _outcome(job: Job, jobs: Jobs, status: int, code: str) -> Outcome:
    of_group = len(jobs) > 1
    # Of a group that fails some cells may have ended before.
    summary = Workdir(job.folder).finished(job.cell.num_steps) if status == 0 or of_group else None
    # A group that ends well has no summary of a cell that diverged, which says so in its own log.
    left_out = of_group and status == 0 and summary is None
    diverged = left_out or status == DIVERGED_STATUS
    reason = "" if summary is not None else _reason((job if left_out else jobs[0]).folder / LOG, status)
    if status == IN_USE_STATUS:
        return Outcome(job.cell, None, reason)
    if summary is not None:
        measured = results.measured(summary)
    else:
        measured = {**dict.fromkeys(results.MEASURED), "status": DIVERGED if diverged else FAILED}
    row = {**job.cell.columns, **measured, "date": datetime.date.today().isoformat(), "commit": code}
    return Outcome(job.cell, row, reason)


def _reason(log: pathlib.Path, status: int) -> str:
    lines = log.read_bytes()[-_LOG_END:].decode(errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "no output")
    if status == 0:  # of a cell of a group
        return last
    how = f"signal {-status}" if status < 0 else f"exit status {status}"
    return f"{how}: {last}"


class LocalRuns:
    """Runs cells on this machine, several at a time, each on its share of the cores; a signal stops all.

    A context manager, of the main thread: inside, SIGINT and SIGTERM are handed on to the runs, which save their
    checkpoints.

    Args:
        jobs: runs at a time.

    Attributes:
        received: the signal that came, or None.
    """

    def __init__(self, jobs: int):
        self.received: int | None = None
        self._shares: queue.Queue[set[int]] = queue.Queue()
        self._started: set[subprocess.Popen] = set()
        for share in shares(available_cores(), jobs):
            self._shares.put(share)

    def __enter__(self) -> LocalRuns:
        self._old = {signum: signal.signal(signum, self._receive) for signum in SIGNALS}
        return self

    def __exit__(self, *exception: object) -> None:
        for signum, handler in self._old.items():
            signal.signal(signum, handler)

    def run(self, jobs: Jobs) -> list[Outcome]:
        """Like the function `run`, on a share of the cores that is free."""
        share = self._shares.get()
        try:
            if self.received is not None:
                return [Outcome(job.cell, None) for job in jobs]
            with _pinned(share):
                outcomes = run(jobs, len(share), self._watch)
            return outcomes if self.received is None else [unless_failed(outcome) for outcome in outcomes]
        finally:
            self._shares.put(share)

    @contextlib.contextmanager
    def _watch(self, process: subprocess.Popen) -> Iterator[None]:
        self._started.add(process)
        if self.received is not None:  # the signal came after `run` had checked for one
            process.terminate()
        try:
            yield
        finally:
            self._started.discard(process)

    def _receive(self, signum: int, frame: types.FrameType | None) -> None:
        self.received = signum
        for process in list(self._started):
            with contextlib.suppress(ProcessLookupError):
                process.terminate()


def unless_failed(outcome: Outcome) -> Outcome:
    """Of a run that was stopped: it has not failed."""
    failed = outcome.row is not None and outcome.row["status"] == FAILED
    return Outcome(outcome.cell, None) if failed else outcome


def available_cores() -> list[int]:
    """The numbers of the cores that this process may use; of all cores where the system cannot tell."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def shares(cores: list[int], jobs: int) -> list[set[int]]:
    """Divides the cores among several runs, as evenly as possible; with more runs than cores, runs share one."""
    return [set(cores[i::jobs]) or {cores[i % len(cores)]} for i in range(jobs)]


@contextlib.contextmanager
def _pinned(cores: set[int]) -> Iterator[None]:
    """In this block the thread and what it starts stay on these cores, where the system supports that."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)  # 0 is the calling thread; a process inherits from the one that starts it
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
