"""The comparison of methods as a command: what it prints, writes and draws, how it resumes, and bad flags."""

import csv
import datetime
import json
import os
import pathlib
import signal
import subprocess
import sys
import xml.etree.ElementTree

import numpy as np
import pytest
import tensorflow as tf
from helpers import command_line
from matplotlib import colors, image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import rebar_tf as rt
from rebar_tf import callbacks
from trainers.common import estimator_options
from trainers.run.workdir import Workdir
from trainers.variance import __main__ as variance
from trainers.variance import report
from trainers.variance.comparison import parse_methods
from trainers.variance.settings import Settings

ROOT = pathlib.Path(__file__).parents[2]
TINY = ("--hidden_units=8", "--batch_size=4", "--report_every=6", "--methods=nvil,rebar", "--follow=nvil")


def command(*arguments):
    """Runs the command in this process; its exit status."""
    return command_line.exit_status(lambda: variance.main(["variance.py", *map(str, arguments)]))


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, short_programs):
    """The folder of a run of 21 steps that nothing stopped; its reports end at 6, 12, 18 and 21."""
    workdir = tmp_path_factory.mktemp("unbroken")
    return command_line.finished_run(command, workdir, *TINY, "--num_steps=21")


def test_two_lines_for_each_report_and_the_summary_last(unbroken):
    first, start, *lines, last = (unbroken / "stdout").read_text().splitlines()
    assert first == f"nvil, rebar on mnist_5k in {unbroken}, from step 0"
    assert [line.split()[1] for line in (start, *lines[::2])] == ["0/21", "6/21", "12/21", "18/21", "21/21"]
    assert [line.split()[:3] + line.split()[4:5] for line in lines[1::2]] == [["log", "variance", "nvil", "rebar"]] * 4
    assert json.loads(last) == json.loads((unbroken / "summary.json").read_text())


def test_the_table_has_a_row_for_each_report_method_and_part(unbroken):
    origin, header, *_ = (unbroken / "variance.csv").read_text().splitlines()
    assert origin.split(" ", 4)[:4] == ["#", "python", "-m", "trainers.variance"]
    command, date = origin.split(", ")
    given = {"--num_steps=21", "--seed=0", *TINY}
    assert set(command.split()[4:]) == given
    assert datetime.date.fromisoformat(date) <= datetime.date.today()
    assert header.split(",") == list(report.COLUMNS)
    rows = report.read_rows(unbroken / "variance.csv")
    keys = [(row["step"], row["method"], row["part"]) for row in rows]
    parts = ("all", "prior_logits", "encoder_0", "generator_0")
    assert keys == [(s, m, p) for s in (6, 12, 18, 21) for m in ("nvil", "rebar") for p in parts]
    assert {("temperature" in row) for row in rows if (row["method"], row["part"]) == ("rebar", "all")} == {True}
    assert not any("temperature" in row for row in rows if (row["method"], row["part"]) != ("rebar", "all"))
    assert all(np.isfinite([row["log_variance"], row["signal_to_noise"]]).all() for row in rows)
    assert [row["step"] for row in callbacks.read_curve(unbroken / "curve.csv")] == [6, 12, 18, 21]


def test_the_summary_has_the_last_report(unbroken):
    summary = json.loads((unbroken / "summary.json").read_text())
    rows = [row for row in report.read_rows(unbroken / "variance.csv") if row["step"] == 21]
    for row in rows:
        names = {"log_variance", "signal_to_noise", "temperature"} & row.keys()
        assert summary["methods"][row["method"]][row["part"]] == {name: row[name] for name in names}
    assert -600 < summary["bound"] < -100
    assert summary["steps"] == 21
    assert summary["steps_per_second"] > 0
    assert summary["flags"] == json.loads((unbroken / "flags.json").read_text())
    assert summary["flags"]["methods"] == ["nvil", "rebar"]
    assert not {"estimator", "temperature", "eval_samples"} & summary["flags"].keys()


def test_tensorboard_has_the_table(unbroken):
    events = EventAccumulator(str(unbroken / "tensorboard"), size_guidance={"tensors": 0}).Reload()
    for row in report.read_rows(unbroken / "variance.csv"):
        name = row["method"] if row["part"] == "all" else f"{row['method']}/{row['part']}"
        values = {
            event.step: tf.make_ndarray(event.tensor_proto).item() for event in events.Tensors(f"variance/{name}")
        }
        assert values[row["step"]] == np.float32(row["log_variance"])


@pytest.mark.parametrize("quantity", ["log_variance", "signal_to_noise"])
def test_the_plots_show_every_curve(unbroken, quantity):
    picture = image.imread(unbroken / f"{quantity}.png")[..., :3]
    assert min(picture.shape[:2]) > 500
    for colour in ("#0072B2", "#D55E00"):
        assert np.all(np.abs(picture - colors.to_rgb(colour)) < 0.01, axis=-1).sum() > 500
    assert xml.etree.ElementTree.parse(unbroken / f"{quantity}.svg").getroot().tag.endswith("svg")


