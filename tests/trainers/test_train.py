"""A training run: what it writes, how it resumes, and which folders it refuses."""

import functools
import json
import math
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from helpers import command_line
from helpers.command_line import curve
from helpers.training import ROOT, TINY, command, process
from matplotlib import image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from rebar_tf import callbacks
from trainers.run import loop
from trainers.run.workdir import load_model
from trainers.train import __main__ as train

assert_fails_with = functools.partial(command_line.assert_fails_with, command)


def state(workdir):
    """All that training goes on from, as arrays."""
    model = load_model(workdir)
    metrics = [variable for metric in model.metrics for variable in metric.variables]
    return [np.asarray(variable.numpy()) for variable in [*model.variables, *model.optimizer.variables, *metrics]]


def assert_same_run(workdir, other):
    assert curve(workdir) == curve(other)
    assert command_line.numbers(workdir) == command_line.numbers(other)
    for ours, theirs in zip(state(workdir), state(other), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, short_programs):
    """The folder of a run of 21 steps that nothing stopped; its reports end at 6, 12, 18 and 21."""
    workdir = tmp_path_factory.mktemp("unbroken")
    return command_line.finished_run(command, workdir, *TINY, "--num_steps=21")


@pytest.fixture
def signal_at(monkeypatch):
    """Sends this process a signal during the program that ends at a step."""

    def install(step, signum=None):
        def on_train_batch_end(self, batch, logs=None):
            if callbacks.global_step(self.model) == step:
                os.kill(os.getpid(), signum)

        monkeypatch.setattr(callbacks.CurveCsv, "on_train_batch_end", on_train_batch_end)

    return install


def test_a_progress_line_for_each_report_and_the_summary_last(unbroken):
    first, *lines, _, last = (unbroken / "stdout").read_text().splitlines()
    assert first == f"rebar on mnist_5k in {unbroken}, from step 0"
    assert [line.split()[1] for line in lines] == ["0/21", "6/21", "12/21", "18/21", "21/21"]
    assert json.loads(last) == json.loads((unbroken / "summary.json").read_text())


def test_curve_has_a_row_for_each_report(unbroken):
    rows = callbacks.read_curve(unbroken / "curve.csv")
    assert [row["step"] for row in rows] == [6, 12, 18, 21]
    assert all({"bound", "valid_bound", "log_grad_variance", "temperature"} <= row.keys() for row in rows)
    assert all(-600 < row["bound"] < -100 for row in rows)


def test_summary_has_the_runs_numbers(unbroken):
    summary = json.loads((unbroken / "summary.json").read_text())
    rows = callbacks.read_curve(unbroken / "curve.csv")
    assert summary.keys() == {
        "train_bound",
        "valid_bound_2",
        "test_bound_2",
        "test_bound_2_standard_error",
        "log_grad_variance",
        "temperature",
        "steps",
        "steps_per_second",
        "device",
        "flags",
    }
    assert summary["device"].startswith(("CPU", "NVIDIA"))
    spans = np.array([6, 6, 6, 3])
    assert summary["train_bound"] == pytest.approx(np.average([row["bound"] for row in rows], weights=spans))
    variance = np.average(np.exp([row["log_grad_variance"] for row in rows]), weights=spans)
    assert summary["log_grad_variance"] == pytest.approx(math.log(variance))
    assert summary["temperature"] == rows[-1]["temperature"]
    assert summary["steps"] == 21
    assert summary["steps_per_second"] > 0
    assert summary["flags"] == json.loads((unbroken / "flags.json").read_text())
    assert summary["flags"].keys() == train.parse(["train.py"]).flags().keys()
    assert summary["flags"]["hidden_units"] == 8


def test_tensorboard_has_the_curve(unbroken):
    events = EventAccumulator(str(unbroken / "tensorboard"), size_guidance={"tensors": 0}).Reload()
    rows = callbacks.read_curve(unbroken / "curve.csv")
    tags = {
        "bound": "bound/train",
        "valid_bound": "bound/valid",
        "log_grad_variance": "variance/all",
        "temperature": "temperature",
    }
    for column, tag in tags.items():
        values = {event.step: tf.make_ndarray(event.tensor_proto).item() for event in events.Tensors(tag)}
        assert values == {row["step"]: np.float32(row[column]) for row in rows}


