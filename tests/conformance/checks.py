"""What each row of the conformance table is held to: small functions, each a column.

A check takes a row. It raises an AssertionError, or returns a `Hole` where it does not apply.
"""

import contextlib
import copy
import dataclasses
import functools
import inspect
import json
import math
import pathlib
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.conformance import catalogue
from tests.conformance.catalogue import Row, build

ROOT = pathlib.Path(__file__).parents[2]
PRECISION = 1e-4  # of float32, after some ten operations


@dataclasses.dataclass(frozen=True)
class Hole:
    """A cell of the table that is not held to anything, and why."""

    reason: str


@dataclasses.dataclass(frozen=True, eq=False)
class Column:
    """One property that rows have.

    Attributes:
        name: of the column.
        check: takes a row.
        holes: why rows of some kinds are left out.
        heavy: whether it compiles, or takes several devices, so that few rows are left to the fast tests.
        elsewhere: whether it holds in another process, which serves all rows.
    """

    name: str
    check: Callable[[Row], Hole | None]
    holes: dict[str, str]
    heavy: bool
    elsewhere: bool

    def __call__(self, row):
        if row.kind in self.holes:
            return Hole(self.holes[row.kind])
        if row.name not in NOT_YET.get(self.name, ()):
            return self.check(row)
        try:
            self.check(row)
        except Exception:  # whatever it is that fails
            return Hole("not yet")
        raise AssertionError(f"{row.name} has {self.name!r} now: take it off NOT_YET")

    def is_slow(self, row):
        """Whether a cell is left to the slow tests, as are most of what another row of its kind stays for."""
        is_quick = self.name in QUICK_COLUMNS and row.kind in ("estimator", "layer", "model")
        return row.name not in (IN_HEAVY_COLUMNS if self.heavy else ONE_OF_EACH_KIND) and not is_quick


IN_HEAVY_COLUMNS = ("rebar", "reinforce", "straight_through")
ONE_OF_EACH_KIND = (
    *(*IN_HEAVY_COLUMNS, "disarm"),
    *("layers.StochasticCategorical", "models.SigmoidBeliefNetwork", "optimizers.Adam", "callbacks.Checkpoint"),
)
QUICK_COLUMNS = ("config", "empty batch", "parity")
COLUMNS = []
NOT_YET: dict[str, set[str]] = {}


def column(name, heavy=False, elsewhere=False, **holes):
    """Makes a check a column of the table; the keywords say why rows of a kind are left out."""

    def register(check):
        COLUMNS.append(Column(name, check, holes, heavy, elsewhere))
        return check

    return register


# Comparisons


def arrays(values):
    return [None if v is None else np.asarray(tf.convert_to_tensor(v), np.float64) for v in values]


def estimate(model, x, y):
    """The loss and the gradients of one estimate at fresh samples, in NumPy."""
    loss, gradients = model.estimate_gradients(x, y)
    return arrays([loss, *gradients])


def variables(model):
    """All of a model, with those of its metrics and of its optimizer."""
    metrics = [variable for metric in model.metrics for variable in metric.variables]
    return [*model.variables, *metrics, *model.optimizer.variables]


def state(model):
    return arrays(variables(model))


def step(model, x, y):
    """The logs of one step, and the state after it."""
    logs = model.train_step((x, y))
    return [*arrays(logs.values()), *state(model)]


def assert_close(found, expected, tolerance=PRECISION, share=0.1):
    """Arrays that differ by less than the tolerance times their largest entry, or a share of the largest of all."""
    assert len(found) == len(expected)
    largest = max(np.abs(e).max(initial=0.0) for e in expected if e is not None)
    for i, (value, target) in enumerate(zip(found, expected, strict=True)):
        assert (value is None) == (target is None), f"{i}: one has no gradient"
        if value is not None:
            scale = max(np.abs(target).max(initial=0.0), share * largest)
            worst = np.abs(value - target).max(initial=0.0) if value.shape == target.shape else math.inf
            assert worst <= tolerance * scale, f"{i}: {value} is not {target}"


def assert_equal(found, expected):
    assert len(found) == len(expected)
    for value, target in zip(found, expected, strict=True):
        np.testing.assert_array_equal(value, target)


def fit(row, model, folder, **options):
    """Two steps of `fit`, with the row's callbacks; the logs."""
    callbacks = row.callbacks(pathlib.Path(folder))
    return model.fit(row.x, row.y, batch_size=4, shuffle=False, verbose=0, callbacks=callbacks, **options).history


# What runs in one other process, for all rows

NO_FILE = {"callback": "Keras's callbacks are no part of a model's file"}


