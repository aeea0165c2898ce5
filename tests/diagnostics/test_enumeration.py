"""The exact side of `check_unbiased`: against NumPy, by both of its routes, and what it refuses."""

import itertools

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf

import rebar_tf as rt
from rebar_tf.diagnostics import enumeration
from rebar_tf.estimators import rloo as rloo_module

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 2)).astype(np.float32)
Y = RNG.normal(size=(3, 2)).astype(np.float32)
WEIGHT = np.array([0.5, 2.0, 1.0], np.float32)


def network(middle=(), loss="mse", estimator="rebar", **options):
    """Two binary units between two dense layers, with other layers behind the units."""
    inputs = keras.Input((2,))
    h = keras.layers.Dense(2, kernel_regularizer=keras.regularizers.L2(0.1))(inputs)
    h = rt.layers.StochasticBinary(estimator, values=(0, 1), seed=1)(h)
    for layer in middle:
        h = layer(h)
    model = rt.StochasticModel(inputs, keras.layers.Dense(2)(h), **options)
    model.compile(optimizer=rt.optimizers.Adam(1e-3), loss=loss)
    rng = np.random.default_rng(1)
    for variable in model.model_variables:
        variable.assign(rng.normal(size=variable.shape))
    return model


class Centred(keras.layers.Layer):
    """Mixes the examples."""

    def call(self, x):
        return x - tf.reduce_mean(x, axis=0)


def expected_loss(weights, normalised):
    """`E[loss]` in NumPy, over all samples of the batch."""
    kernel, bias, *scale, out, out_bias = weights
    p = scipy.special.expit(X @ kernel + bias)
    total = 0.1 * np.sum(kernel**2)
    for b in itertools.product([0.0, 1.0], repeat=p.size):
        b = np.reshape(b, p.shape)
        h = (b - b.mean(0)) / np.sqrt(b.var(0) + 1e-3) * scale[0] + scale[1] if normalised else b
        errors = np.mean((h @ out + out_bias - Y) ** 2, axis=1)
        total += np.prod(np.where(b == 1, p, 1 - p)) * np.mean(WEIGHT * errors)
    return total