def test_a_run_leaves_pictures(unbroken):
    for name in ("curve", "samples", "reconstructions"):
        assert np.ptp(image.imread(unbroken / f"{name}.png")) > 0.5
    assert f"pictures: {unbroken}/*.png; curves: tensorboard --logdir={unbroken}" in (unbroken / "stdout").read_text()
    events = EventAccumulator(str(unbroken / "tensorboard"), size_guidance={"tensors": 0}).Reload()
    for tag in ("samples", "reconstructions", "etas", "logits/stochastic_0"):
        assert len(events.Tensors(tag)) >= 1
    metadata = events.SummaryMetadata("_hparams_/session_start_info")
    settings = HParamsPluginData.FromString(metadata.plugin_data.content).session_start_info.hparams
    assert settings["estimator"].string_value == "rebar"
    assert "workdir" not in settings


def test_a_finished_run_prints_its_summary_again_and_writes_nothing(unbroken, capsys):
    before = {path: path.stat().st_mtime_ns for path in unbroken.rglob("*")}
    assert command(*TINY, "--num_steps=21", f"--workdir={unbroken}") == 0
    assert json.loads(capsys.readouterr().out) == json.loads((unbroken / "summary.json").read_text())
    assert {path: path.stat().st_mtime_ns for path in unbroken.rglob("*")} == before


