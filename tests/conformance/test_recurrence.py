"""Sequences of unknown length, and stochastic units in a recurrence."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.marks import slow_but
from helpers.oracle import assert_unbiased

import rebar_tf as rt
from rebar_tf.estimators.rebar import linear_in

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 2, 3)).astype(np.float32)
Y = RNG.normal(size=(2, 2, 2)).astype(np.float32)
SAMPLING = ["rebar", "double_cv", "rloo", "disarm", "muprop"]
LEARNED = ["relax", "lax", "q_function"]


def finish(inputs, outputs):
    model = rt.StochasticModel(inputs, outputs)
    model.compile(optimizer=rt.optimizers.Adam(1e-3), loss="mse")
    rng = np.random.default_rng(1)
    for variable in model.model_variables:
        variable.assign(rng.normal(size=variable.shape))
    return model


def units(estimator, **kwargs):
    return rt.layers.StochasticBinary(estimator, values=(0, 1), seed=1, **kwargs)


def binary(estimator, length=None):
    inputs = keras.Input((length, 3))
    return finish(inputs, keras.layers.Dense(2)(units(estimator)(keras.layers.Dense(1)(inputs))))


def categorical(estimator):
    inputs = keras.Input((None, 3))
    b = rt.layers.StochasticCategorical(3, estimator, seed=1)(keras.layers.Dense(3)(inputs))
    return finish(inputs, keras.layers.Dense(2)(b))


def time_distributed(estimator, length=2):
    inputs = keras.Input((length, 3))
    b = keras.layers.TimeDistributed(units(estimator))(keras.layers.Dense(1)(inputs))
    return finish(inputs, keras.layers.Dense(2)(b))


@keras.saving.register_keras_serializable("test_recurrence")
class Cell(keras.layers.Layer):
    """A binary unit, which sees that of the step before."""

    state_size = output_size = 1

    def __init__(self, estimator, **kwargs):
        super().__init__(**kwargs)
        self.logits, self.units = keras.layers.Dense(1), units(estimator)

    def build(self, input_shape):
        self.logits.build((input_shape[0], input_shape[-1] + 1))
        self.units.build((input_shape[0], 1))

    def call(self, inputs, states, training=None):
        b = self.units(self.logits(tf.concat([inputs, states[0]], axis=-1)), training=training)
        return b, [b]


def recurrent(estimator, unroll=True):
    inputs = keras.Input((2, 3))
    b = keras.layers.RNN(Cell(estimator), unroll=unroll, return_sequences=True)(inputs)
    return finish(inputs, keras.layers.Dense(2)(b))


@pytest.mark.parametrize(
    ("network", "estimator"),
    slow_but(
        lambda network, estimator: estimator in ("rebar", "disarm", "muprop", "exact"),
        [
            *((binary, name) for name in ["rebar", "double_cv", "rloo"]),
            *((categorical, name) for name in ["rebar", "double_cv"]),
            *((time_distributed, name) for name in ["rebar", "disarm"]),
            *((recurrent, name) for name in ["rebar", "double_cv", "muprop", "disarm", "relax", "exact"]),
        ],
    ),
)
def test_sequences_are_unbiased(network, estimator):
    assert_unbiased(network(estimator), X, Y, count=20 if estimator == "exact" else 4000, power=0.5)


@pytest.mark.parametrize("estimator", SAMPLING)
def test_a_graph_for_any_length_has_the_gradient_of_a_known_one(estimator):
    model = binary(estimator)
    expected = model.estimate_gradients(tf.constant(X), tf.constant(Y))
    signature = [tf.TensorSpec([None, None, 3]), tf.TensorSpec([None, None, 2])]
    model.estimator.step.assign(0)
    found = tf.function(model.estimate_gradients, input_signature=signature, autograph=False)(X, Y)
    for value, target in zip(tf.nest.flatten(found), tf.nest.flatten(expected), strict=True):
        np.testing.assert_allclose(value, target, rtol=1e-4, atol=1e-6)


def test_an_lstm_after_the_layer_takes_any_length():
    inputs = keras.Input((None, 3))
    h = keras.layers.LSTM(2, return_sequences=True)(units("rebar")(keras.layers.Dense(2)(inputs)))
    model = finish(inputs, h)
    expected = model.estimate_gradients(tf.constant(X), tf.constant(Y))
    model.estimator.step.assign(0)
    signature = [tf.TensorSpec([None, None, 3]), tf.TensorSpec([None, None, 2])]
    found = tf.function(model.estimate_gradients, input_signature=signature, autograph=False)(X, Y)
    for value, target in zip(tf.nest.flatten(found), tf.nest.flatten(expected), strict=True):
        np.testing.assert_allclose(value, target, rtol=1e-3, atol=1e-5)


def test_a_loop_is_not_differentiated_once_more_for_the_temperature():
    """Each derivative of a loop is several times as large as the one before, and forward mode takes one more."""

    scalar = tf.Variable(0.5)

    def in_forward_mode(body):
        with tf.GradientTape() as tape:
            tensors = [body(scalar * tf.ones([2]))]
        return linear_in(scalar, tape, tensors)[0] is not tensors[0]

    def loop(x):
        return tf.while_loop(lambda i, _: i < 3, lambda i, x: (i + 1, x * x), [tf.constant(0), x])[1]

    seen = []

    @tf.function
    def trace():
        seen.append([in_forward_mode(body) for body in (tf.square, loop)])

    trace()
    assert seen == [[True, False]]


@pytest.mark.parametrize("estimator", LEARNED)
def test_a_learned_control_variate_refuses_an_unknown_length(estimator):
    inputs = keras.Input((None, 3))
    b = units(estimator, name="gates")(keras.layers.Dense(2)(inputs))
    message = r"number must be fixed.*use rebar, or rloo.*layer 'gates' with samples of shape \(None, None, 2\)"
    with pytest.raises(ValueError, match=message):
        rt.StochasticModel(inputs, b)


def test_enumeration_refuses_an_unknown_length():
    model = binary("exact")
    signature = [tf.TensorSpec([None, None, 3]), tf.TensorSpec([None, None, 2])]
    with pytest.raises(ValueError, match=r"fixed number of units.*layer 'stochastic_binary' .* \(None, None, 1\)"):
        tf.function(model.estimate_gradients, input_signature=signature, autograph=False)(X, Y)


LOOP = r"'stochastic_binary' is called inside of a symbolic loop.*`unroll=True`"


@pytest.mark.parametrize("estimator", ["rebar", "rloo", "disarm", "muprop", "exact", "straight_through"])
def test_a_symbolic_recurrence_is_refused(estimator):
    model = recurrent(estimator, unroll=False)
    for run in (model.fit, model.evaluate):
        with pytest.raises(ValueError, match=LOOP):
            run(X, Y, verbose=0)
    assert model.predict(X, verbose=0).shape == (2, 2, 2)


class Inside(keras.layers.Layer):
    """Calls a stochastic layer inside of something of TensorFlow."""

    def __init__(self, how):
        super().__init__()
        self.how, self.units = how, units("rloo")

    def build(self, input_shape):
        self.units.build(input_shape)

    def call(self, x, training=None):
        def run(logits):
            return self.units(logits, training=training)

        if self.how == "while_loop":
            return tf.while_loop(lambda i, _: i < 2, lambda i, b: (i + 1, run(b)), [tf.constant(0), x])[1]
        if self.how == "map_fn":
            return tf.map_fn(run, x)
        if self.how == "function":
            return tf.function(run)(x)
        return tf.vectorized_map(run, x)


@pytest.mark.parametrize("how", ["while_loop", "map_fn", "function", "vectorized_map"])
def test_a_layer_inside_of_a_graph_of_its_own_is_refused(how):
    inputs = keras.Input((2, 3))
    with pytest.raises(ValueError, match="same noise in every" if how == "vectorized_map" else LOOP):
        finish(inputs, Inside(how)(keras.layers.Dense(2)(inputs))).fit(X, Y, verbose=0)


def test_time_steps_of_unknown_number_are_refused_where_they_would_share_their_noise():
    model = time_distributed("rloo", length=None)
    signature = [tf.TensorSpec([None, None, 3])]
    message = r"'stochastic_binary' is called inside of `tf.vectorized_map`.*whole sequence"
    with pytest.raises(ValueError, match=message):
        tf.function(model, input_signature=signature, autograph=False)(X)
    assert model(X).shape == (2, 2, 2)  # a loop of Python
