"""Evaluation of a finished run: bounds, KL and active units against enumeration, what is kept, and bad workdirs."""

import contextlib
import csv
import functools
import io
import itertools
import json
import os
import shutil
import signal

import numpy as np
import pytest
import tensorflow as tf
from helpers import command_line
from helpers.networks import dense, log_bernoulli
from matplotlib import image
from scipy.special import logsumexp

import rebar_tf as rt
from rebar_tf import callbacks
from rebar_tf.callbacks import read_table
from rebar_tf.training import bounds
from trainers.common.errors import RateTooHigh
from trainers.common.statistics import mean_and_error
from trainers.evaluate import __main__ as evaluate
from trainers.evaluate import evaluation, inference, results, units
from trainers.run.workdir import Workdir, load_model
from trainers.train import __main__ as train

X = np.random.default_rng(0).integers(0, 2, (40, 6)).astype(np.float32)
STATES = np.array(list(itertools.product([0.0, 1.0], repeat=3)))
QUICK = ("--samples=1,3", "--splits=test", "--max_images=20")


def network(num_layers=1, estimator="rebar"):
    model = rt.models.SigmoidBeliefNetwork(num_layers, 3, visible_units=6, estimator=estimator, seed=0)
    rng = np.random.default_rng(1)
    for variable in model.model_variables:
        variable.assign(rng.normal(size=variable.shape))
    return model


def exact_log_likelihood(model):
    visible = np.asarray(model.visible_logits(tf.constant(2 * STATES - 1, tf.float32)), np.float64)
    log_joint = log_bernoulli(X[:, np.newaxis], visible) + log_bernoulli(STATES, np.asarray(model.prior_logits))
    return logsumexp(log_joint, axis=1)


@pytest.mark.parametrize("estimator", ["rebar", "concrete", "gumbel_straight_through"])
def test_bounds_rise_to_the_log_likelihood_whatever_the_estimator(estimator):
    model = network(estimator=estimator)
    exact = exact_log_likelihood(model)
    repeated = np.repeat(X, 50, axis=0)
    found = [model.bound(repeated, num_samples=k, seed=1).reshape(40, 50) for k in (1, 10, 5000)]
    assert np.all(np.diff([b.mean() for b in found]) > 0)
    gap = found[-1].mean(axis=1, dtype=np.float64) - exact
    error = found[-1].std(axis=1, ddof=1) / np.sqrt(50)
    assert np.all(gap < 5 * error + 1e-5)  # a relaxed sample would give no lower bound
    assert np.all(gap > -5 * error - 0.01)  # the bias of 5,000 samples


def test_many_samples_add_up_without_rounding_and_report_progress(monkeypatch):
    class Constant:
        def evaluation_objective(self, x):
            return tf.fill([2], 100.0), None

    seen = []
    found = bounds.multi_sample_bound(Constant(), np.zeros([2, 1]), num_samples=5000, progress=seen.append)
    np.testing.assert_allclose(found, -100.0, atol=1e-5)  # in float32 the sum is off by more than 0.001
    assert len(seen) > 1
    assert sum(seen) == 2 * 5000


def test_how_samples_are_cut_into_programs_changes_nothing(monkeypatch):
    model = network()
    whole = model.bound(X, num_samples=23)
    monkeypatch.setattr(bounds, "_SAMPLES_PER_PROGRAM", 10)
    np.testing.assert_array_equal(model.bound(X, num_samples=23), whole)