@pytest.mark.parametrize("normalised", [False, True])
def test_exact_gradients_are_those_of_the_expectation_in_numpy(normalised):
    """By central differences, in float64."""
    model = network([keras.layers.BatchNormalization()] if normalised else [])
    before = [variable.numpy() for variable in model.variables]
    value, gradients = enumeration.exact_loss_and_gradients(model, X, Y, WEIGHT)
    for variable, was in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable, was)
    weights = [variable.numpy().astype(np.float64) for variable in model.model_variables]
    assert value == pytest.approx(expected_loss(weights, normalised), rel=1e-5)
    for weight, gradient in zip(weights, gradients, strict=True):
        for place in np.ndindex(weight.shape):
            sides = []
            for step in (1e-5, -1e-5):
                weight[place] += step
                sides.append(expected_loss(weights, normalised))
                weight[place] -= step
            assert gradient[place] == pytest.approx((sides[0] - sides[1]) / 2e-5, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("most", [512, 511])  # joint states: all there are, or one less, which takes the other route
def test_two_layers_are_enumerated_as_in_numpy(most, monkeypatch):
    monkeypatch.setattr(enumeration, "MAX_STATES", most)
    model = network([keras.layers.Dense(1), rt.layers.StochasticBinary("rebar", values=(0, 1), seed=2)])
    value, _ = enumeration.exact_loss_and_gradients(model, X, Y, WEIGHT)
    kernel, bias, kernel2, bias2, out, out_bias = (v.numpy().astype(np.float64) for v in model.model_variables)
    p = scipy.special.expit(X @ kernel + bias)
    expected = 0.1 * np.sum(kernel**2)
    for b in itertools.product([0.0, 1.0], repeat=2):
        p2 = scipy.special.expit(b @ kernel2 + bias2)
        of_b = np.prod(np.where(b, p, 1 - p), axis=1)
        for c in (0.0, 1.0):
            errors = np.mean((c * out + out_bias - Y) ** 2, axis=1)
            expected += np.mean(WEIGHT * of_b * (p2 if c else 1 - p2) * errors)
    assert value == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("reduction", ["sum", "mean_with_sample_weight"])
def test_example_by_example_is_the_same_where_the_loss_is_a_sum(reduction, monkeypatch):
    model = network([keras.layers.Dropout(0.5, seed=3)], keras.losses.MeanSquaredError(reduction=reduction))
    value, gradients = enumeration.exact_loss_and_gradients(model, X, Y, WEIGHT)
    monkeypatch.setattr(enumeration, "MAX_STATES", 63)  # one less than there are
    again, singly = enumeration.exact_loss_and_gradients(model, X, Y, WEIGHT)
    assert again == pytest.approx(value, rel=1e-5)
    for found, expected in zip(singly, gradients, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def mixed_probabilities():
    """A loss that is a sum over the examples, and a last layer whose probabilities are not."""
    return network([Centred(), keras.layers.Dense(2), rt.layers.StochasticBinary("rebar", seed=2)], coupled_batch=True)


@pytest.mark.parametrize("mixed", [lambda: network([Centred()]), mixed_probabilities])
def test_a_batch_that_is_mixed_must_be_small(mixed):
    x, y = np.repeat(X, 4, axis=0), np.repeat(Y, 4, axis=0)
    with pytest.raises(ValueError, match=r"mixes the examples.*at most 4096: use a smaller batch"):
        enumeration.exact_gradients(mixed(), x, y)


@pytest.mark.parametrize(
    "options",
    [dict(middle=[Centred()]), dict(loss=keras.losses.MeanSquaredError(reduction="sum"))],
    ids=["mixed", "sum"],
)
def test_repeated_examples_are_refused_where_the_loss_is_not_their_mean(options):
    with pytest.raises(ValueError, match="`repeats` must be 1 where the loss is not a mean"):
        rt.diagnostics.check_unbiased(network(**options), X, Y, num_estimates=5, repeats=2)


def test_a_batch_that_is_mixed_and_said_not_to_be_is_shown_biased():
    reports = [
        rt.diagnostics.check_unbiased(network([Centred()], coupled_batch=coupled), X, Y, 4000, jit_compile=False)
        for coupled in (False, True)
    ]
    assert [report.unbiased for report in reports] == [False, True], reports


def test_a_broken_estimator_is_rejected_where_the_batch_is_mixed(monkeypatch):
    monkeypatch.setattr(rloo_module, "mean_of_others", lambda f: tf.zeros_like(f) + tf.reduce_mean(f, 0))
    model = network([keras.layers.BatchNormalization()], estimator="rloo")
    report = rt.diagnostics.check_unbiased(model, X, Y, 4000, jit_compile=False)
    assert not report.unbiased, report


def test_estimates_share_the_noise_of_other_layers_and_leave_the_state():
    """Over other masks their mean would be another one."""
    model = network([keras.layers.Dropout(0.5, seed=3), keras.layers.BatchNormalization()])
    before = [variable.numpy() for variable in model.state_variables]
    report = rt.diagnostics.check_unbiased(model, X, Y, 2000, jit_compile=False)
    assert report.unbiased, report
    for variable, was in zip(model.state_variables, before, strict=True):
        np.testing.assert_array_equal(variable, was)


def test_penalties_and_weights_of_a_model_with_an_objective_of_its_own():
    class Own(rt.StochasticModel):
        def objective(self, x, y=None):
            y_pred = self(x, training=True)
            return tf.reduce_mean(tf.square(y - y_pred), axis=1), y_pred

    plain = network()
    own = Own(plain.inputs[0], plain.outputs[0])
    for model in (plain, own):
        report = rt.diagnostics.check_unbiased(model, X, Y, 500, repeats=8, sample_weight=WEIGHT, jit_compile=False)
        assert report.unbiased, report
    expected, found = (enumeration.exact_gradients(model, X, Y, WEIGHT) for model in (plain, own))
    for gradient, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(gradient, other, rtol=1e-4, atol=1e-6)


def test_a_model_that_was_not_built_yet():
    class Net(rt.training.StochasticTraining, keras.Model):
        def __init__(self):
            super().__init__()
            self.dense, self.units = keras.layers.Dense(2), rt.layers.StochasticBinary("reinforce", seed=1)

        def call(self, x):
            return self.units(self.dense(x))

    model = Net()
    model.compile(loss="mse")
    assert rt.diagnostics.check_unbiased(model, X, Y, 200, jit_compile=False).unbiased


def test_a_model_without_samples_is_refused():
    class Unused(rt.training.StochasticTraining, keras.Model):
        def __init__(self):
            super().__init__()
            self.dense, self.units = keras.layers.Dense(2), rt.layers.StochasticBinary(seed=1)

        def call(self, x):
            return self.dense(x)

    model = Unused()
    model.compile(loss="mse")
    model.units.build((None, 2))
    model(X)
    model.build_estimator(2)
    with pytest.raises(ValueError, match="ran no stochastic layer"):
        enumeration.exact_gradients(model, X, Y)
