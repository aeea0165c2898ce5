"""Methods compared along one trajectory: the numbers against a plain loop, the command line, and how it goes on."""

import contextlib
import csv
import datetime
import json
import os
import pathlib
import signal
import subprocess
import sys
import xml.etree.ElementTree

import command_line
import keras
import numpy as np
import pytest
from absl.testing import flagsaver
from matplotlib import colors, image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import rebar_tf as rt
from rebar_tf import callbacks
from rebar_tf.diagnostics import ComparedVariance
from trainers import experiment, flags, variance, variance_methods, variance_report
from trainers.workdir import Workdir

ROOT = pathlib.Path(__file__).parents[1]
TINY = ("--hidden_units=8", "--batch_size=4", "--report_every=6", "--methods=nvil,rebar", "--follow=nvil")
METHODS = ("nvil", "rebar", "concrete")
FOLLOW = "rebar"
IMAGES = (np.random.default_rng(0).uniform(size=(12, 6)) < 0.3).astype(np.float32)
BATCHES = IMAGES.reshape(6, 2, 6)
UNBIASED = ("nvil", "rebar")


def network(method):
    model = rt.models.SigmoidBeliefNetwork(
        num_layers=2, hidden_units=4, visible_units=6, estimator=method, seed=3, data_mean=IMAGES.mean(axis=0)
    )
    model.gradient_variance.every = 1  # the moments of each of the few steps
    return model


def comparison(kind=rt.diagnostics.EstimatorComparison, methods=METHODS, follow=FOLLOW):
    model = kind({method: network(method) for method in methods}, follow)
    model.compile(optimizer=rt.optimizers.Adam(0.01), steps_per_execution=3)
    return model


def fit(model):
    return model.fit(IMAGES, batch_size=2, shuffle=False, verbose=0).history


def run_eagerly(model, batches=BATCHES):
    """The same steps without a compiled program, which takes seconds to compile; the report at the end."""
    model.optimizer.build(model.trainable_variables)
    model.reset_metrics()
    for x in batches:
        logs = model.train_step(x)
    return {name: float(value) for name, value in logs.items()}


def arrays(variables):
    return [variable.numpy() for variable in variables]


def assert_close(ours, theirs):
    """Equal but for the order of float32 sums, which another program may change."""
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-6)


@pytest.fixture(scope="module")
def plain():
    """Plain training of the followed method."""
    model = network(FOLLOW)
    model.compile(optimizer=rt.optimizers.Adam(0.01), jit_compile=True, steps_per_execution=3)
    return model, fit(model)


@pytest.fixture(scope="module")
def compared():
    model = comparison()
    return model, fit(model)


@pytest.fixture(scope="module")
def by_hand():
    """The same in a plain loop: every method has its own copy of the followed parameters and its own optimizer."""
    models = {method: network(method) for method in METHODS}
    optimizers = {method: rt.optimizers.Adam(0.01) for method in METHODS}
    logs = []
    for x in BATCHES:
        for model in models.values():
            for own, followed in zip(model.model_variables, models[FOLLOW].model_variables, strict=True):
                own.assign(followed)
        for method, model in models.items():
            _, gradients = model.estimate_gradients(x)
            pairs = list(zip(gradients, model.trainable_variables, strict=True))
            optimizers[method].build(model.trainable_variables)
            optimizers[method].apply_gradients(pairs)
            model.gradient_variance.update_state([g for g, v in pairs if any(v is m for m in model.model_variables)])
        logs.append({method: moments(model) for method, model in models.items()})
    return models, logs


def moments(model):
    """Both averages, as lists of arrays by variable."""
    return arrays(model.gradient_variance.first), arrays(model.gradient_variance.second)


def parts(model):
    return ["prior_logits" if "prior" in v.path else v.path.split("/")[0] for v in model.model_variables]


def expected_logs(logs, names):
    """What the last report must say, in NumPy float64, from the moments after each step."""
    variances, signals = {}, {}
    for part in (None, *names):
        chosen = [k for k, name in enumerate(names) if part in (None, name)]

        def entries(arrays, chosen=chosen):
            return np.concatenate([arrays[k].ravel() for k in chosen]).astype(np.float64)

        for step in logs:
            first = {method: entries(step[method][0]) for method in METHODS}
            pooled = np.mean([first[method] for method in UNBIASED], axis=0)
            for method in METHODS:
                mean = pooled if method in UNBIASED else first[method]
                variance = entries(step[method][1]) - mean**2
                variances.setdefault((method, part), []).append(variance.mean())
            for method in METHODS:
                rivals = UNBIASED if method in UNBIASED else (method,)
                least = sum(min(np.sum(np.square(step[m][0][k], dtype=np.float64)) for m in rivals) for k in chosen)
                signals.setdefault((method, part), []).append(least / len(entries(step[method][0])))
    result = {}
    for method, part in variances:
        suffix = method if part is None else f"{method}/{part}"
        variance = np.mean(variances[method, part])
        result[f"log_variance/{suffix}"] = np.log(variance)
        result[f"signal_to_noise/{suffix}"] = np.sqrt(np.mean(signals[method, part]) / variance)
    return result


