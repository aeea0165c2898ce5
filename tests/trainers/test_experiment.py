"""From flags to data, estimator and model."""

import os
import subprocess
import sys

import numpy as np
import pytest
from helpers.training import ROOT

import rebar_tf as rt
from trainers.common import build, estimator_options, tensorflow_import
from trainers.common.experiment import Experiment
from trainers.run.workdir import Workdir


def settings(**changes):
    """The flags' defaults, but for what is given."""
    return Experiment.from_flags({**Experiment().flags(), **changes})


def test_flags_reach_the_estimator():
    estimator = estimator_options.build(settings(temperature=0.3, learn_temperature=False))
    assert isinstance(estimator, rt.estimators.Rebar)
    assert estimator.temperature.initial == 0.3
    assert not estimator.temperature.learn


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


def test_tensorflow_is_imported_in_silence_and_hides_nothing_for_good():
    script = (
        "from trainers.common.tensorflow_import import import_tensorflow; import_tensorflow(); "
        "import matplotlib, keras, sys, tensorflow as tf; tf.zeros([1]); sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "CUDA" not in run.stderr  # of the search for a GPU