@pytest.mark.slow
def test_an_interrupted_run_goes_on_as_if_unbroken(unbroken, tmp_path, monkeypatch, capsys):
    signals = {9: signal.SIGTERM}  # within a report

    def on_train_batch_end(self, batch, logs=None):
        signum = signals.pop(callbacks.global_step(self.model), None)
        if signum is not None:
            os.kill(os.getpid(), signum)

    monkeypatch.setattr(callbacks.CurveCsv, "on_train_batch_end", on_train_batch_end)
    arguments = (*TINY, "--num_steps=21", f"--workdir={tmp_path}")
    assert command(*arguments) == 143
    assert "stopped by SIGTERM at step 9; the same command goes on" in capsys.readouterr().err
    with open(tmp_path / "variance.csv", "a", newline="") as file:  # of steps that were lost, the last line cut
        csv.writer(file).writerow([12, "nvil", "all", 0.0, 0.0, ""])
        file.write("12,nvil,enc")
    assert not (tmp_path / "summary.json").exists()
    assert command(*arguments) == 0
    assert "from step 9" in capsys.readouterr().out
    rows = report.read_rows
    assert rows(tmp_path / "variance.csv") == rows(unbroken / "variance.csv")
    assert command_line.numbers(tmp_path) == command_line.numbers(unbroken)
    models = [Workdir(folder).load_model() for folder in (tmp_path, unbroken)]
    for ours, theirs in zip(*map(state, models), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_finished_run_prints_its_summary_again_and_writes_nothing(unbroken, capsys):
    before = {path: path.stat().st_mtime_ns for path in unbroken.rglob("*")}
    assert command(*TINY, "--num_steps=21", f"--workdir={unbroken}") == 0
    assert json.loads(capsys.readouterr().out) == json.loads((unbroken / "summary.json").read_text())
    assert {path: path.stat().st_mtime_ns for path in unbroken.rglob("*")} == before


def state(model):
    """All that goes on from a checkpoint, as arrays."""
    own = [variable for metric in model.metrics for variable in metric.variables]
    averages = [v for inner in model.models.values() for v in inner.gradient_variance.variables]
    return [variable.numpy() for variable in [*model.variables, *model.optimizer.variables, *own, *averages]]


def settings(**changes):
    """The flags' defaults, but for what is given."""
    return Settings.from_flags({**variance.parse(["variance.py"]).flags(), **changes})


def test_a_temperature_may_be_spelt_in_several_ways():
    chosen = variance.parse(
        ["variance.py", "--methods=nvil,rebar:1.0,rebar:1.0000001,rebar:1e0", "--follow=rebar:1.00"]
    )
    methods = parse_methods(chosen)
    assert [method.name for method in methods] == ["nvil", "rebar:1", "rebar:1.0000001"]
    assert [method.temperature for method in methods] == [None, 1.0, 1.0000001]
    assert chosen.follow == "rebar:1"


def test_a_method_is_a_name_or_a_name_and_a_temperature():
    default = parse_methods(settings())
    assert [method.name for method in default] == ["nvil", "simple_muprop", "muprop", "rebar:0.1", "rebar"]
    chosen = settings(methods=["rebar:0.1", "rebar", "concrete:0.5", "nvil", "rebar"], follow="nvil", eta="shared")
    methods = parse_methods(chosen)
    assert [method.name for method in methods] == ["rebar:0.1", "rebar", "concrete:0.5", "nvil"]
    fixed, learned, concrete, nvil = (
        estimator_options.build(method.applied_to(chosen.experiment)) for method in methods
    )
    assert (fixed.temperature.initial, fixed.temperature.learn, fixed.scale.group) == (0.1, False, "shared")
    assert (learned.temperature.initial, learned.temperature.learn, learned.scale.group) == (0.5, True, "shared")
    assert (concrete.temperature.initial, type(concrete)) == (0.5, rt.estimators.Concrete)
    assert isinstance(nvil, rt.estimators.Nvil)


BAD_FLAGS = [
    ("--methods=nvil,rebarr", "--methods=nvil,rebarr: 'rebarr' is none; expected arm, arms, carms, concrete,"),
    ("--methods=nvil,vimco", "--methods=nvil,vimco: 'vimco' is none; expected"),
    ("--methods=nvil,exact", "--methods=nvil,exact: 'exact' is none; expected"),
    ("--methods=nvil:0.1", "--methods=nvil:0.1: 'nvil:0.1' has no temperature; those with one are concrete,"),
    ("--methods=nvil,rebar:0", "'rebar:0': expected a positive number after the colon"),
    ("--methods=nvil,rebar:", "'rebar:': expected a positive number after the colon"),
    ("--methods=nvil,rebar:hot", "'rebar:hot': expected a positive number after the colon"),
    ("--methods=", "--methods=: expected one or more of arm,"),
    ("--follow=muprop", "--follow=muprop: expected one of --methods, nvil, rebar"),
    (
        "--num_samples=4",
        "--num_samples=4: expected where --methods has one of arms, carms, double_cv, multi_sample_rebar, rloo",
    ),
    ("--estimator=rebar", "Unknown command line flag 'estimator'"),
    ("--temperature=0.1", "Unknown command line flag 'temperature'"),
    ("--dataset=cifar", "--dataset=cifar: expected one of mnist, mnist_5k"),
    ("--num_steps=0", "--num_steps=0: expected an integer of 1 or more"),
    ("--batch_size=4001", "--batch_size=4001: expected at most 4000"),
    ("--method=nvil", "Unknown command line flag 'method'"),
]


@pytest.mark.parametrize(("flag", "message"), BAD_FLAGS)
def test_a_bad_flag_is_one_line_and_makes_no_folder(flag, message, tmp_path, capsys):
    assert command(*TINY, f"--workdir={tmp_path / 'run'}", flag) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert message in captured.err
    assert os.listdir(tmp_path) == []


def test_a_workdir_of_another_run(unbroken, capsys):
    assert command(*TINY, "--num_steps=21", f"--workdir={unbroken}", "--methods=nvil,muprop") == 2
    assert "holds a run with other flags: --methods was" in capsys.readouterr().err


def test_help_in_a_process():
    arguments = [sys.executable, "-m", "trainers.variance", "--help"]
    run = subprocess.run(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=120)
    assert run.returncode == 0
    assert all(f"--{name}" in run.stdout for name in ("methods", "follow", "num_layers", "num_steps"))
    assert "--eval_samples" not in run.stdout
    assert "{" not in run.stdout