@pytest.mark.slow
def test_the_model_is_rebuilt_from_the_folder_in_a_new_process(unbroken):
    script = (
        "import sys, rebar_tf as rt; from trainers.run.workdir import load_model\n"
        "model = load_model(sys.argv[1])\n"
        "print(model.bound(rt.datasets.load('mnist_5k').test, num_samples=2).mean(dtype='float64'))"
    )
    arguments = [sys.executable, "-c", script, str(unbroken)]
    out = subprocess.run(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    assert float(out) == pytest.approx(command_line.numbers(unbroken)["test_bound_2"], rel=1e-6)


def test_an_interrupted_run_goes_on_as_if_unbroken(unbroken, tmp_path, signal_at, capsys):
    arguments = (*TINY, "--num_steps=21", f"--workdir={tmp_path}")
    signal_at(9, signal.SIGTERM)  # within a report
    assert command(*arguments) == 143
    assert "stopped by SIGTERM at step 9; the same command goes on" in capsys.readouterr().err
    signal_at(18, signal.SIGINT)  # at the end of one
    assert command(*arguments) == 130
    captured = capsys.readouterr()
    assert "from step 9" in captured.out
    assert "stopped by SIGINT at step 18" in captured.err
    assert not (tmp_path / "summary.json").exists()
    signal_at(None)
    assert command(*arguments) == 0
    assert "from step 18" in capsys.readouterr().out
    assert_same_run(tmp_path, unbroken)


@pytest.mark.slow
def test_a_run_that_is_given_more_steps_goes_on_as_if_unbroken(unbroken, tmp_path):
    assert command(*TINY, "--num_steps=9", f"--workdir={tmp_path}") == 0
    assert [row["step"] for row in curve(tmp_path)] == [6, 9]
    assert command(*TINY, "--num_steps=21", f"--workdir={tmp_path}") == 0
    assert_same_run(tmp_path, unbroken)
    assert json.loads((tmp_path / "flags.json").read_text())["num_steps"] == 21


def test_ctrl_c_in_a_process(tmp_path):
    workdir = tmp_path / "run"
    with process(
        "--hidden_units=8",
        "--batch_size=4",
        "--report_every=50",
        "--num_steps=1000000",
        f"--workdir={workdir}",
    ) as run:
        for line in run.stdout:
            if "100/1000000" in line:
                run.send_signal(signal.SIGINT)
                break
        _, error = run.communicate(timeout=60)
    assert run.returncode == 130
    message = error.splitlines()[-1]  # TensorFlow 2.19 logs before it
    assert message.startswith("stopped by SIGINT at step ")
    step = int(message.split("step ")[1].split(";")[0])
    assert callbacks.global_step(load_model(workdir)) == step
    assert [row["step"] for row in callbacks.read_curve(workdir / "curve.csv")] == list(range(50, step + 1, 50))


@pytest.mark.slow
def test_a_structured_run_goes_on(tmp_path, short_programs, capsys):
    arguments = (*TINY, "--task=structured", "--structured_generator=deep", "--num_layers=2", f"--workdir={tmp_path}")
    for steps in (6, 12):
        assert command(*arguments, f"--num_steps={steps}") == 0
    out = capsys.readouterr().out
    assert "from step 6" in out
    assert [row["step"] for row in curve(tmp_path)] == [6, 12]
    assert -400 < json.loads(out.splitlines()[-1])["valid_bound_2"] < -50  # of 392 pixels; fair coins have -272
    message = "--structured_generator was deep and is now paper"
    assert_fails_with(message, capsys, *arguments, "--num_steps=12", "--structured_generator=paper")


def test_a_workdir_below_a_file(tmp_path, capsys):
    (tmp_path / "file").write_text("kept")
    message = f"--workdir={tmp_path / 'file' / 'run'}: {tmp_path / 'file'} is not a folder"
    assert_fails_with(message, capsys, *TINY, f"--workdir={tmp_path / 'file' / 'run'}")
    assert (tmp_path / "file").read_text() == "kept"


def test_a_workdir_without_a_name(capsys):
    assert_fails_with("--workdir=: expected a folder of its own", capsys, *TINY, "--workdir=")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--learning_rate=0.1", "--seed=3"),
            "--learning_rate was 0.0003 and is now 0.1; --seed was 0 and is now 3",
        ),
        (("--temperature=0.1",), "--temperature was unset and is now 0.1"),
        (("--num_steps=20",), "--num_steps=20: expected for --workdir={} 21 or more"),
    ],
)
def test_a_workdir_of_a_run_with_other_flags(unbroken, capsys, arguments, message):
    before = {path: path.stat().st_mtime_ns for path in unbroken.rglob("*")}
    arguments = (*TINY, "--num_steps=21", *arguments, f"--workdir={unbroken}")
    assert_fails_with(message.format(unbroken), capsys, *arguments)
    assert {path: path.stat().st_mtime_ns for path in unbroken.rglob("*")} == before


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("flags.json", "{", "cannot read flags.json"),
        ("flags.json", "[]", "cannot read flags.json"),
        ("checkpoint.keras", "", "checkpoint.keras is damaged"),
    ],
)
def test_a_workdir_that_is_no_run(tmp_path, capsys, file, content, message):
    (tmp_path / file).write_text(content)
    assert_fails_with(message, capsys, *TINY, f"--workdir={tmp_path}")
    assert os.listdir(tmp_path) == [file]


def test_a_damaged_checkpoint(unbroken, tmp_path, capsys):
    chosen = json.loads((unbroken / "flags.json").read_text())
    (tmp_path / "flags.json").write_text(json.dumps({**chosen, "workdir": str(tmp_path)}))
    whole = (unbroken / "checkpoint.keras").read_bytes()
    (tmp_path / "checkpoint.keras").write_bytes(whole[: len(whole) // 2])
    assert_fails_with("checkpoint.keras is damaged", capsys, *TINY, "--num_steps=21", f"--workdir={tmp_path}")


@pytest.mark.parametrize(
    ("start", "num_steps", "every", "expected"),
    [
        (0, 3000, 500, [(500, 6)]),
        (0, 21, 6, [(6, 3), (3, 1)]),
        (9, 21, 6, [(3, 1), (6, 1), (3, 1)]),
        (9, 11, 6, [(2, 1)]),
        (12, 24, 6, [(6, 2)]),
        (21, 21, 6, []),
        (0, 3, 6, [(3, 1)]),
    ],
)
def test_phases(start, num_steps, every, expected):
    assert list(loop.phases(start, num_steps, every)) == expected
