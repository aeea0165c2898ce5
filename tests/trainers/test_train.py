"""The trainer's command line: what it writes, how it goes on, and what it says to bad input."""

import functools
import gzip
import json
import math
import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest
from helpers import command_line
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import rebar_tf as rt
from rebar_tf import callbacks
from trainers.common import build, estimator_options, tensorflow_import
from trainers.common.experiment import Experiment
from trainers.run import loop
from trainers.run.workdir import Workdir, load_model
from trainers.train import __main__ as train

ROOT = pathlib.Path(__file__).parents[2]
TINY = ("--hidden_units=8", "--batch_size=4", "--report_every=6", "--eval_samples=2")


def command(*arguments):
    """Runs the trainer in this process; its exit status."""
    return command_line.exit_status(lambda: train.main(["train.py", *map(str, arguments)]))


assert_fails_with = functools.partial(command_line.assert_fails_with, command)


def process(*arguments):
    """Starts the trainer in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "trainers.train", *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"},
    )


def state(workdir):
    """All that training goes on from, as arrays."""
    model = load_model(workdir)
    metrics = [variable for metric in model.metrics for variable in metric.variables]
    return [np.asarray(variable.numpy()) for variable in [*model.variables, *model.optimizer.variables, *metrics]]


def curve(workdir):
    """The curve without the speed, which no two runs share."""
    rows = callbacks.read_curve(Workdir(workdir).curve)
    return [{name: value for name, value in row.items() if name != "steps_per_second"} for row in rows]


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
    first, *lines, last = (unbroken / "stdout").read_text().splitlines()
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
        "log_grad_variance",
        "temperature",
        "steps",
        "steps_per_second",
        "flags",
    }
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
    for tag in ("bound", "valid_bound", "log_grad_variance", "temperature"):
        values = {
            event.step: np.frombuffer(event.tensor_proto.tensor_content, np.float32)[0] for event in events.Tensors(tag)
        }
        assert values == {row["step"]: np.float32(row[tag]) for row in rows}


def test_a_finished_run_prints_its_summary_again_and_writes_nothing(unbroken, capsys):
    before = {path: path.stat().st_mtime_ns for path in unbroken.rglob("*")}
    assert command(*TINY, "--num_steps=21", f"--workdir={unbroken}") == 0
    assert json.loads(capsys.readouterr().out) == json.loads((unbroken / "summary.json").read_text())
    assert {path: path.stat().st_mtime_ns for path in unbroken.rglob("*")} == before


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


def test_help_in_a_process_names_what_is_accepted():
    with process("--help") as run:
        out, _ = run.communicate(timeout=60)
    assert run.returncode == 0
    words = out.replace(",", " ").replace(".", " ").split()
    assert {*rt.datasets.names(), *rt.estimators.names(), "fixed", "dynamic"} <= set(words)
    assert {"generative", "structured", "paper", "deep"} <= set(words)
    assert all(f"--{name}" in out or f"--[no]{name}" in out for name in train.parse(["train.py"]).flags())


BAD_FLAGS = [
    ("--estimator=rebarr", "--estimator=rebarr: expected one of arm, concrete, disarm,"),
    ("--dataset=cifar", "--dataset=cifar: expected one of mnist, mnist_5k"),
    ("--task=discriminative", "--task=discriminative: expected one of generative, structured"),
    ("--structured_generator=broad", "--structured_generator=broad: expected one of paper, deep"),
    ("--structured_generator=deep", "--structured_generator=deep: expected with --task=structured only"),
    ("--binarization=none", "--binarization=none: expected one of fixed, dynamic"),
    ("--batch_size=0", "--batch_size=0: expected an integer of 1 or more"),
    ("--batch_size=-24", "--batch_size=-24: expected an integer of 1 or more"),
    ("--batch_size=4001", "--batch_size=4001: expected at most 4000"),
    ("--batch_size=two", "--batch_size=two: expected an integer of 1 or more"),
    ("--num_steps=0", "--num_steps=0: expected an integer of 1 or more"),
    ("--num_steps=-1", "--num_steps=-1: expected an integer of 1 or more"),
    ("--num_layers=0", "--num_layers=0: expected an integer of 1 or more"),
    ("--hidden_units=0", "--hidden_units=0: expected an integer of 1 or more"),
    ("--report_every=0", "--report_every=0: expected an integer of 1 or more"),
    ("--eval_samples=0", "--eval_samples=0: expected an integer of 1 or more"),
    ("--temperature=0", "--temperature=0: expected a positive number"),
    ("--temperature=-0.5", "--temperature=-0.5: expected a positive number"),
    ("--temperature=nan", "--temperature=nan: expected a positive number"),
    ("--learning_rate=0", "--learning_rate=0: expected a positive number"),
    ("--learning_rate=-3e-4", "--learning_rate=-3e-4: expected a positive number"),
    ("--learning_rate=inf", "--learning_rate=inf: expected a positive number"),
    ("--checkpoint_minutes=0", "--checkpoint_minutes=0: expected a positive number"),
    ("--seed=-1", "--seed=-1: expected an integer from 0 to 2147483647"),
    ("--binarization_seed=-1", "--binarization_seed=-1: expected an integer from 0 to 4294967295"),
    ("--nonlinear=maybe", "--nonlinear=maybe: expected true or false"),
    ("--learn_temperature=2", "--learn_temperature=2: expected true or false"),
    (
        "--batchsize=24",
        "Unknown command line flag 'batchsize'. Did you mean: batch_size ?; expected those of --help",
    ),
    ("mnist", "argument 'mnist': expected flags only"),
]


@pytest.mark.parametrize(("flag", "message"), BAD_FLAGS)
def test_a_bad_flag_is_one_line_and_leaves_the_workdir_alone(flag, message, tmp_path, capsys):
    assert_fails_with(message, capsys, *TINY, f"--workdir={tmp_path / 'run'}", flag)
    assert os.listdir(tmp_path) == []


def test_a_bad_flag_in_a_process(tmp_path):
    with process("--num_steps=-1", f"--workdir={tmp_path / 'run'}") as run:
        out, error = run.communicate(timeout=60)
    assert run.returncode == 2
    assert out == ""
    assert error == "train.py: error: flag --num_steps=-1: expected an integer of 1 or more\n"
    assert os.listdir(tmp_path) == []


def test_an_option_that_the_estimator_refuses(tmp_path, capsys):
    message = "flag --eta=layer: expected one of shared, variable, unit"
    arguments = ("--estimator=relax", "--eta=layer", f"--workdir={tmp_path / 'run'}")
    assert_fails_with(message, capsys, *TINY, *arguments)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("estimator", "flag", "expected"),
    [
        ("nvil", "--temperature=0.1", "no option"),
        ("reinforce", "--learn_temperature=True", "no option"),
        ("concrete", "--learn_temperature=False", "--temperature"),
        ("concrete", "--eta=shared", "--temperature, --relaxation"),
    ],
)
def test_a_flag_that_the_estimator_does_not_take(estimator, flag, expected, tmp_path, capsys):
    message = f"{flag}: expected with --estimator={estimator}: {expected}"
    assert_fails_with(message, capsys, *TINY, f"--workdir={tmp_path / 'run'}", f"--estimator={estimator}", flag)
    assert os.listdir(tmp_path) == []


def settings(**changes):
    """The flags' defaults, but for what is given."""
    return Experiment.from_flags({**Experiment().flags(), **changes})