def test_the_followed_method_trains_as_it_would_alone(plain, compared):
    (alone, history), (model, logs) = plain, compared
    assert_close(arrays(model.followed.trainable_variables), arrays(alone.trainable_variables))
    assert logs["loss"] == pytest.approx(history["loss"], rel=1e-5)
    assert logs[f"temperature/{FOLLOW}"] == pytest.approx(history["temperature"], rel=1e-5)
    np.testing.assert_array_equal(model.bound(IMAGES, num_samples=3), model.followed.bound(IMAGES, num_samples=3))


def test_one_method_alone_has_the_variance_that_training_reports(plain):
    logs = run_eagerly(comparison(methods=(FOLLOW,)))
    assert logs[f"log_variance/{FOLLOW}"] == pytest.approx(plain[1]["log_grad_variance"][0], abs=1e-4)


def assert_as_by_hand(model, by_hand):
    models, logs = by_hand
    for method in METHODS:
        ours, theirs = model.models[method], models[method]
        assert_close(arrays(ours.control_variables), arrays(theirs.control_variables))
        for mine, other in zip(moments(ours), logs[-1][method], strict=True):
            assert_close(mine, other)
        assert int(ours.estimator.step) == len(BATCHES)


def test_each_method_has_the_moments_and_control_variables_of_a_plain_loop(compared, by_hand):
    assert_as_by_hand(compared[0], by_hand)
    assert_close(arrays(compared[0].followed.model_variables), arrays(by_hand[0][FOLLOW].model_variables))


def test_methods_at_parameters_of_their_own_are_told_from_those_at_the_followed_ones(by_hand):
    class Apart(rt.diagnostics.EstimatorComparison):
        def at_followed_parameters(self, model):
            return contextlib.nullcontext()

    model = comparison(Apart)
    run_eagerly(model)
    with pytest.raises(AssertionError):
        assert_as_by_hand(model, by_hand)


def test_the_report_is_the_formula(compared, by_hand):
    model, logs = compared
    expected = expected_logs(by_hand[1], parts(by_hand[0][FOLLOW]))
    assert model.parts == ["prior_logits", "encoder_0", "encoder_1", "generator_0", "generator_1"]
    assert len(expected) == 2 * len(METHODS) * (1 + len(model.parts))
    assert logs.keys() == {"loss", "temperature/rebar", "temperature/concrete", *expected}
    for name, value in expected.items():
        assert logs[name] == pytest.approx([value], rel=1e-3, abs=1e-3), name


def test_a_report_is_about_the_steps_since_the_last_reset(compared, by_hand):
    model = comparison()
    run_eagerly(model, BATCHES[:4])
    logs = run_eagerly(model, BATCHES[4:])
    expected = expected_logs(by_hand[1][4:], parts(by_hand[0][FOLLOW]))
    for name, value in expected.items():
        assert logs[name] == pytest.approx(value, rel=1e-3, abs=1e-3), name
    assert logs["log_variance/nvil"] != pytest.approx(compared[1]["log_variance/nvil"][0], abs=0.01)


def test_all_models_have_the_followed_parameters_between_executions(compared):
    for model in compared[0].models.values():
        for own, followed in zip(model.model_variables, compared[0].followed.model_variables, strict=True):
            np.testing.assert_array_equal(own.numpy(), followed.numpy())


def test_saved_and_loaded_it_goes_on_with_the_same_numbers(tmp_path):
    model = comparison()
    run_eagerly(model, BATCHES[:2])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert list(loaded.models) == list(METHODS)
    for network in loaded.models.values():
        network.gradient_variance.every = 1
    assert model.train_step(BATCHES[2]).keys() == loaded.train_step(BATCHES[2]).keys()
    for ours, theirs in zip(state(loaded), state(model), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def state(model):
    """All that goes on from a checkpoint, as arrays."""
    own = [variable for metric in model.metrics for variable in metric.variables]
    averages = [v for inner in model.models.values() for v in inner.gradient_variance.variables]
    return arrays([*model.variables, *model.optimizer.variables, *own, *averages])


def test_no_signal_and_no_variance():
    metric = ComparedVariance(["a", "b"], [True, False], ["p"], [2])
    averages = [rt.training.LogGradientVariance() for _ in range(2)]
    for average in averages:
        average.build_moments([np.zeros(2)])
    metric.update_state(1.0, averages)
    logs = metric.result()
    assert float(logs["log_variance/a"]) == -np.inf
    assert float(logs["signal_to_noise/a"]) == 0.0


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"`follow` must be one of nvil, rebar\. Received: follow='muprop'"):
        comparison(methods=("nvil", "rebar"), follow="muprop")
    wider = rt.models.SigmoidBeliefNetwork(hidden_units=5, visible_units=6, estimator="nvil", seed=0)
    with pytest.raises(ValueError, match=r"`models` must all have variables of the shapes .* Received: 'nvil' with"):
        rt.diagnostics.EstimatorComparison({"rebar": network("rebar"), "nvil": wider}, "rebar")


