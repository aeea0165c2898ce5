"""Faults around a run: damage, a full disk, two at once, divergence, signals. What is lost, and what is said."""

import errno
import io
import json
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import time

import pytest
import tensorflow as tf
from helpers import command_line
from helpers.marks import slow_but
from helpers.training import ROOT, command, process
from helpers.training import TINY as TINY_REBAR
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rebar_tf import callbacks
from trainers.run.lock import locked
from trainers.run.workdir import Workdir, load_model

TINY = (*TINY_REBAR, "--estimator=nvil")  # which compiles fastest


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, short_programs):
    """The folder of a run of 21 steps that nothing stopped; its reports end at 6, 12, 18 and 21."""
    return command_line.finished_run(command, tmp_path_factory.mktemp("unbroken"), *TINY, "--num_steps=21")


@pytest.fixture
def run(unbroken, tmp_path):
    """A copy of it."""
    return pathlib.Path(shutil.copytree(unbroken, tmp_path / "run"))


def again(run, steps=21):
    return command(*TINY, f"--num_steps={steps}", f"--workdir={run}")


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def curve(run):
    rows = callbacks.read_curve(run / "curve.csv")
    return [{name: value for name, value in row.items() if name != "steps_per_second"} for row in rows]


def points(run, tag="bound/train"):
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"tensors": 0}, purge_orphaned_data=False)
    return [(event.step, tf.make_ndarray(event.tensor_proto).item()) for event in events.Reload().Tensors(tag)]


def assert_same(run, unbroken):
    assert curve(run) == curve(unbroken)
    assert command_line.numbers(run) == command_line.numbers(unbroken)
    assert points(run) == points(unbroken)


def error_line(capsys):
    """The only line on stderr."""
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_is_used(run, unbroken, capsys):
    damaged = run / "checkpoint.keras"
    flip(damaged)
    (run / "summary.json").unlink()
    content = damaged.read_bytes()
    assert again(run) == 0
    captured = capsys.readouterr()
    assert "from step 18" in captured.out
    (line,) = captured.err.splitlines()
    assert line.startswith(f"{damaged} is damaged (")
    assert line.endswith("kept as checkpoint.damaged.keras; the one before, checkpoint.previous.keras, is used")
    assert (run / "checkpoint.damaged.keras").read_bytes() == content
    assert_same(run, unbroken)


def test_a_run_whose_checkpoints_are_all_damaged_does_not_start_anew(run, capsys):
    (run / "summary.json").unlink()
    for name in ("checkpoint.keras", "checkpoint.previous.keras"):
        flip(run / name)
    kept = ("checkpoint.keras", "checkpoint.previous.keras", "curve.csv")
    before = {name: (run / name).read_bytes() for name in kept}
    assert again(run) == 2
    assert "checkpoint.keras is damaged" in error_line(capsys)
    assert {name: (run / name).read_bytes() for name in kept} == before


def test_a_finished_run_without_its_checkpoints_does_not_start_anew(run, capsys):
    for name in ("checkpoint.keras", "checkpoint.previous.keras"):
        (run / name).unlink()
    assert again(run, 24) == 2
    assert "holds a finished run without its checkpoint" in error_line(capsys)


@pytest.mark.parametrize(
    ("damage", "left"),
    slow_but(
        [("header", 0), ("gone", 0), ("digit", 3)],
        [("header", 0), ("digit", 0), ("line", 0), ("gone", 0), ("header", 3), ("digit", 3)],
    ),
)
def test_a_damaged_curve_is_named_and_made_anew(run, unbroken, damage, left, capsys):
    path = run / "curve.csv"
    if left:  # as many steps are
        shutil.copy(run / "checkpoint.previous.keras", run / "checkpoint.keras")
    (run / "summary.json").unlink()
    lines = path.read_bytes().splitlines(keepends=True)
    lines[0] = b"stop" + lines[0][4:] if damage == "header" else lines[0]
    lines[2] = lines[2].replace(b"-2", b"-3") if damage == "digit" else lines[2]
    lines[2] = lines[2].replace(b"-2", b"-x") if damage == "line" else lines[2]
    path.write_bytes(b"".join(lines))
    if damage == "gone":
        path.unlink()
    assert again(run) == 0
    line = error_line(capsys)
    assert line.startswith(f"{path} is damaged (")
    assert line.endswith("it is made anew from the checkpoint")
    assert (run / "curve.damaged.csv").exists() == (damage != "gone")
    assert_same(run, unbroken)