def test_flags_reach_the_estimator():
    estimator = estimator_options.build(settings(temperature=0.3, learn_temperature=False))
    assert isinstance(estimator, rt.estimators.Rebar)
    assert estimator.initial_temperature == 0.3
    assert not estimator.learn_temperature


@pytest.mark.parametrize("name", rt.estimators.names())
def test_every_estimator_is_built_with_its_own_defaults(name):
    built, default = estimator_options.build(settings(estimator=name)), rt.estimators.get(name)
    assert type(built) is type(default)
    assert built.get_config() == default.get_config()


def test_flags_reach_the_model():
    dataset = build.load_dataset(settings())
    chosen = settings(num_layers=2, nonlinear=True, hidden_units=5, learning_rate=0.01, seed=7, estimator="nvil")
    model = build.build_model(chosen, dataset)
    config = model.get_config()
    assert {name: config[name] for name in ("num_layers", "nonlinear", "hidden_units", "seed")} == {
        "num_layers": 2,
        "nonlinear": True,
        "hidden_units": 5,
        "seed": 7,
    }
    assert isinstance(model.estimator, rt.estimators.Nvil)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.01)
    assert model.jit_compile is True
    np.testing.assert_allclose(model.data_mean.numpy(), dataset.mean)


@pytest.mark.parametrize(("flag", "generator"), [(None, "paper"), ("paper", "paper"), ("deep", "deep")])
def test_flags_reach_the_structured_model(flag, generator):
    chosen = settings(task="structured", structured_generator=flag, num_layers=2, hidden_units=5, seed=7)
    dataset = build.load_dataset(chosen)
    model = build.build_model(chosen, dataset)
    config = model.get_config()
    assert isinstance(model, rt.models.StructuredPredictionNetwork)
    names = ("generator", "num_layers", "hidden_units", "input_units", "output_units", "seed")
    assert [config[name] for name in names] == [generator, 2, 5, 392, 392, 7]
    np.testing.assert_allclose(model.input_mean.numpy(), dataset.mean[:392])
    np.testing.assert_allclose(model.output_mean.numpy(), dataset.mean[392:])