@functools.cache
def failures_elsewhere(slow):
    """Of the slow cells or the others, by the names of column and row; by "" what broke the process off."""
    cells = [
        (column, row)
        for column in COLUMNS
        for row in catalogue.ROWS
        if column.elsewhere and row.kind not in column.holes and column.is_slow(row) == slow
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for column, row in cells:
            if column.check is saved:
                save_and_go_on(row, folder)
        (folder / "cells.json").write_text(json.dumps([(column.name, row.name) for column, row in cells]))
        command = [sys.executable, "-m", "tests.conformance.process", name]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if ended.returncode:
            return {"": ended.stderr}
        return json.loads((folder / "failures.json").read_text())


def holds_elsewhere(name, row):
    (column,) = [column for column in COLUMNS if column.name == name]
    failures = failures_elsewhere(column.is_slow(row))
    failure = failures.get("") or failures.get(f"{name}, {row.name}")
    assert not failure, failure


# Configuration, files and copies

NO_CONFIG = {"callback": "Keras's callbacks have no configuration"}
KEPT_IN_WEIGHTS = {"data_mean", "input_mean", "output_mean"}


def arguments(cls):
    """What the constructors of a class and of its bases in the package take by name."""
    parameters = [
        parameter
        for base in cls.__mro__
        if base.__module__.startswith(("rebar_tf", "tests.")) and "__init__" in vars(base)
        for parameter in list(inspect.signature(base.__init__).parameters.values())[1:]
    ]
    return {p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}


def serialised(thing):
    return own_config(json.loads(json.dumps(keras.saving.serialize_keras_object(thing))))


def own_config(config):
    """Without what Keras adds to it: marks of what occurs twice, and of what has been built."""
    if isinstance(config, dict):
        added = {"shared_object_id", "build_config", "compile_config"}
        return {name: own_config(value) for name, value in config.items() if name not in added}
    return [own_config(value) for value in config] if isinstance(config, list) else config


def changed(value):
    """Another value of an argument."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1 if isinstance(value, int) else value / 2
    return value


@column("config", **NO_CONFIG)
def config_round_trip(row):
    """The config has each argument of the constructor, and makes an equal thing, also with other values of them."""
    part = row.part(build(row))
    names = arguments(type(part)) - KEPT_IN_WEIGHTS
    assert names <= part.get_config().keys()
    config = serialised(part)
    other = {name: changed(value) if name in names else value for name, value in config["config"].items()}
    for expected in (config, {**config, "config": other}):
        again = keras.saving.deserialize_keras_object(copy.deepcopy(expected))
        assert type(again) is type(part)
        assert serialised(again) == expected


@column("saved", elsewhere=True, **NO_FILE)
def saved(row):
    """Loaded in another process in safe mode it outputs the same, and `fit` goes on to the same weights."""
    holds_elsewhere("saved", row)


def go_on(row, model, folder):
    """Outputs and, after two more steps, the state."""
    outputs = model.predict_on_batch(row.x)
    fit(row, model, folder)
    return [outputs, *state(model)]


def save_and_go_on(row, folder):
    model = build(row)
    fit(row, model, folder)
    model.save(folder / f"{row.name}.keras")
    np.savez(folder / f"{row.name}.npz", *go_on(row, model, folder))


def load_and_go_on(row, folder):
    loaded = keras.saving.load_model(folder / f"{row.name}.keras")
    with np.load(folder / f"{row.name}.npz") as expected:
        assert_equal(go_on(row, loaded, folder), [expected[name] for name in expected.files])


@column("weights only", **NO_FILE)
def weights_only(row):
    """The weights in a file make another model the same, but for the optimizer."""
    model, other = build(row), build(row)
    model.train_step((row.x, row.y))
    assert any(not np.array_equal(v, w) for v, w in zip(model.get_weights(), other.get_weights(), strict=True))
    with tempfile.TemporaryDirectory() as folder:
        model.save_weights(f"{folder}/model.weights.h5")
        other.load_weights(f"{folder}/model.weights.h5")
    assert_equal(other.get_weights(), model.get_weights())
    assert_equal(estimate(other, row.x, row.y), estimate(model, row.x, row.y))


def assert_same_and_apart(row, model, other):
    """The other one does the same step, and leaves the first alone."""
    assert type(other) is type(model)
    before = state(model)
    after = step(other, row.x, row.y)
    assert_equal(state(model), before)
    assert_equal(after, step(model, row.x, row.y))


@column("clone_model", callback="is no part of a model")
def cloned(row):
    model = build(row)
    other = keras.models.clone_model(model)
    other.compile_from_config(model.get_compile_config())
    if other.estimator is None:
        other.build_from_config(model.get_build_config())
    other.set_weights(model.get_weights())
    other.optimizer.build(other.trainable_variables)
    assert_same_and_apart(row, model, other)


def assert_copied(row, copied):
    if row.kind == "callback":
        (callback,) = row.callbacks(pathlib.Path())
        assert vars(copied(callback)).keys() == vars(callback).keys()
        return
    model = build(row)
    model.train_step((row.x, row.y))
    assert_same_and_apart(row, model, copied(model))
    if row.kind in ("layer", "initializer", "metric"):  # the others are built by a model
        part = row.part(model)
        assert copied(part).get_config() == part.get_config()


@column("deepcopy")
def deep_copied(row):
    assert_copied(row, copy.deepcopy)


@column("pickle")
def pickled(row):
    assert_copied(row, lambda thing: pickle.loads(pickle.dumps(thing)))


# Forms of models

ONE_FORM = {
    "optimizer": "sees variables only",
    "metric": "sees gradients only",
    "callback": "sees a model from outside",
}
WHOLE_OBJECTIVE = Hole("its objective is its own, not the loss of a model around it")


def same_as_functional(row, form):
    """The same layers in another kind of model: the same estimate, in another order of the variables and their etas."""
    found = []
    for model in (build(row, form), build(row, "functional")):
        for variable in model.control_variables:
            if variable.name == "raw_eta":
                variable.assign(np.full(variable.shape, 0.5))
        loss, *gradients = estimate(model, row.x, row.y)
        names = [catalogue.own_name(variable) for variable in model.model_variables]
        found.append([loss, *(gradients[i] for i in np.argsort(names))])
    assert_close(*found, 1e-6)


@column("in a layer", model="is no part of a layer", **ONE_FORM)
def in_a_layer(row):
    same_as_functional(row, "in a layer")


@column("in a model", **ONE_FORM)
def in_a_model(row):
    if row.has_own_objective:
        return WHOLE_OBJECTIVE
    same_as_functional(row, "stochastic model in a model" if row.kind == "model" else "in a model")
    return None


@column("in a Sequential", **ONE_FORM)
def in_a_sequential(row):
    if row.has_own_objective:
        return WHOLE_OBJECTIVE
    same_as_functional(row, "Sequential")
    return None


@column("subclassed", **ONE_FORM)
def subclassed(row):
    if row.has_own_objective:
        return WHOLE_OBJECTIVE
    same_as_functional(row, "subclassed")
    return None


# Modes, precision and devices

BETWEEN_STEPS = {"callback": "acts between steps"}


def signature(row, *dims):
    """Of inputs and targets, with axes of unknown length before the last."""
    parts = (row.x, row.y) if row.y is not None else (row.x,)
    return [tf.TensorSpec([*dims, part.shape[-1]]) for part in parts]


def compiled_step(row, model, **options):
    """`step` as a compiled function."""
    train = tf.function(lambda x, y=None: model.train_step((x, y)), autograph=False, **options)

    def run(x, y):
        logs = train(x) if y is None else train(x, y)
        return [*arrays(logs.values()), *state(model)]

    return run


@functools.cache
def graph(row):
    """A model, its step as a graph for any size of batch, and the weights that it starts from."""
    model = build(row)
    return (
        model,
        compiled_step(row, model, input_signature=signature(row, None)),
        [np.array(v) for v in variables(model)],
    )


def graph_step(row, x, y):
    model, run, start = graph(row)
    for variable, value in zip(variables(model), start, strict=True):
        variable.assign(value)
    return run(x, y)


@column("graph", heavy=True, **BETWEEN_STEPS)
def graph_is_eager(row):
    """The same step in a graph for any size of batch as in eager mode, for two sizes."""
    for size in (len(row.x), 5):
        x, y = row.x[:size], None if row.y is None else row.y[:size]
        assert_close(graph_step(row, x, y), step(build(row), x, y))


@column("XLA", heavy=True, **BETWEEN_STEPS)
def xla_is_eager(row):
    model = build(row)
    assert_close(compiled_step(row, model, jit_compile=True)(row.x, row.y), step(build(row), row.x, row.y))


@contextlib.contextmanager
def policy(name):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def same_in_precision(row, name, tolerance, share=0.1, **compiled):
    """The gradient of the model is that of float32, and a step leaves finite weights."""
    options = {} if row.has_own_objective else compiled
    model = build(row, **options)
    expected = estimate(model, row.x, row.y)[: 1 + len(model.model_variables)]
    with policy(name):
        other = build(row, **options)
        if row.has_own_objective and name == "mixed_float16":
            other.optimizer.dynamic_scale.assign(2.0**10)  # the first one is for smaller losses, and overflows
        found = estimate(other, row.x, row.y)
        assert_close(found[: len(expected)], expected, tolerance, share)
        after = step(other, row.x, row.y)
    assert all(np.isfinite(value).all() for value in [*found, *after] if value is not None)


@column("mixed_float16", **BETWEEN_STEPS)
def mixed_float16(row):
    """With a loss so small that its gradients would be 0 in half precision, were it not scaled."""
    same_in_precision(row, "mixed_float16", 0.01, share=0.0, loss_weights=2.0**-24)


@column("mixed_bfloat16", **BETWEEN_STEPS)
def mixed_bfloat16(row):
    same_in_precision(row, "mixed_bfloat16", 0.05)


@column("float64", **BETWEEN_STEPS)
def float64(row):
    same_in_precision(row, "float64", PRECISION)


@column("MirroredStrategy", heavy=True, elsewhere=True)
def mirrored(row):
    """On two devices: noise of their own, the gradient of the whole batch, and equal weights after a step."""
    holds_elsewhere("MirroredStrategy", row)


def replicate(row, strategy):
    """What `mirrored` says, where there are two devices; with certain units the gradient is that of any noise."""
    with strategy.scope():
        model = build(row, run_eagerly=False) if row.has_own_objective else catalogue.forced(row, run_eagerly=False)[0]
        noisy = build(row)
    with tempfile.TemporaryDirectory() as folder:
        logs = fit(row, model, folder)
    for variable in model.trainable_variables:
        assert_equal(*[[part] for part in strategy.experimental_local_results(variable.value)])
    if not row.has_own_objective:
        expected = catalogue.forced(row)[0]
        with tempfile.TemporaryDirectory() as folder:
            logs_of_one = fit(row, expected, folder)
        assert_close(
            arrays([*model.model_variables, logs["loss"]]), arrays([*expected.model_variables, logs_of_one["loss"]])
        )
    draw = tf.function(lambda: noisy(row.x, training=False), autograph=False)
    first, second = strategy.experimental_local_results(strategy.run(draw))
    assert not np.array_equal(first, second)


# Shapes


@column("unknown length", heavy=True, model="is its layers", **ONE_FORM)
def unknown_length(row):
    """Sequences of unknown length, in a graph: the same estimate as in eager mode."""
    if row.name == "layers.InputDependentBaseline":
        return Hole("takes one context an example")
    x, y = (part.reshape(4, 2, -1) for part in (row.x, row.y))

    def in_graph():
        return compiled_step(row, build(row, "sequence"), input_signature=signature(row, None, None))(x, y)

    if row.name in ("exact", "lax", "q_function", "rao_blackwell", "relax", "unordered_set"):
        with pytest.raises(ValueError, match=r"fixed.*Give the sequences one length"):
            in_graph()
        return Hole("needs a fixed number of units, and says so")
    assert_close(in_graph(), step(build(row, "sequence"), x, y))
    return None


@column("batch of one")
def batch_of_one(row):
    """Finite logs and weights after a step on one example."""
    one = dataclasses.replace(row, x=row.x[:1], y=None if row.y is None else row.y[:1])
    model = build(one)
    with tempfile.TemporaryDirectory() as folder:
        logs = fit(one, model, folder)
    assert all(np.isfinite(value).all() for value in [*state(model), *logs.values()])


@column("empty batch", callback="does not see batches")
def empty_batch(row):
    """`predict` returns nothing, as in Keras; a step is refused or moves nothing, and no log is NaN."""
    model = build(row)
    assert model.predict_on_batch(row.x[:0]).shape == (0, *model.predict_on_batch(row.x).shape[1:])
    before = arrays(model.trainable_variables)
    try:
        logs = model.train_step((row.x[:0], None if row.y is None else row.y[:0]))
    except ValueError:
        return
    assert not any(np.isnan(value) for value in arrays(logs.values())), f"NaN in {logs}"
    assert_equal(arrays(model.trainable_variables), before)


# Numbers

ADDED_LOGS = {"log_grad_variance", "temperature", "valid_bound", "steps_per_second"}


@column("parity")
def parity(row):
    """With certain units `fit` and `evaluate` report what plain Keras does, and train the same weights."""
    if row.has_own_objective:
        return Hole("minimises a bound, which Keras has no loss for")
    models, results = catalogue.forced(row), []
    without_callbacks = dataclasses.replace(row, callbacks=lambda folder: [])
    for model, fitted in zip(models, (row, without_callbacks), strict=True):
        with tempfile.TemporaryDirectory() as folder:
            logs = fit(fitted, model, folder)
        results.append((logs, model.evaluate(row.x, row.y, batch_size=4, verbose=0, return_dict=True)))
    (logs, evaluated), (expected_logs, expected) = results
    assert logs.keys() - ADDED_LOGS == expected_logs.keys()
    assert evaluated.keys() == expected.keys()
    assert_close(arrays(logs[name] for name in expected_logs), arrays(expected_logs.values()))
    assert_close(arrays(evaluated.values()), arrays(expected.values()))
    for plain, ours in catalogue.pairs(*models[::-1]):
        assert_close(ours.get_weights(), plain.get_weights())
    return None