def command(*arguments):
    """Runs the command in this process; its exit status."""
    with flagsaver.flagsaver():
        return command_line.exit_status(lambda: variance.main(flags.parse(["variance.py", *map(str, arguments)])))


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
    assert header.split(",") == list(variance_report.COLUMNS)
    rows = variance_report.read_rows(unbroken / "variance.csv")
    keys = [(row["step"], row["method"], row["part"]) for row in rows]
    parts = ("all", "prior_logits", "encoder_0", "generator_0")
    assert keys == [(s, m, p) for s in (6, 12, 18, 21) for m in ("nvil", "rebar") for p in parts]
    assert {("temperature" in row) for row in rows if (row["method"], row["part"]) == ("rebar", "all")} == {True}
    assert not any("temperature" in row for row in rows if (row["method"], row["part"]) != ("rebar", "all"))
    assert all(np.isfinite([row["log_variance"], row["signal_to_noise"]]).all() for row in rows)
    assert [row["step"] for row in callbacks.read_curve(unbroken / "curve.csv")] == [6, 12, 18, 21]


def test_the_summary_has_the_last_report(unbroken):
    summary = json.loads((unbroken / "summary.json").read_text())
    rows = [row for row in variance_report.read_rows(unbroken / "variance.csv") if row["step"] == 21]
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
    for row in variance_report.read_rows(unbroken / "variance.csv"):
        name = row["method"] if row["part"] == "all" else f"{row['method']}/{row['part']}"
        values = {
            event.step: np.frombuffer(event.tensor_proto.tensor_content, np.float32)[0]
            for event in events.Tensors(f"log_variance/{name}")
        }
        assert values[row["step"]] == np.float32(row["log_variance"])


@pytest.mark.parametrize("quantity", ["log_variance", "signal_to_noise"])
def test_the_plots_show_every_curve(unbroken, quantity):
    picture = image.imread(unbroken / f"{quantity}.png")[..., :3]
    assert min(picture.shape[:2]) > 500
    for colour in ("#0072B2", "#D55E00"):
        assert np.all(np.abs(picture - colors.to_rgb(colour)) < 0.01, axis=-1).sum() > 500
    assert xml.etree.ElementTree.parse(unbroken / f"{quantity}.svg").getroot().tag.endswith("svg")


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
    rows = variance_report.read_rows
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


def settings(**changes):
    """The flags' defaults, but for what is given."""
    with flagsaver.flagsaver():
        flags.parse(["variance.py"])
        return {**variance._settings(), **changes}


def test_a_method_is_a_name_or_a_name_and_a_temperature():
    default = variance_methods.parse(settings())
    assert [method.name for method in default] == ["nvil", "simple_muprop", "muprop", "rebar:0.1", "rebar"]
    chosen = settings(methods=["rebar:0.1", "rebar", "concrete:0.5", "nvil", "rebar"], follow="nvil", eta="shared")
    methods = variance_methods.parse(chosen)
    assert [method.name for method in methods] == ["rebar:0.1", "rebar", "concrete:0.5", "nvil"]
    fixed, learned, concrete, nvil = (experiment.build_estimator(method.settings(chosen)) for method in methods)
    assert (fixed.temperature.initial, fixed.temperature.learn, fixed.scale.group) == (0.1, False, "shared")
    assert (learned.temperature.initial, learned.temperature.learn, learned.scale.group) == (0.5, True, "shared")
    assert (concrete.temperature.initial, type(concrete)) == (0.5, rt.estimators.Concrete)
    assert isinstance(nvil, rt.estimators.Nvil)


BAD_FLAGS = [
    ("--methods=nvil,rebarr", "--methods=nvil,rebarr: 'rebarr' is none; accepted are arm, concrete,"),
    ("--methods=nvil,vimco", "--methods=nvil,vimco: 'vimco' is none; accepted are"),
    ("--methods=nvil,exact", "--methods=nvil,exact: 'exact' is none; accepted are"),
    ("--methods=nvil:0.1", "--methods=nvil:0.1: 'nvil:0.1' has no temperature; those with one are concrete,"),
    ("--methods=nvil,rebar:0", "'rebar:0': accepted after the colon is a positive number"),
    ("--methods=nvil,rebar:", "'rebar:': accepted after the colon is a positive number"),
    ("--methods=nvil,rebar:hot", "'rebar:hot': accepted after the colon is a positive number"),
    ("--methods=", "--methods=: accepted is one or more of arm,"),
    ("--follow=muprop", "--follow=muprop: accepted is one of --methods, nvil, rebar"),
    ("--num_samples=4", "--num_samples=4: accepted where --methods has one of double_cv, rloo"),
    ("--estimator=rebar", "--estimator: accepted by trainers.train only"),
    ("--temperature=0.1", "--temperature: accepted by trainers.train only"),
    ("--dataset=cifar", "--dataset=cifar: accepted is one of mnist, mnist_5k"),
    ("--num_steps=0", "--num_steps=0: accepted is an integer of 1 or more"),
    ("--batch_size=4001", "--batch_size=4001: accepted is at most 4000"),
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
