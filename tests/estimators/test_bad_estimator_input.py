"""What the estimators refuse, and what their errors advise."""

import itertools
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.marks import slow_but

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
    binary = rt.layers.StochasticBinary("rodeo")(keras.layers.Dense(3)(x))
    b = rt.layers.StochasticCategorical(3, "rodeo")(keras.layers.Dense(3)(binary))
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


@pytest.mark.parametrize("num_likeliest", [0, -1, 1.5, None])
def test_fewer_than_one_likeliest_state_is_refused(num_likeliest):
    with pytest.raises(ValueError, match=r"`num_likeliest` must be an integer of 1 or more"):
        rt.estimators.RaoBlackwell(num_likeliest=num_likeliest)


@pytest.mark.parametrize("gamma", [-0.1, 1.1, "1", None, True])
def test_gamma_outside_of_zero_to_one_is_refused(gamma):
    with pytest.raises(ValueError, match=r"`gamma` must be a number in \[0, 1\]. Received: gamma="):
        rt.estimators.Ovis(gamma=gamma)


def test_sets_larger_than_their_probability_is_computed_for_are_refused():
    with pytest.raises(ValueError, match=r"`num_samples` must be an integer from 2 to 5. Received: num_samples=6"):
        rt.estimators.UnorderedSet(num_samples=6)


def test_more_distinct_samples_than_states_are_refused():
    x = keras.Input((2,))
    b = rt.layers.StochasticCategorical(3, rt.estimators.UnorderedSet(num_samples=4))(keras.layers.Dense(3)(x))
    model = rt.StochasticModel(x, keras.layers.Dense(1)(b))
    model.compile(loss="mse")
    with pytest.raises(ValueError, match=r"num_samples=4, and 3 states of layer 'stochastic_categorical"):
        model.estimate_gradients(np.zeros([2, 2], np.float32), np.zeros([2, 1], np.float32))


@pytest.mark.parametrize("name", ["rao_blackwell", "unordered_set"])
def test_layers_of_too_many_states_to_list_are_refused(name):
    with pytest.raises(ValueError, match=r"at most 4096 joint states.*Received: 8192"):
        rt.expectation(lambda b: tf.reduce_sum(b, 1), tf.zeros([2, 13]), name)


@pytest.mark.parametrize("name", ["local_expectation", "rao_blackwell", "unordered_set", "ovis", "wake_sleep"])
def test_an_objective_that_mixes_the_examples_is_refused_by_those_that_weigh_each(name):
    x = keras.Input((2,))
    b = rt.layers.StochasticBinary(name)(keras.layers.Dense(2)(x))
    model = rt.StochasticModel(x, keras.layers.BatchNormalization()(b))
    model.compile(loss="mse")
    with pytest.raises(ValueError, match=rf"Estimator '{name}'"):
        model.estimate_gradients(np.zeros([2, 2], np.float32), np.zeros([2, 2], np.float32))


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


@pytest.mark.parametrize("name", [name for name in RELAXING if name != "decoupled_straight_through"])
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


@pytest.mark.parametrize(
    ("name", "family"), [*((name, "bernoulli") for name in NAMES), *((name, "categorical") for name in WITH_CLASSES)]
)
def test_nan_in_the_logits_is_nan_in_the_loss_and_the_gradient(name, family):
    """No comparison with NaN holds, so that it would pass for an ordinary 0 or for the first class."""
    logits = tf.constant([[0.5, float("nan"), 0.3]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = rt.expectation(lambda b: tf.reduce_sum((b - 0.45) ** 2, 1), logits, name, family=family, seed=0)
    assert np.isnan(value).all()
    assert np.isnan(tape.gradient(value, logits)[0, 1])


@pytest.mark.parametrize(
    ("name", "jit_compile"),
    slow_but(
        lambda name, jit_compile: name == "rloo" or not jit_compile,
        itertools.product(["arm", "rebar", "rloo"], [False, True]),
    ),
)
def test_training_on_nan_stops(name, jit_compile):
    x = keras.Input((2,))
    b = rt.layers.StochasticBinary(name, seed=0)(keras.layers.Dense(3)(x))
    model = rt.StochasticModel(x, keras.layers.Dense(1)(b))
    model.compile(loss="mse", jit_compile=jit_compile)
    inputs, targets = np.ones([6, 2], np.float32), np.ones([6, 1], np.float32)
    inputs[0, 0] = np.nan
    history = model.fit(
        inputs, targets, batch_size=6, epochs=3, verbose=0, callbacks=[keras.callbacks.TerminateOnNaN()]
    )
    assert len(history.epoch) == 1
    assert np.isnan(history.history["loss"]).all()


@pytest.mark.parametrize("name", ["arm", "disarm", "rebar", "rloo", "double_cv", "reinforce"])
def test_an_infinite_logit_is_a_certain_unit_or_nan(name):
    """Never a finite gradient that is another one than that of a large logit."""
    infinite = tf.constant([[float("inf"), float("-inf"), 0.3]])
    large = tf.constant([[60.0, -60.0, 0.3]])

    def value_and_gradient(logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = rt.expectation(lambda b: tf.reduce_sum((b - 0.45) ** 2, 1), logits, name, seed=0)
        return value.numpy(), tape.gradient(value, logits).numpy()

    value, gradient = value_and_gradient(infinite)
    expected, expected_gradient = value_and_gradient(large)
    np.testing.assert_array_equal(value, expected)
    if np.isfinite(gradient).all():
        np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["rebar", "arm", "muprop", "double_cv", "rodeo"])
@pytest.mark.parametrize("more", [True, False])
def test_passes_of_different_layers_are_refused(name, more):
    calls = []

    class Changing(rt.training.StochasticTraining, keras.Model):
        """Runs another number of layers in each pass but the first."""

        def __init__(self):
            super().__init__()
            self.first, self.second = (rt.layers.StochasticBinary(name, seed=i) for i in range(2))

        def call(self, x, training=None):
            calls.append(None)
            both = (len(calls) > 1) == more
            b = self.first(x, training=training)
            return self.second(b, training=training) if both else b

    model = Changing()
    model.first.build((None, 2)), model.second.build((None, 2))
    model.build_estimator(None)
    model.compile(loss="mse")
    model.coupled_batch = False
    before, after = (1, 2) if more else (2, 1)
    message = rf"same stochastic layers in every pass.*hard pass took samples {before} times.*takes {after}"
    with pytest.raises(ValueError, match=message):
        model.estimate_gradients(tf.zeros([2, 2]), tf.zeros([2, 2]))


@pytest.mark.parametrize("name", ["rebar", "arm", "rloo"])
def test_targets_that_do_not_fit_are_refused(name):
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match=r"[Ii]ncompatible shapes|must be equal"):
        two_outputs(name).estimate_gradients(np.zeros([4, 2], np.float32), np.zeros([4, 3], np.float32))


def two_outputs(name):
    x = keras.Input((2,))
    model = rt.StochasticModel(x, keras.layers.Dense(2)(rt.layers.StochasticBinary(name)(keras.layers.Dense(2)(x))))
    model.compile(loss="mse")
    return model
