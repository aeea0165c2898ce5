"""The toy problem's command line: who reaches the optimum, what it writes, and what it says to bad input."""

import contextlib
import csv
import functools
import io
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from helpers import command_line
from matplotlib import colors, image

import rebar_tf as rt
from trainers.toy import __main__ as toy
from trainers.toy import comparison, problem

ROOT = pathlib.Path(__file__).parents[2]


def command(*arguments):
    """Runs the command in this process; its exit status."""
    return command_line.exit_status(lambda: toy.main(["toy.py", *map(str, arguments)]))


assert_fails_with = functools.partial(command_line.assert_fails_with, command)


@pytest.fixture(scope="module")
def hard(tmp_path_factory):
    """The folder of a run at t = 0.499 with the default number of steps."""
    workdir = tmp_path_factory.mktemp("toy")
    with contextlib.redirect_stdout(io.StringIO()) as out, pytest.MonkeyPatch.context() as patch:
        patch.setattr(problem, "_FRESH_ESTIMATES", 1000)  # the variance needs no precision here
        assert command("--target=0.499", "--estimators=rebar,relax,concrete", f"--workdir={workdir}") == 0
    (workdir / "stdout").write_text(out.getvalue())
    return workdir


def summary(workdir):
    return json.loads((workdir / "summary.json").read_text())


