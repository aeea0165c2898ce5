"""What the estimators refuse, and what their errors advise."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import rebar_tf as rt
from rebar_tf.estimators import Rebar

NAMES = rt.estimators.names()
BINARY_ONLY = [name for name in NAMES if "categorical" not in rt.estimators.get(name).families]
WITH_CLASSES = [name for name in NAMES if name not in BINARY_ONLY]
MANY_SAMPLES = [name for name in NAMES if "num_samples" in rt.estimators.get(name).get_config()]
RELAXING = [name for name in NAMES if "temperature" in rt.estimators.get(name).get_config()]


def names_in(message):
    """The estimators that a message names, by their names."""
    return set(re.findall(r"\w+", str(message))) & set(NAMES)


def categorical_model(estimator):
    x = keras.Input((2,))
    b = rt.layers.StochasticCategorical(3, estimator)(keras.layers.Dense(6)(x))
    return rt.StochasticModel(x, keras.layers.Dense(1)(b))


@pytest.mark.parametrize("name", BINARY_ONLY)
def test_a_family_that_is_not_served_is_refused_with_those_that_serve_it(name):
    with pytest.raises(
        ValueError, match=rf"'{name}' serves bernoulli units only. Received: categorical units"
    ) as error:
        categorical_model(name)
    assert names_in(error.value) == {name, *WITH_CLASSES}
    with pytest.raises(ValueError, match=rf"'{name}' serves bernoulli units only. Received: categorical units"):
        rt.expectation(lambda b: tf.reduce_sum(b, 1), tf.zeros([2, 3]), name, family="categorical")


def test_a_family_that_is_not_served_is_refused_among_others():
    x = keras.Input((2,))
    binary = rt.layers.StochasticBinary("arm")(keras.layers.Dense(3)(x))
    b = rt.layers.StochasticCategorical(3, "arm")(keras.layers.Dense(3)(binary))
    with pytest.raises(ValueError, match="Received: categorical units"):
        rt.StochasticModel(x, b)


def test_an_unknown_family_names_the_known_ones():
    with pytest.raises(
        ValueError, match=r"`family` must be one of bernoulli, categorical. Received: family='gaussian'"
    ):
        rt.expectation(lambda b: tf.reduce_sum(b, 1), tf.zeros([2, 3]), "rebar", family="gaussian")


@pytest.mark.parametrize("num_samples", [1, 0, -2, 2.0, "4", None, True, np.int64(1), np.float32(2)])
@pytest.mark.parametrize("name", MANY_SAMPLES)
def test_fewer_than_two_samples_are_refused(name, num_samples):
    with pytest.raises(ValueError, match=r"`num_samples` must be an integer of 2 or more") as error:
        type(rt.estimators.get(name))(num_samples=num_samples)
    assert f"Received: num_samples={num_samples!r}" in str(error.value)
    assert {"reinforce", "nvil"} <= names_in(error.value)


@pytest.mark.parametrize("kind", [np.int32, np.int64, np.uint8])
def test_numpy_integers_are_integers(kind):
    configs = [type(rt.estimators.get(name))(num_samples=kind(3)).get_config() for name in MANY_SAMPLES]
    configs.append(Rebar(group_size=kind(3)).get_config())
    stored = [config.get("num_samples", config.get("group_size")) for config in configs]
    assert stored == [3] * len(configs)
    assert {type(value) for value in stored} == {int}


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64, int])
@pytest.mark.parametrize("name", RELAXING)
def test_numpy_numbers_are_temperatures(name, kind):
    estimator = type(rt.estimators.get(name))(temperature=kind(2))
    assert type(estimator.get_config()["temperature"]) is float
    assert estimator.get_config()["temperature"] == 2.0


@pytest.mark.parametrize("num_samples", [0, 1.5, "3", True, None])
def test_bounds_of_no_number_of_samples_are_refused(num_samples):
    model = rt.models.SigmoidBeliefNetwork(1, hidden_units=3, visible_units=5, seed=0)
    with pytest.raises(ValueError, match=r"`num_samples` must be an integer of 1 or more") as error:
        model.bound(np.zeros([2, 5], np.float32), num_samples=num_samples)
    assert f"Received: num_samples={num_samples!r}" in str(error.value)


def test_bounds_take_numpy_integers():
    model = rt.models.SigmoidBeliefNetwork(1, hidden_units=3, visible_units=5, seed=0)
    x = np.zeros([2, 5], np.float32)
    np.testing.assert_array_equal(model.bound(x, num_samples=np.int32(3)), model.bound(x, num_samples=3))


def blind(b):
    """An objective without derivative."""
    return tf.reduce_sum(tf.round(b), axis=1)


@pytest.mark.parametrize(
    ("name", "family"), [*((name, "bernoulli") for name in NAMES), *((name, "categorical") for name in WITH_CLASSES)]
)
def test_an_objective_without_derivative_is_refused_by_those_that_need_it(name, family):
    logits = tf.constant([[0.5, -1.0, 0.3]])

    def estimate():
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = rt.expectation(blind, logits, name, family=family, seed=0)
        return tape.gradient(value, logits)

    if not rt.estimators.get(name).needs_derivative:
        assert np.isfinite(estimate()).all()
        return
    with pytest.raises(ValueError, match="no derivative") as error:
        estimate()
    able = NAMES if family == "bernoulli" else WITH_CLASSES
    assert names_in(error.value) == {other for other in able if not rt.estimators.get(other).needs_derivative}


@pytest.mark.parametrize("name", [name for name in NAMES if rt.estimators.get(name).needs_derivative])
def test_a_model_without_derivative_is_refused(name):
    model = rt.diagnostics.expectation_model(blind, [0.3, -1.0], name)
    with pytest.raises(ValueError, match="no derivative"):
        model.estimate_gradients(np.zeros([2, 1], np.float32))


@pytest.mark.parametrize("name", ["rebar", "double_cv"])
def test_the_advice_serves_every_family_of_the_model(name):
    x = keras.Input((2,))
    binary = rt.layers.StochasticBinary(name)(keras.layers.Dense(3)(x))
    b = rt.layers.StochasticCategorical(3, name)(keras.layers.Dense(3)(binary))
    model = rt.StochasticModel(x, b)
    model.compile(loss=lambda y, y_pred: tf.reduce_sum(tf.round(y_pred), axis=1))
    with pytest.raises(ValueError, match="no derivative") as error:
        model.estimate_gradients(np.zeros([2, 2], np.float32), np.zeros([2, 3], np.float32))
    assert names_in(error.value) == {able for able in WITH_CLASSES if not rt.estimators.get(able).needs_derivative}


@pytest.mark.parametrize("group_size", [1, None, 2])
def test_every_group_size_needs_the_derivative(group_size):
    with pytest.raises(ValueError, match="no derivative"):
        rt.expectation(blind, tf.zeros([2, 3]), Rebar(group_size=group_size))


def test_the_q_function_needs_none():
    logits = tf.zeros([2, 3])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = rt.expectation(blind, logits, "q_function")
    assert np.isfinite(tape.gradient(value, logits)).all()


@pytest.mark.parametrize(("family", "shape", "states"), [("bernoulli", (13,), 8192), ("categorical", (8, 3), 6561)])
def test_enumeration_of_too_many_states_is_refused(family, shape, states):
    message = rf"at most 4096 joint states.*Received: {states}\. Use rebar"
    with pytest.raises(ValueError, match=message):
        rt.expectation(
            lambda b: tf.reduce_sum(tf.reshape(b, [2, -1]), 1), tf.zeros([2, *shape]), "exact", family=family
        )


def test_states_of_several_layers_multiply():
    model = rt.models.SigmoidBeliefNetwork(2, hidden_units=7, visible_units=3, estimator="exact", seed=0)
    with pytest.raises(ValueError, match=r"at most 4096 joint states.*Received: 16384"):
        model.estimate_gradients(np.zeros([2, 3], np.float32))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(group_size="coupled"), r"`group_size` must be an integer of 1 or more, or None.*group_size='coupled'"),
        (dict(group_size=0), r"`group_size` must be an integer of 1 or more, or None. Received: group_size=0"),
        (dict(group_size=1.5), r"`group_size` must be an integer of 1 or more.*group_size=1.5"),
        (dict(group_size=True), r"`group_size` must be an integer of 1 or more.*group_size=True"),
        (dict(eta="layer"), r"`eta` must be one of shared, variable, unit. Received: eta='layer'"),
        (dict(relaxation="eq8"), r"`relaxation` must be one of eq7, concrete. Received: relaxation='eq8'"),
    ],
)
def test_bad_options_of_rebar_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        Rebar(**options)


@pytest.mark.parametrize("temperature", [0, -0.5, float("nan"), float("inf"), "0.5", None, True])
@pytest.mark.parametrize("name", RELAXING)
def test_bad_temperatures_are_named(name, temperature):
    with pytest.raises(ValueError, match=r"`temperature` must be a positive number. Received: temperature="):
        type(rt.estimators.get(name))(temperature=temperature)


@pytest.mark.parametrize("name", RELAXING)
def test_bad_relaxations_are_named(name):
    with pytest.raises(ValueError, match=r"`relaxation` must be one of eq7, concrete. Received: relaxation='hard'"):
        type(rt.estimators.get(name))(relaxation="hard")


@pytest.mark.parametrize("name", ["relax", "lax", "q_function"])
def test_a_learned_control_variate_has_one_pass_a_layer(name):
    kind = type(rt.estimators.get(name))
    assert kind().group_size == 1
    for group_size in (None, 2):
        with pytest.raises((TypeError, ValueError), match="group_size"):
            kind(group_size=group_size)


@pytest.mark.parametrize("name", ["relax", "lax", "q_function"])
def test_bad_scales_are_named(name):
    with pytest.raises(ValueError, match=r"`eta` must be one of shared, variable, unit. Received: eta=1.0"):
        type(rt.estimators.get(name))(eta=1.0)
