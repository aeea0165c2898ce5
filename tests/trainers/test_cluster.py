"""Sweeps on a cluster: workers that die and join, and cells that end with their sweep."""

import contextlib
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from helpers.training import ROOT

from rebar_tf import callbacks
from trainers.common.errors import IN_USE_STATUS
from trainers.common.methods import Method
from trainers.sweep import heartbeat, process, results
from trainers.sweep.backends import RemoteRun
from trainers.sweep.grid import Cell
from trainers.sweep.process import Job

PATIENCE_S = 120
SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture(autouse=True)
def quick_beats(monkeypatch):
    monkeypatch.setattr(heartbeat, "_BEAT_S", 0.05)


@contextlib.contextmanager
def sleeping():
    """A process that sleeps for longer than any test takes."""
    with subprocess.Popen(SLEEPER) as sleeper:
        try:
            yield sleeper
        finally:
            sleeper.kill()


def test_a_cell_goes_on_while_its_sweep_does(tmp_path, monkeypatch):
    monkeypatch.setattr(heartbeat, "_SILENCE_S", 0.3)
    with heartbeat.beating(tmp_path) as path, sleeping() as cell:
        follower = heartbeat.Follower(path)
        with follower.watch(cell):
            time.sleep(1.0)
            assert cell.poll() is None
        assert not follower.has_stopped
    assert not list(tmp_path.iterdir())  # nothing is left of it


def test_a_cell_ends_with_its_sweep(tmp_path):
    with sleeping() as cell:
        with heartbeat.beating(tmp_path) as path:
            follower = heartbeat.Follower(path)
            watched = follower.watch(cell)
            watched.__enter__()
        assert cell.wait(timeout=10) == -signal.SIGTERM
        watched.__exit__(None, None, None)
    assert follower.has_stopped


def test_a_cell_ends_when_its_sweep_is_silent(tmp_path, monkeypatch):
    """As it is when it was killed: it removes nothing then."""
    monkeypatch.setattr(heartbeat, "_SILENCE_S", 0.3)
    path = tmp_path / "sweep"
    path.write_text("7")
    follower = heartbeat.Follower(path)
    with sleeping() as cell, follower.watch(cell):
        assert cell.wait(timeout=10) == -signal.SIGTERM
    assert follower.has_stopped


def job(folder):
    return Job(Cell("mnist_5k", "generative", "linear1", Method("nvil", "nvil"), 3e-4, 0, 4), folder / "cell")


def cell_script(monkeypatch, tmp_path, *statuses):
    """Cells end with these statuses, one after the other; what they were, in a file."""
    done = tmp_path / "done"
    code = (
        f"import pathlib, sys; done = pathlib.Path({str(done)!r}); n = len(done.read_text()) if done.exists() else 0; "
        f"done.open('a').write('x'); sys.exit({list(statuses)}[n])"
    )
    monkeypatch.setattr(process, "TRAINER", (sys.executable, "-c", code))
    return done


def test_a_cell_waits_for_what_a_dead_worker_left(tmp_path, monkeypatch):
    done = cell_script(monkeypatch, tmp_path, IN_USE_STATUS, IN_USE_STATUS, 2)
    (outcome,) = process.run((job(tmp_path),), in_use_s=60.0)
    assert outcome.row["status"] == results.FAILED
    assert done.read_text() == "xxx"


def test_a_cell_in_use_is_not_run_where_no_worker_can_have_died(tmp_path, monkeypatch):
    done = cell_script(monkeypatch, tmp_path, IN_USE_STATUS, 2)
    (outcome,) = process.run((job(tmp_path),))
    assert outcome.row is None
    assert done.read_text() == "x"


def test_a_worker_that_does_not_share_the_folder_says_so(tmp_path):
    outcome = RemoteRun(tmp_path / "results.csv", tmp_path / "beat")(job(tmp_path))
    assert outcome.row is None
    assert outcome.reason == f"does not see {tmp_path / 'beat'}; expected a folder that all workers share"
    assert not (tmp_path / "cell").exists()