@pytest.mark.parametrize("num_layers", [1, 2])
def test_kl_against_enumeration(num_layers):
    model = network(num_layers)
    repeats = 100
    rows = units.layers(model, (np.repeat(X, repeats, axis=0),), "test")
    logits = dense(model.encoder[0], X.astype(np.float64) - model.data_mean.numpy())
    q1 = np.exp(log_bernoulli(STATES, logits[:, np.newaxis]))
    log_q1, prior = np.log(q1), log_bernoulli(STATES, np.asarray(model.prior_logits, np.float64))
    if num_layers == 1:
        expected = [np.sum(q1 * (log_q1 - prior), axis=1)]
    else:
        log_q2 = log_bernoulli(STATES, dense(model.encoder[1], 2 * STATES - 1)[:, np.newaxis])
        log_p1 = log_bernoulli(STATES[:, np.newaxis], dense(model.generator[1], 2 * STATES - 1)[np.newaxis])
        below = log_q1 - np.einsum("xi,ij,ij->xi", np.ones_like(q1), np.exp(log_q2), log_p1)
        above = np.sum(np.exp(log_q2) * (log_q2 - prior), axis=1)
        expected = [np.sum(q1 * below, axis=1), q1 @ above]
    for row, values in zip(rows, expected, strict=True):
        assert row["kl"] == pytest.approx(values.mean(), abs=5 * row["kl_standard_error"] if num_layers > 1 else 1e-4)
    assert [row["layer"] for row in rows] == list(range(1, num_layers + 1))


def test_active_units_by_hand():
    half = np.tile([[0.0], [1.0]], (50, 1))
    spread = np.array([0.0, 0.21, 0.19])  # standard deviations 0, 0.105 and 0.095
    means = (half * spread)[np.newaxis] + np.zeros([2, 1, 1])
    assert units.active_units(means).tolist() == [False, True, False]


def test_noise_of_the_samples_makes_no_unit_active():
    means = np.random.default_rng(0).uniform(size=(4, 5000, 2))  # variance 1/12, of averages of four 1/48
    means[..., 1] += np.linspace(0.0, 1.0, 5000)  # and one that depends on x
    assert means.mean(axis=0).var(axis=0).min() > units.ACTIVE
    assert units.active_units(means).tolist() == [False, True]


def test_mean_and_error():
    assert mean_and_error([1.0, 3.0]) == (2.0, pytest.approx(1.0))
    assert mean_and_error([1.0]) == (1.0, None)
    assert mean_and_error([1.0, -np.inf]) == (None, None)


def trained(folder, *arguments):
    tiny = (
        "--estimator=nvil",
        "--hidden_units=8",
        "--batch_size=4",
        "--num_steps=6",
        "--report_every=6",
        "--eval_samples=3",
    )
    with contextlib.redirect_stdout(io.StringIO()):
        assert not train.main(["train.py", *tiny, *arguments, f"--workdir={folder}"])
    return folder


def command(*arguments):
    return command_line.exit_status(lambda: evaluate.main(["evaluate.py", *map(str, arguments)]))


assert_fails_with = functools.partial(command_line.assert_fails_with, command)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("run"))


@pytest.fixture
def workdir(run, tmp_path):
    return shutil.copytree(run, tmp_path / "run")


def test_results_pictures_and_the_bound_of_the_summary(workdir, capsys):
    assert command("--samples=3", "--splits=test", f"--workdir={workdir}") == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result == json.loads((workdir / "evaluation.json").read_text())
    (row,) = result["bounds"]
    summary = json.loads((workdir / "summary.json").read_text())
    assert (row["bound"], row["standard_error"]) == (summary["test_bound_3"], summary["test_bound_3_standard_error"])
    values = load_model(workdir).bound(rt.datasets.load("mnist_5k").test, num_samples=3)
    assert row["standard_error"] == pytest.approx(values.std(ddof=1, dtype=np.float64) / np.sqrt(500))
    with open(workdir / "evaluation.csv", newline="") as file:
        (cells,) = csv.DictReader(file)
    assert cells == {name: str(row[name]) for name in results.COLUMNS}
    for name in ("samples", "reconstructions"):
        picture = image.imread(workdir / f"{name}.png")
        assert picture.shape == (900, 900)
        assert np.ptp(picture) > 0.5


