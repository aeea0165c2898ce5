"""Cells of a sweep that are trained in one program: each as if it was alone."""

import json
import os
import signal
import sys
import types

import numpy as np
import pytest
from helpers import command_line
from helpers.command_line import curve
from helpers.training import TINY
from helpers.training import command as train

from rebar_tf import callbacks
from rebar_tf.training import RunGroup
from trainers.common.methods import Method
from trainers.run import group as run_group
from trainers.run.workdir import load_model
from trainers.sweep import __main__ as sweep
from trainers.sweep import grid, group, process, results, training

FLAGS = (*TINY, "--estimator=nvil")


def cell(folder, seed=0, rate=3e-4, steps=12):
    return (*FLAGS, f"--workdir={folder}", f"--seed={seed}", f"--learning_rate={rate:g}", f"--num_steps={steps}")


def together(*cells):
    return command_line.exit_status(lambda: group.main(["group.py", *map(" ".join, cells)]))


def assert_like(folder, other):
    """The run of a folder came to what another came to, but for rounding and speed."""
    for ours, theirs in zip(curve(folder), curve(other), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)
    ours, theirs = (command_line.numbers(each) for each in (folder, other))
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert ours[name] == (pytest.approx(value, rel=1e-4) if isinstance(value, float) else value)
    for ours, theirs in zip(load_model(folder).variables, load_model(other).variables, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-3, atol=1e-5)


@pytest.fixture(scope="module")
def alone(tmp_path_factory, short_programs):
    """Folders of three runs, each trained alone."""
    top = tmp_path_factory.mktemp("alone")
    for name, seed, rate in (("a", 0, 3e-4), ("b", 1, 3e-4), ("c", 1, 1e-2)):
        assert train(*cell(top / name, seed, rate)) == 0
    return top


def test_each_cell_has_a_run_of_its_own(alone, tmp_path):
    folders = {name: tmp_path / name for name in "abc"}
    given = (cell(folders["a"]), cell(folders["b"], 1), cell(folders["c"], 1, 1e-2))
    assert together(*given) == 0
    for name, folder in folders.items():
        assert_like(folder, alone / name)
        assert {path.name for path in folder.iterdir()} == {*os.listdir(alone / name), "log.txt"}
        steps = [line.split()[1] for line in (folder / "log.txt").read_text().splitlines()]
        assert steps == ["0/12", "6/12", "12/12"]
        written = json.loads((folder / "flags.json").read_text())
        assert written == {**json.loads((alone / name / "flags.json").read_text()), "workdir": str(folder)}


@pytest.mark.slow
def test_cells_at_different_steps_go_on_to_the_same_end(alone, tmp_path, short_programs):
    assert train(*cell(tmp_path / "b", 1, steps=6)) == 0  # it has gone ahead
    assert together(cell(tmp_path / "a"), cell(tmp_path / "b", 1)) == 0
    for name in "ab":
        assert_like(tmp_path / name, alone / name)


def test_a_signal_saves_all_cells_which_go_on_together(alone, tmp_path, monkeypatch, capsys, short_programs):
    sent = []

    def on_train_batch_end(self, batch, logs=None):
        if callbacks.global_step(self.model) == 9 and not sent:  # between two reports
            sent.append(os.kill(os.getpid(), signal.SIGTERM))

    given = (cell(tmp_path / "a"), cell(tmp_path / "b", 1))
    with monkeypatch.context() as patch:
        patch.setattr(callbacks.CurveCsv, "on_train_batch_end", on_train_batch_end)
        assert together(*given) == 143
    assert "stopped by SIGTERM at step 9" in capsys.readouterr().err
    assert [callbacks.global_step(load_model(tmp_path / name)) for name in "ab"] == [9, 9]
    assert together(*given) == 0
    for name in "ab":
        assert_like(tmp_path / name, alone / name)


def test_a_cell_that_diverges_says_so_and_the_others_go_on(alone, tmp_path):
    assert together(cell(tmp_path / "a"), cell(tmp_path / "wild", rate=1e30)) == 0
    assert_like(tmp_path / "a", alone / "a")
    assert not (tmp_path / "wild" / "summary.json").exists()
    assert "training diverged: " in (tmp_path / "wild" / "log.txt").read_text().splitlines()[-1]
    assert not (tmp_path / "wild" / "checkpoint.keras").exists()


def test_a_program_ends_when_all_its_cells_have_diverged(tmp_path, monkeypatch):
    groups = []
    monkeypatch.setattr(run_group, "RunGroup", lambda models: groups.append(RunGroup(models)) or groups[0])
    given = [cell(tmp_path / name, seed, rate=1e30, steps=600) for seed, name in enumerate("ab")]
    assert together(*given) == 0
    assert int(groups[0].optimizer.iterations.numpy()) == 6
    for name in "ab":
        lines = (tmp_path / name / "log.txt").read_text().splitlines()
        assert len(lines) == 3  # the first bound, that of the first report, and the reason
        assert "training diverged: " in lines[-1]