def test_damaged_flags_are_those_of_the_checkpoint(run, unbroken, capsys):
    (run / "flags.json").write_text("{")
    (run / "summary.json").unlink()
    assert again(run) == 0
    assert f"{run / 'flags.json'} cannot be read" in error_line(capsys)
    assert json.loads((run / "flags.json").read_text())["hidden_units"] == 8
    assert_same(run, unbroken)
    (run / "flags.json").write_text("{")
    assert command(*TINY, "--num_steps=21", f"--workdir={run}", "--seed=3") == 2  # still not another run
    assert "--seed was 0 and is now 3" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "{", "[]", '{"step'])
def test_a_damaged_summary_is_named_and_made_anew(run, unbroken, content, capsys):
    (run / "summary.json").write_text(content)
    assert again(run) == 0
    assert f"{run / 'summary.json'} cannot be read" in error_line(capsys)
    assert_same(run, unbroken)


def test_a_second_process_is_refused_with_the_pid_of_the_first(run, capsys):
    (run / "summary.json").unlink()
    with locked(run):
        assert again(run) == 4
    line = error_line(capsys)
    assert f"flag --workdir={run}: in use by process {os.getpid()} on " in line
    assert again(run) == 0  # the file stays, the lock does not


def test_the_lock_of_a_dead_process_is_free(tmp_path):
    script = (
        "import pathlib, sys, time; from trainers.run.lock import locked\n"
        "with locked(pathlib.Path(sys.argv[1])): print('locked', flush=True); time.sleep(60)"
    )
    arguments = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as holder:
        assert holder.stdout.readline() == b"locked\n"
        with pytest.raises(Exception, match=f"in use by process {holder.pid} on "), locked(tmp_path):
            pass
        holder.kill()
        holder.wait()
        with locked(tmp_path):
            pass


