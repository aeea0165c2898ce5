"""What a type checker says of a user's script."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
SCRIPT = """\
import keras
import numpy as np
import tensorflow as tf

import rebar_tf as rt

x = keras.Input((784,))
b = rt.layers.StochasticBinary(estimator=rt.estimators.Rebar(temperature=0.1))(keras.layers.Dense(200)(x))
model = rt.StochasticModel(x, keras.layers.Dense(784)(b))
model.compile(optimizer=rt.optimizers.Adam(3e-4), loss="mse")
digits = np.zeros([24, 784], "float32")
loss, gradients = model.estimate_gradients(digits, digits)
pairs = list(zip(model.trainable_variables, gradients))


def f(b: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum((b - 0.45) ** 2, axis=1)


value = rt.expectation(f, tf.zeros([64, 3]), estimator="rebar")
"""
MISTAKES = {
    "rt.estimators.Rebarr()": 'Module has no attribute "Rebarr"',
    "rt.estimators.Rebar(temperature='low')": 'Argument "temperature" to "Rebar" has incompatible type "str"',
    "rt.optimizers.Adam(beta_1=None)": 'Argument "beta_1" to "Adam" has incompatible type "None"',
    "rt.expectation(f, tf.zeros([64, 3]), estimater='rebar')": 'Unexpected keyword argument "estimater"',
    "rt.datasets.load(5)": 'Argument 1 to "load" has incompatible type "int"',
}


@pytest.fixture(scope="module")
def check(tmp_path_factory):
    pytest.importorskip("mypy", reason="mypy is not installed")
    folder = tmp_path_factory.mktemp("types")

    def check(text):
        """The lines that mypy prints about a script; the package's own functions are checked by `make lint`."""
        (folder / "script.py").write_text(text)
        options = ["--config-file=", "--ignore-missing-imports", "--follow-imports=silent", "--no-error-summary"]
        command = [sys.executable, "-m", "mypy", *options, "script.py"]
        environment = {**os.environ, "MYPYPATH": str(ROOT)}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode in (0, 1), done.stdout + done.stderr
        return done.stdout

    return check


def test_a_script_without_mistakes_passes(check):
    assert check(SCRIPT) == ""


def test_each_mistake_is_reported(check):
    reported = check("".join([SCRIPT, *(mistake + "\n" for mistake in MISTAKES)])).splitlines()
    first = len(SCRIPT.splitlines()) + 1
    for line, (mistake, message) in enumerate(MISTAKES.items(), start=first):
        assert any(f"script.py:{line}: error: {message}" in found for found in reported), (mistake, reported)