def test_cells_that_differ_in_more_are_refused(tmp_path, capsys):
    assert together(cell(tmp_path / "a"), cell(tmp_path / "b", steps=18)) == 2
    assert "flag --num_steps=18: expected 12 for all cells of a group" in capsys.readouterr().err
    assert together(cell(tmp_path / "a"), cell(tmp_path / "a", 1)) == 2
    assert together() == 2
    assert capsys.readouterr().err.count("expected a --workdir of its own for each") == 2


def test_what_cannot_be_trained_together_is_one_line(tmp_path, capsys):
    given = [(*each, "--estimator=relax") for each in (cell(tmp_path / "a"), cell(tmp_path / "b", 1))]
    assert together(*given) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("sweep.py: error: flag --stacked: Estimator 'relax' cannot be trained in one program")
    assert together(cell(tmp_path / "a", rate=-1.0)) == 2
    assert "--learning_rate=-1" in capsys.readouterr().err


# Stands in for trainers.sweep.group: cells of seed 3 diverge, one of seed 9 ends it all. It prints to the first log.
GROUP = """
import json, pathlib, shlex, sys
cells = [dict(part[2:].split("=", 1) for part in shlex.split(text)) for text in sys.argv[1:]]
for given in cells:
    folder = pathlib.Path(given["workdir"])
    (folder / "together").write_text(json.dumps([each["seed"] for each in cells]))
    if given["seed"] == "9":
        print("out of luck", file=sys.stderr)
        sys.exit(7)
    if given["seed"] == "3":
        continue
    print("pictures of a cell", flush=True)
    bounds = dict.fromkeys(["train_bound", "valid_bound_100", "test_bound_100"], -100.0)
    (folder / "summary.json").write_text(json.dumps({**bounds, "steps": int(given["num_steps"])}))
for given in cells:
    if given["seed"] == "3":
        with open(pathlib.Path(given["workdir"], "log.txt"), "a") as log:
            log.write("training diverged: bound is nan at step 10\\n")
"""


@pytest.fixture
def sweeping(tmp_path, monkeypatch):
    """Runs a sweep of stacked cells with the stand-in; its exit status."""
    (tmp_path / "group.py").write_text(GROUP)
    monkeypatch.setattr(process, "GROUP_TRAINER", (sys.executable, "-S", str(tmp_path / "group.py")))
    fixed = ("sweep.py", "--models=linear1", "--num_steps=50", f"--workdir={tmp_path / 'sweep'}", "--jobs=1")
    return lambda *arguments: command_line.exit_status(lambda: sweep.main([*fixed, *arguments]))


def rows(tmp_path):
    found = results.read(tmp_path / "sweep" / "results.csv")
    return {(row["method"], row["learning_rate"], row["seed"]): row["status"] for row in found}


def test_a_program_has_cells_of_one_network_and_method(sweeping, tmp_path):
    arguments = ("--methods=nvil,rebar", "--learning_rates=3e-4,1e-3", "--seeds=0,1,2", "--stacked=4")
    assert sweeping(*arguments) == 0
    assert set(rows(tmp_path).values()) == {"finished"}
    assert len(rows(tmp_path)) == 12
    sizes = {folder.parent.name.split("-")[3]: set() for folder in (tmp_path / "sweep").glob("*/together")}
    for path in (tmp_path / "sweep").glob("*/together"):
        sizes[path.parent.name.split("-")[3]].add(len(json.loads(path.read_text())))
    assert sizes == {"nvil": {4, 2}, "rebar": {4, 2}}


def test_each_cell_of_a_program_has_its_own_end(sweeping, tmp_path, capsys):
    assert sweeping("--methods=nvil", "--learning_rates=3e-4", "--seeds=3,0", "--stacked=2") == 0
    assert rows(tmp_path) == {("nvil", 3e-4, 0): "finished", ("nvil", 3e-4, 3): "diverged"}
    assert "diverged, training diverged: bound is nan at step 10" in capsys.readouterr().out


def test_of_a_program_that_fails_cells_that_had_ended_have_finished(sweeping, tmp_path, capsys):
    assert sweeping("--methods=nvil", "--learning_rates=3e-4", "--seeds=1,9,2", "--stacked=3") == 1
    assert rows(tmp_path) == {
        ("nvil", 3e-4, 1): "finished",
        ("nvil", 3e-4, 9): "failed",
        ("nvil", 3e-4, 2): "failed",
    }
    assert capsys.readouterr().out.count("failed, exit status 7: out of luck") == 2


def test_on_a_cluster_each_cell_is_a_program(sweeping, capsys):
    assert sweeping("--stacked=2", "--backend=dask") == 2
    assert "flag --stacked=2: expected 1 with --backend=dask" in capsys.readouterr().err


def test_cells_that_end_together_leave_the_same_time(monkeypatch, capsys):
    times = iter([0.0, 3600.0, 3600.0])
    monkeypatch.setattr(training, "time", types.SimpleNamespace(monotonic=lambda: next(times)))
    method = Method("nvil", "nvil")
    cells = [grid.Cell("random", "generative", "linear1", method, 3e-4, seed, 50) for seed in (0, 1)]
    row = {**dict.fromkeys(results.MEASURED, -100.0), "status": results.FINISHED}
    training.Progress(total=4, done=0).show([process.Outcome(cell, row) for cell in cells])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["[1/4]", "[2/4]"]
    assert all(line.endswith("; about 1:00 h to go") for line in lines)