def test_the_top_half_predicts_the_bottom_half():
    """In training, row by row of each digit, as in the held-out splits."""
    chosen = settings(task="structured", batch_size=24)
    data = build.load_dataset(chosen)
    whole = next(iter(build.training_batches(settings(batch_size=24), data, start_step=3)))[0].numpy()
    x, y = (part.numpy() for part in next(iter(build.training_batches(chosen, data, start_step=3))))
    np.testing.assert_array_equal(x.reshape(24, 14, 28), whole.reshape(24, 28, 28)[:, :14])
    np.testing.assert_array_equal(y.reshape(24, 14, 28), whole.reshape(24, 28, 28)[:, 14:])
    for (x, y), images in zip(build.held_out(chosen, data), (data.valid, data.test), strict=True):
        np.testing.assert_array_equal(np.concatenate([x, y], axis=1), images)


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


def test_dynamic_binarization_draws_training_images_anew_and_held_out_ones_once():
    dynamic, fixed = settings(binarization="dynamic", batch_size=4000), settings(batch_size=4000)
    data = build.load_dataset(dynamic)
    first, second = (x.numpy() for (x,) in build.training_batches(dynamic, data, start_step=3).take(2))
    assert set(np.unique(first)) == {0.0, 1.0}
    assert not np.array_equal(first.sum(axis=0), second.sum(axis=0))  # both are all images, in another order
    ours, theirs = (
        build.held_out(dynamic, data),
        build.held_out(fixed, build.load_dataset(fixed)),
    )
    for (drawn,), (loaded,) in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(drawn, loaded)


def write_raw_mnist(folder, keep=1.0):
    """Raw files as MNIST's, of which the training one may be cut."""
    (folder / "mnist").mkdir(parents=True)
    for name, count in (("train", 60000), ("t10k", 10000)):
        header = b"".join(number.to_bytes(4, "big") for number in (0x803, count, 28, 28))
        packed = gzip.compress(header + bytes(count * 784), compresslevel=1)
        size = int(len(packed) * keep) if name == "train" else len(packed)
        (folder / "mnist" / f"{name}-images-idx3-ubyte.gz").write_bytes(packed[:size])


def test_a_truncated_file_in_data_dir(tmp_path, capsys):
    data, run = tmp_path / "data", tmp_path / "run"
    write_raw_mnist(data, keep=0.5)
    message = f"--dataset=mnist --data_dir={data}: {data / 'mnist' / 'train-images-idx3-ubyte.gz'} is truncated"
    assert_fails_with(message, capsys, *TINY, f"--workdir={run}", "--dataset=mnist", f"--data_dir={data}")
    assert not run.exists()


def test_a_data_dir_that_is_not_there(tmp_path, capsys):
    data, run = tmp_path / "data", tmp_path / "run"
    message = f"--data_dir={data}: data_dir must be an existing folder"
    assert_fails_with(message, capsys, *TINY, f"--workdir={run}", "--dataset=mnist", f"--data_dir={data}")
    assert os.listdir(tmp_path) == []


def test_a_dataset_that_cannot_be_downloaded(tmp_path, capsys, monkeypatch):
    def no_network(*arguments):
        raise rt.datasets.DatasetUnavailableError("tried\na download. Use --dataset=mnist_5k or --data_dir=DIR")

    monkeypatch.setattr(rt.datasets, "load", no_network)
    message = "--dataset=mnist: tried a download. Use --dataset=mnist_5k or --data_dir=DIR"
    assert_fails_with(message, capsys, *TINY, f"--workdir={tmp_path / 'run'}", "--dataset=mnist")
    assert os.listdir(tmp_path) == []


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
        ("checkpoint.keras", "", "has checkpoint.keras but no flags.json"),
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
    assert_fails_with("cannot load checkpoint.keras", capsys, *TINY, "--num_steps=21", f"--workdir={tmp_path}")


def workdir_of(experiment):
    return Workdir.of(experiment.flags(), experiment.estimator)


def test_a_folder_below_runs_for_each_set_of_flags():
    paths = {
        str(workdir_of(settings(**changes)).path)
        for changes in (
            {},
            {"num_steps": 7},
            {"data_dir": "data"},
            {"seed": 1},
            {"estimator": "nvil"},
            {"task": "structured"},
            {"task": "structured", "structured_generator": "deep"},
        )
    }
    assert len(paths) == 5  # the number of steps and where the data lies make no other run
    assert all(path.startswith(f"runs{os.sep}mnist_5k-") for path in paths)


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


@pytest.mark.parametrize(
    ("given", "version", "expected"),
    [
        ("", "2.21.0", "--xla_cpu_prefer_vector_width=512 "),
        ("--xla_dump_to=x", "2.19.1", "--xla_cpu_prefer_vector_width=512 --xla_dump_to=x"),
        ("--xla_cpu_prefer_vector_width=128", "2.21.0", "--xla_cpu_prefer_vector_width=128"),
        ("", "3.0.0", ""),
    ],
    ids=["by default", "beside other flags", "not against the user's", "not where it may be unknown"],
)
def test_vectors_are_wide(given, version, expected, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", given)
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    monkeypatch.delitem(sys.modules, "tensorflow")
    monkeypatch.setattr("importlib.metadata.version", lambda package: version)
    tensorflow_import.import_tensorflow()
    assert os.environ["XLA_FLAGS"] == expected