def fill_disk(patch, run, name):
    """The disk is full for whoever opens a file of the run to write, whose name begins like this."""
    opened = io.open

    def full(file, mode="r", *arguments, **more):
        path = pathlib.Path(file) if isinstance(file, str | os.PathLike) else None
        if path is not None and run in path.parents and path.name.startswith(name) and mode.strip("rb"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return opened(file, mode, *arguments, **more)

    patch.setattr("builtins.open", full)
    patch.setattr("io.open", full)


@pytest.mark.parametrize("name", slow_but(("events", ".summary"), ["curve", ".curve", "events", ".summary", ".flags"]))
def test_a_full_disk_is_one_line_and_the_checkpoints_stay(run, name, monkeypatch, capsys):
    (run / "summary.json").unlink()
    names = ("checkpoint.keras", "checkpoint.previous.keras")
    before = {path: (run / path).read_bytes() for path in names}
    steps = 21 if name == ".summary" else 24  # it is all that is left to do
    with monkeypatch.context() as patch:
        fill_disk(patch, run, name)
        assert again(run, steps) == 2
    line = error_line(capsys)
    assert line.startswith(f"train.py: error: flag --workdir={run}: [Errno 28] No space left on device")
    assert {path: (run / path).read_bytes() for path in names} == before
    assert again(run, steps) == 0
    assert [step for step, _ in points(run)] == [row["step"] for row in curve(run)] == [6, 12, 18, steps]


def test_a_file_that_cannot_grow_is_one_line(run, capsys):
    """Real writes fail, those of Keras's own files too."""
    (run / "summary.json").unlink()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = (run / "checkpoint.keras").read_bytes()
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        assert again(run, 24) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "File too large" in error_line(capsys)
    assert (run / "checkpoint.keras").read_bytes() == before
    assert not list(run.glob(".checkpoint*"))


def test_a_folder_that_is_removed_is_one_line(run, monkeypatch, capsys):
    monkeypatch.setattr(callbacks.StopOnDivergence, "on_epoch_end", lambda *arguments, **more: shutil.rmtree(run, True))
    assert again(run, 33) == 2
    assert f"flag --workdir={run}: [Errno 2] No such file or directory" in error_line(capsys)


def test_a_run_that_diverges_ends_with_status_3_and_keeps_the_good_checkpoint(tmp_path, capsys):
    arguments = (*TINY_REBAR, "--task=structured", f"--workdir={tmp_path}", "--learning_rate=1e3")
    assert command(*arguments, "--num_steps=600") == 3
    line = error_line(capsys)
    assert line.startswith("train.py: error: flag --learning_rate=1000: training diverged: ")
    assert "try a lower one" in line
    assert line.endswith("; no checkpoint was saved")
    assert not (tmp_path / "summary.json").exists()
    assert all(abs(row["bound"]) < 1e30 for row in curve(tmp_path))


def test_the_last_good_checkpoint_of_a_run_that_diverges_is_named(run, monkeypatch, capsys):
    from trainers.run import loop

    before = (run / "checkpoint.keras").read_bytes()
    fit = loop._fit

    def broken(model, *arguments):
        model.trainable_variables[0].assign(model.trainable_variables[0] * float("nan"))
        fit(model, *arguments)

    monkeypatch.setattr(loop, "_fit", broken)
    assert again(run, 33) == 3
    assert error_line(capsys).endswith(f"the last good checkpoint is {run / 'checkpoint.keras'}")
    assert (run / "checkpoint.keras").read_bytes() == before


def stopped(signum, seconds, *arguments):
    """Sends a process a signal after some seconds; whether that stopped it, with one line and its status."""
    with process(*arguments) as one:
        time.sleep(seconds)
        one.send_signal(signum)
        _, error = one.communicate(timeout=100)
    if one.returncode == 0:
        return False
    assert (one.returncode, error.count("\n")) == (128 + signum, 1), error
    assert error.startswith(f"stopped by {signum.name}")
    return True


@pytest.mark.parametrize(("signum", "seconds"), [(signal.SIGINT, 0.3), (signal.SIGTERM, 1.0)])
def test_a_signal_in_the_first_second_is_one_line(signum, seconds, tmp_path):
    assert stopped(signum, seconds, *TINY, f"--workdir={tmp_path / 'run'}")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_any_phase_is_one_line_and_the_run_goes_on(unbroken, tmp_path, signum):
    """From the first tenth of a second to the end; the fault benchmark does more of it."""
    arguments = (*TINY, "--num_steps=21", f"--workdir={tmp_path}")
    assert sum(stopped(signum, seconds, *arguments) for seconds in (0.2, 0.5, 1.0, 2.0, 4.0, 6.0, 8.0)) > 3
    assert again(tmp_path) == 0
    assert command_line.numbers(tmp_path) == command_line.numbers(unbroken)


def test_the_default_is_a_checkpoint_a_minute():
    from trainers.train import __main__ as train

    assert train.parse(["train.py"]).checkpoint_minutes == 1.0
    assert callbacks.Checkpoint("checkpoint.keras").minutes == 1.0


def test_a_user_gets_the_model_of_the_last_good_checkpoint(run, capsys):
    flip(run / "checkpoint.keras")
    names = sorted(os.listdir(run))
    assert callbacks.global_step(load_model(run)) == 18
    assert "is damaged" in error_line(capsys)
    assert sorted(os.listdir(run)) == names  # a reader renames nothing
    assert Workdir(run).last_good() == run / "checkpoint.previous.keras"


@pytest.mark.slow
def test_the_fault_benchmark_finds_nothing_lost():
    arguments = [sys.executable, "-m", "benchmarks.faults", "--kills=2", "--commands=train"]
    done = subprocess.run(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert (done.returncode, found["kills survived"], found["mismatches"], found["damaged files"]) == (0, 2, 0, 0)