@pytest.mark.parametrize(("is_there", "recorded"), [(True, 1), (False, 0)])
def test_a_cell_that_ended_with_its_sweep_did_not_fail(is_there, recorded, tmp_path, monkeypatch):
    monkeypatch.setattr(process, "TRAINER", (sys.executable, "-c", "import sys, time; time.sleep(1); sys.exit(1)"))
    table, path = tmp_path / "results.csv", tmp_path / "beat"
    path.write_text("1")
    if not is_there:
        threading.Timer(0.3, path.unlink).start()
    outcome = RemoteRun(table, path)(job(tmp_path))
    assert len(results.read(table)) == recorded
    assert (outcome.row is not None) == is_there


class DaskCluster:
    """A scheduler and workers, processes of this machine."""

    def __init__(self, folder):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.folder, self.address = folder, f"tcp://127.0.0.1:{port}"
        self.processes = []
        self._start("dask_scheduler", "--host=127.0.0.1", f"--port={port}")

    def _start(self, name, *arguments):
        line = [sys.executable, "-m", f"distributed.cli.{name}", "--no-dashboard", *arguments]
        with open(self.folder / f"{name}.log", "a") as log:
            self.processes.append(subprocess.Popen(line, cwd=ROOT, env=environment(), stdout=log, stderr=log))

    def join(self, count):
        """Starts some workers more."""
        for _ in range(count):
            folder = self.folder / f"worker{len(self.processes)}"
            self._start(
                "dask_worker",
                self.address,
                "--nthreads=1",
                "--no-nanny",
                f"--local-directory={folder}",
                "--death-timeout=60",
            )

    flags = property(lambda self: ["--backend=dask", f"--cluster={self.address}", "--jobs=3"])

    def close(self):
        for each in self.processes:
            each.kill()
            each.wait()


class RayCluster:
    """Three workers on this machine, which the sweep starts; Ray itself starts another for one that died."""

    def __init__(self, folder):
        self.flags = ["--backend=ray", "--jobs=3"]

    def join(self, count):
        pass

    def close(self):
        pass


CLUSTERS = {"dask": DaskCluster, "ray": RayCluster}


def environment():
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}


def wait_for(condition, what):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come within {PATIENCE_S} s"
        time.sleep(0.1)


def parent_of(pid):
    return int(re.search(r"PPid:\s*(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1])


@pytest.mark.slow
@pytest.mark.parametrize("backend", CLUSTERS)
def test_a_worker_that_is_killed_loses_no_cell_and_one_that_joins_late_gets_some(backend, tmp_path):
    package = {"dask": "dask.distributed", "ray": "ray"}[backend]
    pytest.importorskip(package, reason="the extra `sweep` is not installed", exc_type=ImportError)
    cluster, sweep = CLUSTERS[backend](tmp_path), None
    workdir = tmp_path / "sweep"
    flags = ["--models=linear1", "--methods=nvil,muprop", "--learning_rates=3e-4,1e-3", f"--workdir={workdir}"]
    sizes = ["--hidden_units=4", "--report_every=500", "--checkpoint_minutes=0.01", "--num_steps=15000"]
    try:
        cluster.join(2)
        line = [sys.executable, "-m", "trainers.sweep", *flags, *sizes, *cluster.flags]
        sweep = subprocess.Popen(
            line, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        wait_for(lambda: len([*workdir.glob("*/checkpoint.keras")]) >= 1, "a checkpoint")
        first = next(workdir.glob("*/checkpoint.keras")).parent
        cell = int(re.search(r"process (\d+)", (first / ".lock").read_text())[1])
        os.kill(parent_of(cell), signal.SIGKILL)
        cluster.join(1)
        output, errors = sweep.communicate(timeout=3 * PATIENCE_S)
    finally:
        if sweep is not None:
            sweep.kill()
        cluster.close()
    assert sweep.returncode == 0, errors
    assert '"finished": 4' in output.splitlines()[-1], output + errors
    assert {row["status"] for row in results.read(workdir / "results.csv")} == {results.FINISHED}
    starts = [int(step) for step in re.findall(r"from step (\d+)", (first / "log.txt").read_text())]
    assert len(starts) == 2  # the worker's, and that of the one which took its cell
    assert starts[1] > starts[0] == 0
    assert [row["step"] for row in callbacks.read_curve(first / "curve.csv")] == list(range(500, 15001, 500))