def rows(workdir):
    with open(workdir / "curve.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_rebar_and_relax_reach_the_optimum_where_concrete_fails(hard):
    results = summary(hard)["estimators"]
    assert {name: result["reached"] for name, result in results.items()} == {
        "rebar": True,
        "relax": True,
        "concrete": False,
    }
    assert summary(hard)["optimum"] == pytest.approx(0.499**2)
    for name in ("rebar", "relax"):
        assert results[name]["probability"] < 0.05
        assert results[name]["loss"] - 0.499**2 < 0.05 * (0.501**2 - 0.499**2)
        assert results[name]["log_variance"] < results["concrete"]["log_variance"] - 3.0
    assert 0.3 < results["concrete"]["probability"] < 0.7


def test_prints_a_line_for_each_estimator_and_the_summary_last(hard):
    header, *lines, last = (hard / "stdout").read_text().splitlines()
    assert header.split() == ["method", "theta", "P(b=1)", "loss", "optimum", "log", "variance", "reached"]
    results = summary(hard)["estimators"]
    assert [line.split()[0] for line in lines] == ["rebar", "relax", "concrete"]
    for line in lines:
        name, theta, probability, loss, optimum, log_variance, reached = line.split()
        result = results[name]
        numbers = [result["theta"], result["probability"], result["loss"], 0.249001, result["log_variance"]]
        assert [float(n) for n in (theta, probability, loss, optimum, log_variance)] == pytest.approx(numbers, abs=5e-3)
        assert reached == ("yes" if result["reached"] else "no")
    assert json.loads(last) == summary(hard)


def test_the_curve_runs_from_the_start_to_the_last_step(hard):
    curve = [row for row in rows(hard) if row["estimator"] == "rebar"]
    assert [int(row["step"]) for row in curve] == list(range(0, 200_001, 2000))
    assert float(curve[0]["theta"]) == 0.0
    assert float(curve[0]["loss"]) == pytest.approx((0.499**2 + 0.501**2) / 2)
    assert float(curve[-1]["loss"]) == summary(hard)["estimators"]["rebar"]["loss"]
    last = np.exp([float(row["log_variance"]) for row in curve[-25:]])
    assert np.log(last.mean()) == pytest.approx(summary(hard)["estimators"]["rebar"]["log_variance"])


def test_the_plot_shows_every_curve(hard):
    picture = image.imread(hard / "curve.png")[..., :3]
    assert min(picture.shape[:2]) > 500
    for colour in ("#0072B2", "#D55E00"):  # of the first and the second curve of a column
        assert np.all(np.abs(picture - colors.to_rgb(colour)) < 0.01, axis=-1).sum() > 1000


@pytest.mark.parametrize("target", [0.1, 0.5, 0.9])
def test_the_exact_loss_is_the_mean_over_both_values(target):
    theta = np.log(0.3 / 0.7)
    assert problem.exact_loss(theta, target) == pytest.approx(0.7 * target**2 + 0.3 * (1 - target) ** 2)
    assert problem.exact_loss(30.0 if target > 0.5 else -30.0, target) == pytest.approx(problem.optimum(target))


def test_measured_estimates_have_the_exact_mean_and_variance():
    model = problem.ToyModel(0.4, "reinforce", seed=0, baseline=True)
    model.theta.assign([-0.5])
    p = problem.probability(-0.5)
    f, score = np.array([0.16, 0.36]), np.array([-p, 1.0 - p])  # of b = 0 and b = 1
    weights = np.array([1.0 - p, p])
    mean = np.sum(weights * f * score)
    variance = np.sum(weights * (f * score - mean) ** 2)
    estimates = model.estimates(100_000).numpy()
    assert mean == pytest.approx(p * (1 - p) * (1 - 2 * 0.4))
    assert abs(estimates.mean() - mean) < 4.5 * np.sqrt(variance / len(estimates))
    assert estimates.var() == pytest.approx(variance, rel=0.02)


def test_measuring_draws_other_noise_than_training_and_new_noise_each_time():
    model = problem.ToyModel(0.4, "reinforce", seed=0, baseline=True)
    first = model.estimates(50).numpy()
    model.estimate_gradients(tf.zeros([1, 1]))
    assert not np.array_equal(model.estimates(50).numpy(), first)


@pytest.mark.parametrize(("num_steps", "length"), [(1, 1), (99, 1), (100, 1), (101, 2), (250, 3)])
def test_all_steps_are_done_and_none_more(num_steps, length):
    lengths = list(problem._record_lengths(num_steps))
    assert lengths[0] == 0
    assert sum(lengths) == num_steps
    assert set(lengths[1:-1]) <= {length}
    assert len(lengths) <= problem.RECORDS + 1


def test_a_run_is_a_function_of_its_seed():
    first, again, other = (problem.train("reinforce", 0.4, 300, 0.01, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.theta, again.theta)
    np.testing.assert_array_equal(first.variance, again.variance)
    assert not np.array_equal(first.theta, other.theta)


def test_the_exact_gradient_has_no_variance_and_its_log_is_none(tmp_path, capsys):
    assert command("--target=0.7", "--estimators=exact", "--num_steps=20", f"--workdir={tmp_path}") == 0
    assert summary(tmp_path)["estimators"]["exact"]["log_variance"] is None
    assert {row["log_variance"] for row in rows(tmp_path)} == {"-inf"}
    assert summary(tmp_path)["estimators"]["exact"]["theta"] > 0  # the optimum is b = 1
    assert " -inf " in capsys.readouterr().out


def test_the_baseline_can_be_left_out():
    def has_baseline(wanted):
        return problem.ToyModel(0.4, "nvil", seed=0, baseline=wanted).estimator.baseline is not None

    assert has_baseline(True)
    assert not has_baseline(False)


def test_by_default_all_estimators_of_this_objective_run():
    settings = comparison.completed(toy.parse(["toy.py", "--target=0.49"]))
    assert set(settings["estimators"]) == set(rt.estimators.names()) - {"ovis", "vimco", "wake_sleep"}
    assert settings["workdir"] == os.path.join("runs", "toy-0.49")
    chosen = toy.parse(["toy.py", "--estimators=vimco,rebar,vimco"])
    assert comparison.completed(chosen)["estimators"] == ["vimco", "rebar"]


BAD_FLAGS = [
    ("--target=-0.1", "--target=-0.1: expected a number from 0 to 1"),
    ("--target=1.01", "--target=1.01: expected a number from 0 to 1"),
    ("--target=nan", "--target=nan: expected a number from 0 to 1"),
    ("--target=half", "--target=half: expected a number from 0 to 1"),
    ("--estimators=rebar,rebarr", "--estimators=rebar,rebarr: 'rebarr' is none; expected arm, arms, carms, concrete,"),
    ("--estimators=", "--estimators=: expected one or more of arm, arms, carms, concrete,"),
    ("--num_steps=0", "--num_steps=0: expected an integer from 1 to"),
    ("--num_steps=-5", "--num_steps=-5: expected an integer from 1 to"),
    ("--num_steps=1.5", "--num_steps=1.5: expected an integer from 1 to"),
    ("--learning_rate=0", "--learning_rate=0: expected a positive number"),
    ("--learning_rate=inf", "--learning_rate=inf: expected a positive number"),
    ("--seed=-1", "--seed=-1: expected an integer from 0 to"),
    ("--baseline=maybe", "--baseline=maybe: "),
    ("--targets=0.4", "Unknown command line flag 'targets'. Did you mean: target ?; expected those of --help"),
    ("0.45", "argument '0.45': expected flags only"),
]


@pytest.mark.parametrize(("flag", "message"), BAD_FLAGS)
def test_a_bad_flag_is_one_line_and_makes_no_folder(flag, message, tmp_path, capsys):
    assert_fails_with(message, capsys, f"--workdir={tmp_path / 'run'}", flag)
    assert os.listdir(tmp_path) == []


def test_a_bad_flag_in_a_process(tmp_path):
    arguments = [sys.executable, "-m", "trainers.toy", "--target=2", f"--workdir={tmp_path / 'run'}"]
    run = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 2
    assert run.stdout == ""
    assert run.stderr == "toy.py: error: flag --target=2: expected a number from 0 to 1\n"


def test_a_workdir_that_cannot_be_used(tmp_path, capsys):
    (tmp_path / "file").write_text("kept")
    (tmp_path / "checkpoint.keras").write_text("kept")
    assert_fails_with("--workdir=: expected a folder of its own", capsys, "--workdir=")
    assert_fails_with(f"--workdir={tmp_path / 'file'}: ", capsys, f"--workdir={tmp_path / 'file'}")
    assert_fails_with("holds a run of trainers.train", capsys, f"--workdir={tmp_path}")
    assert sorted(os.listdir(tmp_path)) == ["checkpoint.keras", "file"]


def test_help_names_flags_and_estimators(capsys):
    assert command("--help") == 0
    out = capsys.readouterr().out
    words = set(out.replace(",", " ").replace(".", " ").split())
    assert set(rt.estimators.names()) <= words
    assert all(f"--{name}" in out for name in toy.parse(["toy.py"]))


def test_ctrl_c_is_one_line(tmp_path, capsys, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(problem, "train", interrupted)
    assert command("--estimators=rebar", f"--workdir={tmp_path}") == 130
    assert capsys.readouterr().err == "stopped by SIGINT; the same command starts anew\n"
    assert not (tmp_path / "summary.json").exists()