@pytest.mark.slow
def test_an_interrupted_evaluation_keeps_what_is_done(workdir, capsys, monkeypatch):
    compute, asked = results.bound_row, []

    def stopped(model, examples, key):
        asked.append(key["samples"])
        if key["samples"] == 3 and len(asked) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return compute(model, examples, key)

    monkeypatch.setattr(results, "bound_row", stopped)
    assert command(*QUICK, f"--workdir={workdir}") == 130
    assert "stopped by SIGINT" in capsys.readouterr().err
    assert [row["samples"] for row in json.loads((workdir / "evaluation.json").read_text())["bounds"]] == [1]
    assert command(*QUICK, f"--workdir={workdir}") == 0
    assert command(*QUICK, f"--workdir={workdir}") == 0
    assert asked == [1, 3, 3]
    result = json.loads((workdir / "evaluation.json").read_text())
    assert [row["samples"] for row in result["bounds"]] == [1, 3]
    content = {**result, "run": {**result["run"], "checkpoint": "another"}}
    (workdir / "evaluation.json").write_text(json.dumps(content))
    assert command(*QUICK, f"--workdir={workdir}") == 0
    assert asked == [1, 3, 3, 1, 3]


def test_a_separate_inference_network_needs_a_full_batch_of_test_images(workdir, tmp_path, capsys):
    copied = tmp_path / "copied"
    shutil.copytree(workdir, copied)
    flags = json.loads((copied / "flags.json").read_text())
    (copied / "flags.json").write_text(json.dumps({**flags, "batch_size": 501}))
    message = f"of 500 images or fewer; {copied} has --batch_size=501"
    assert_fails_with(message, capsys, "--fit_inference_network", f"--workdir={copied}")
    assert not list(copied.glob(f"{inference.FOLDER}*"))


def test_a_separate_inference_network_that_diverges_is_named():
    named = "flag --fit_inference_network: with the run's flag --learning_rate=1: training diverged"
    with pytest.raises(RateTooHigh, match=f"^{named}$"), inference._fitting():
        raise RateTooHigh("flag --learning_rate=1: training diverged")


