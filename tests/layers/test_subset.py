"""The layer of subsets: what it outputs, what it refuses, and that it trains."""

import itertools

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf

import rebar_tf as rt

LOGITS = np.random.default_rng(0).normal(size=(200, 5)).astype(np.float32)
SUBSETS = np.array([[float(i in pair) for i in range(5)] for pair in itertools.combinations(range(5), 2)])
P = scipy.special.softmax(LOGITS @ SUBSETS.T, axis=1)


def test_outputs_by_mode():
    outputs = {
        mode: np.asarray(rt.layers.StochasticSubset(2, inference=mode, seed=0)(LOGITS))
        for mode in ("sample", "mode", "mean")
    }
    np.testing.assert_allclose(outputs["mean"], P @ SUBSETS, rtol=1e-4)
    np.testing.assert_array_equal(outputs["mode"], SUBSETS[P.argmax(axis=1)])
    np.testing.assert_array_equal(outputs["sample"].sum(axis=1), 2.0)
    assert len(np.unique(outputs["sample"], axis=0)) > 5


def test_the_mode_of_nan_is_nan():
    logits = np.array([[1.0, np.nan, 2.0], [1.0, 0.0, 2.0]], np.float32)
    mode = np.asarray(rt.layers.StochasticSubset(1, inference="mode")(logits))
    assert np.isnan(mode[0]).any()
    np.testing.assert_array_equal(mode[1], [0.0, 0.0, 1.0])


def test_probabilities_are_returned_on_request():
    sample, logits, probabilities = rt.layers.StochasticSubset(2, return_logits=True, return_probs=True)(LOGITS)
    assert sample.shape == LOGITS.shape
    np.testing.assert_array_equal(logits, LOGITS)
    np.testing.assert_allclose(probabilities, P @ SUBSETS, rtol=1e-4)


def test_straight_through_is_simple():
    """The derivative of the exact marginals: the covariance of the units."""
    layer, weights = rt.layers.StochasticSubset(2, "straight_through", seed=0), np.arange(5.0, dtype=np.float32)
    with tf.GradientTape() as tape:
        logits = tf.constant(LOGITS)
        tape.watch(logits)
        total = tf.reduce_sum(layer(logits, training=True) * weights)
    centred = SUBSETS - (P @ SUBSETS)[:, np.newaxis]
    expected = np.einsum("rs,rsi,rsj,j->ri", P, centred, centred, weights)
    np.testing.assert_allclose(tape.gradient(total, logits), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("size", [0, -1, 1.5, None])
def test_a_size_below_one_is_refused(size):
    with pytest.raises(ValueError, match=r"`size` must be an integer of 1 or more"):
        rt.layers.StochasticSubset(size)


def test_more_units_than_there_are_is_refused():
    with pytest.raises(ValueError, match=r"at least size=6 units. Received: logits.shape=\(None, 5\)"):
        rt.layers.StochasticSubset(6)(keras.Input((5,)))


def test_a_mixture_with_the_uniform_law_is_refused():
    with pytest.raises(ValueError, match=r"`unimix` must be 0 for subsets. Received: unimix=0.1"):
        rt.layers.StochasticSubset(2, unimix=0.1)


def test_estimators_of_independent_units_are_refused_with_those_that_serve():
    x = keras.Input((5,))
    with pytest.raises(
        ValueError, match=r"'rebar' serves bernoulli and categorical units only. Received: subset units.*rloo"
    ):
        rt.StochasticModel(x, rt.layers.StochasticSubset(2, "rebar")(x))


@pytest.mark.parametrize(("kind", "estimator"), [(keras.Model, "straight_through"), (rt.StochasticModel, "rloo")])
def test_a_selection_of_inputs_finds_those_that_matter(kind, estimator):
    """Two of five columns carry the target; gates that all examples share choose two."""
    keras.utils.set_random_seed(0)

    class Selection(keras.layers.Layer):
        def build(self, shape):
            self.logits = self.add_weight(shape=(5,), initializer="zeros")
            self.subset = rt.layers.StochasticSubset(2, estimator, inference="mode", shared=True, seed=1)

        def call(self, x, training=None):
            return x * self.subset(tf.convert_to_tensor(self.logits), training=training)[tf.newaxis]

        def compute_output_shape(self, shape):  # by which Keras does not call the layer before the first batch
            return shape

    x = np.random.default_rng(0).normal(size=(512, 5)).astype(np.float32)
    y = x[:, [1]] - x[:, [3]]
    inputs, selection = keras.Input((5,)), Selection()
    model = kind(inputs, keras.layers.Dense(1)(selection(inputs)))
    model.compile(optimizer=keras.optimizers.Adam(0.05), loss="mse")
    model.fit(x, y, batch_size=32, epochs=10, verbose=0)
    assert set(np.argsort(selection.logits.numpy())[-2:]) == {1, 3}
    assert model.evaluate(x, y, verbose=0) < 0.2
