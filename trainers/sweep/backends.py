"""The clusters that the cells of a sweep can be trained on. A cell whose worker dies is given to another."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from trainers.common.errors import BadInput, one_line
from trainers.sweep import process
from trainers.sweep.grid import Cell
from trainers.sweep.heartbeat import Follower
from trainers.sweep.process import Job, Jobs, Outcome

_EXTRA = "needs more packages: pip install 'rebar_tf[sweep]'"
# What a worker leaves behind when it dies saves a checkpoint and ends, which takes seconds.
_IN_USE_S = 60.0
_DEATHS = 10  # of workers on one cell, after which it is not tried again; a Dask scheduler elsewhere has its own number


@dataclasses.dataclass(frozen=True)
class RemoteRun:
    """Trains a cell on the worker where it is called, and records its row from there.

    Attributes:
        table: of the results.
        heartbeat: the file of the sweep; see `trainers.sweep.heartbeat`.
    """

    table: pathlib.Path
    heartbeat: pathlib.Path

    def __call__(self, job: Job) -> Outcome:
        follower = Follower(self.heartbeat)
        if not self.heartbeat.exists():
            return Outcome(job.cell, None, f"does not see {self.heartbeat}; expected a folder that all workers share")

        def run(jobs: Jobs) -> list[Outcome]:
            outcomes = process.run(jobs, watch=follower.watch, in_use_s=_IN_USE_S)
            return [process.unless_failed(outcome) for outcome in outcomes] if follower.has_stopped else outcomes

        (outcome,) = process.run_and_record(run, (job,), self.table)
        return outcome


def dask_outcomes(address: str | None, at_a_time: int, run: RemoteRun, jobs: Sequence[Job]) -> Iterator[Outcome]:
    """The outcomes as they come, from a Dask cluster; its workers may join and leave meanwhile.

    Args:
        address: of the scheduler; None for a cluster of `at_a_time` processes on this machine.
        at_a_time: cells at a time, if there are threads for so many.
        run: what trains a cell.
        jobs: the cells.

    Raises:
        BadInput: if the package is not installed, or the cluster does not answer.
    """
    try:
        import dask
        from dask.distributed import Client, wait
    except ImportError as error:
        raise BadInput(f"flag --backend=dask: {_EXTRA} ({one_line(error)})") from error
    local = {"n_workers": at_a_time, "threads_per_worker": 1, "dashboard_address": None}
    with dask.config.set({"distributed.scheduler.allowed-failures": _DEATHS}):
        try:
            client = Client(address) if address else Client(**local)
        except (OSError, ValueError) as error:
            raise BadInput(f"flag --cluster={address}: {one_line(error)}; expected as in tcp://HOST:8786") from error
    with client:
        yield from _as_they_end(
            jobs,
            at_a_time,
            submit=lambda job: client.submit(run, job, pure=False),
            wait=lambda futures: wait(futures, return_when="FIRST_COMPLETED").done,
            result=lambda future: future.result(),
        )


def ray_outcomes(address: str | None, at_a_time: int, run: RemoteRun, jobs: Sequence[Job]) -> Iterator[Outcome]:
    """The outcomes as they come, from a Ray cluster; its nodes may join and leave meanwhile.

    Args:
        address: as in `ray://HOST:10001`, or `auto` on a node; None for a cluster on this machine.
        at_a_time: cells at a time, if there are processors for so many.
        run: what trains a cell.
        jobs: the cells.

    Raises:
        BadInput: if the package is not installed, or the cluster does not answer.
    """
    try:
        import ray
    except ImportError as error:
        raise BadInput(f"flag --backend=ray: {_EXTRA} ({one_line(error)})") from error
    try:
        ray.init(address) if address else ray.init(num_cpus=at_a_time, include_dashboard=False)
    except (ConnectionError, ValueError) as error:
        raise BadInput(f"flag --cluster={address}: {one_line(error)}; expected as in ray://HOST:10001") from error
    with contextlib.ExitStack() as stack:
        stack.callback(ray.shutdown)
        train = ray.remote(num_cpus=1, max_retries=_DEATHS)(_train)
        yield from _as_they_end(
            jobs,
            at_a_time,
            submit=lambda job: train.remote(run, job),
            wait=lambda futures: ray.wait(futures, num_returns=1)[0],
            result=ray.get,
        )


def _train(run: RemoteRun, job: Job) -> Outcome:
    """What Ray calls: it takes functions only."""
    return run(job)


def _as_they_end(
    jobs: Sequence[Job],
    at_a_time: int,
    submit: Callable[[Job], Any],
    wait: Callable[[list], Iterable],
    result: Callable[[Any], Outcome],
) -> Iterator[Outcome]:
    """The outcomes of the jobs; of a cell on which too many workers died, the reason.

    Args:
        jobs: the cells.
        at_a_time: how many are submitted at a time.
        submit: from a job to its future.
        wait: from futures to those that are done, one or more.
        result: of a future that is done.
    """
    waiting = iter(jobs)
    running: dict[Any, Cell] = {}
    while True:
        for job in itertools.islice(waiting, at_a_time - len(running)):
            running[submit(job)] = job.cell
        if not running:
            return
        for future in wait(list(running)):
            cell = running.pop(future)
            try:
                yield result(future)
            except Exception as error:  # of the cluster's package: it has kinds of its own
                yield Outcome(cell, None, f"{type(error).__name__}: {one_line(error)}")


OUTCOMES = {"dask": dask_outcomes, "ray": ray_outcomes}