@pytest.mark.slow
def test_a_separate_inference_network(workdir, capsys):
    fit = ("--fit_inference_network", "--report_every=3", f"--workdir={workdir}", *QUICK)
    for steps in (3, 9):
        assert command(*fit, f"--fit_steps={steps}") == 0
    assert command(*fit, "--fit_steps=6") == 2
    assert "flag --fit_steps=6: expected 9 or more" in capsys.readouterr().err
    assert command(*fit, "--fit_steps=9") == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])["inference_network"]
    assert (result["steps"], result["images"]) == (9, 500)
    assert result["gain"] == pytest.approx(result["separate_bound"] - result["own_bound"])
    folder = workdir / result["folder"]
    rows = inference.read_rows(folder / "bounds.csv")
    assert [row["step"] for row in rows] == [0, 3, 6, 9]
    assert len({row["own_bound"] for row in rows}) == 1
    assert len({row["separate_bound"] for row in rows}) == 4
    assert rows[-1]["separate_bound"] == pytest.approx(result["separate_bound"])
    assert (folder / "bounds.png").exists()
    assert (folder / "bounds.svg").exists()
    model, network = load_model(workdir), load_model(folder)
    for own, other in zip(model.generator, network.generator, strict=True):
        for ours, theirs in zip(own.get_weights(), other.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(model.prior_logits.numpy(), network.prior_logits.numpy())
    assert {variable.path.split("/")[0] for variable in network.model_variables} == {"encoder_0"}
    assert not np.array_equal(model.encoder[0].get_weights()[0], network.encoder[0].get_weights()[0])
    assert rows[0]["own_bound"] == rows[0]["separate_bound"]  # it starts from the network of the training
    (row,) = read_table(workdir / inference.TABLE, inference.TABLE_COLUMNS)
    assert (row["step"], row["fit_steps"]) == (callbacks.global_step(model), 9)
    assert row["gain"] == pytest.approx(result["gain"])


def test_a_separate_network_starts_from_that_of_the_training_and_freezes_the_generator():
    model = rt.models.SigmoidBeliefNetwork(num_layers=2, hidden_units=3, visible_units=5, seed=0)
    rng = np.random.default_rng(0)
    for variable in model.model_variables:
        variable.assign(rng.normal(size=variable.shape))
    network = inference.SeparateInference.from_config(model.get_config())
    network.copy_networks(model)
    x = rng.integers(0, 2, (20, 5)).astype(np.float32)
    np.testing.assert_array_equal(network.bound(x, num_samples=3), model.bound(x, num_samples=3))
    assert {variable.path.split("/")[0] for variable in network.model_variables} == {"encoder_0", "encoder_1"}


def test_each_checkpoint_has_a_row_in_the_order_of_their_steps(tmp_path):
    path = tmp_path / "inference.csv"
    for step, bound in ((500, -110.0), (100, -120.0), (500, -109.0)):
        numbers = {"own_bound": bound - 1.0, "separate_bound": bound, "gain": 1.0, "gain_standard_error": 0.1}
        inference._record(path, {"step": step, **numbers, "fit_steps": 9})
    rows = read_table(path, inference.TABLE_COLUMNS)
    assert [(row["step"], row["separate_bound"]) for row in rows] == [(100, -120.0), (500, -109.0)]


@pytest.mark.slow
def test_a_structured_run(tmp_path, capsys):
    folder = trained(tmp_path / "run", "--task=structured", "--num_layers=2")
    assert command(*QUICK, f"--workdir={folder}") == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [row["kl"] for row in result["layers"]] == [None, None]
    assert (folder / "reconstructions.png").exists()
    assert not (folder / "samples.png").exists()
    assert_fails_with(
        "expected for runs of --task=generative", capsys, "--fit_inference_network", f"--workdir={folder}"
    )


def test_bad_workdirs(workdir, tmp_path, capsys):
    assert_fails_with("flag --workdir: must be given", capsys)
    assert_fails_with("cannot read flags.json", capsys, f"--workdir={tmp_path / 'none'}")
    whole = (workdir / "checkpoint.keras").read_bytes()
    (workdir / "checkpoint.keras").write_bytes(whole[: len(whole) // 2])
    assert_fails_with("checkpoint.keras is damaged", capsys, f"--workdir={workdir}")
    (workdir / "summary.json").unlink()
    assert_fails_with("holds no finished run", capsys, f"--workdir={workdir}")
    (workdir / "flags.json").write_text("[]")
    assert_fails_with("cannot read flags.json", capsys, f"--workdir={workdir}")


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--samples=0", "--samples=0: expected integers of 1 or more"),
        ("--samples=1,x", "--samples=1,x: expected integers of 1 or more"),
        ("--splits=trial", "--splits=trial: expected some of train, valid, test"),
        ("--max_images=0", "--max_images=0: expected an integer of 1 or more"),
        ("--sample=1", "Unknown command line flag 'sample'"),
        ("test", "argument 'test': expected flags only"),
    ],
)
def test_bad_flags(run, flag, message, capsys):
    assert_fails_with(message, capsys, f"--workdir={run}", flag)


@pytest.mark.parametrize(("trained_with", "given", "verified"), [("", "", True), ("no", "", False), ("", "no", False)])
def test_other_images_are_taken_where_run_or_command_says_so(run, tmp_path, monkeypatch, trained_with, given, verified):
    workdir = shutil.copytree(run, tmp_path / "run")
    flags = json.loads((workdir / "flags.json").read_text())
    (workdir / "flags.json").write_text(json.dumps({**flags, "verify_data": not trained_with}))
    options = evaluate.parse(["evaluate.py", f"--workdir={workdir}", f"--{given}verify_data"])
    assert evaluation._finished_run(Workdir(workdir), options).verify_data == verified
