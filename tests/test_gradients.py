"""The gradients of dense layers by their factors are those that automatic differentiation takes whole."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import rebar_tf as rt
from rebar_tf.models import gradients
from rebar_tf.models.gradients import Gradient

SIZES = {"hidden_units": 12, "visible_units": 20, "seed": 3}
NETWORKS = {
    "linear": {},
    "two linear": {"num_layers": 2},
    "two nonlinear": {"num_layers": 2, "nonlinear": True},
}
ESTIMATORS = {
    "rebar": {},
    "a scale for each unit": {"eta": "unit"},
    "coupled": {"rule": "coupled"},
}


class TiedNetwork(rt.models.SigmoidBeliefNetwork):
    """Whose inference network runs twice, so that each of its weights is in two products."""

    def objective(self, x, y=None):
        f, visible = super().objective(x, y)
        return f + tf.reduce_sum(tf.square(self.encoder[0](2.0 * x)), axis=1), visible


class FrozenNetwork(rt.models.SigmoidBeliefNetwork):
    """Whose inference network has a layer that is not trained, and no scale."""

    def build_estimator(self, context_size, seed=None):
        self.encoder[0].layers[1].trainable = False
        super().build_estimator(context_size, seed)


def whole(model, x, monkeypatch):
    """The same estimate without any factors."""
    monkeypatch.setattr(gradients, "of_dense_layers", lambda *arguments: {})
    return estimate(model, x)


def estimate(model, x):
    model.estimator.step.assign(0)
    _, found = model.estimate_gradients(x)
    return {variable.path: g for variable, g in zip(model.trainable_variables, found, strict=True) if g is not None}


def scatter_scales(model):
    """Scales that differ, so that a gradient with the wrong one shows."""
    raw = model.estimator.raw_eta
    raw.assign(np.random.default_rng(0).normal(size=raw.shape))


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for path, g in expected.items():
        np.testing.assert_allclose(found[path], g, rtol=1e-4, atol=1e-5 * np.abs(g).max(), err_msg=path)


@pytest.mark.parametrize("options", ESTIMATORS.values(), ids=ESTIMATORS)
@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_factored_gradients_are_the_whole_ones(network, options, monkeypatch):
    model = rt.models.SigmoidBeliefNetwork(estimator=rt.estimators.Rebar(**options), **network, **SIZES)
    scatter_scales(model)
    x = np.random.default_rng(1).integers(0, 2, (4, 20)).astype("float32")
    factored = []
    by_factors = gradients.of_dense_layers
    monkeypatch.setattr(gradients, "of_dense_layers", lambda *args: factored.append(by_factors(*args)) or factored[0])
    found = estimate(model, x)
    weights = [variable for segment in model.encoder for variable in segment.trainable_variables]
    assert factored[0].keys() == {id(variable) for variable in weights}
    assert_same(found, whole(model, x, monkeypatch))


def test_weights_of_two_products_are_taken_whole(monkeypatch):
    model = TiedNetwork(**SIZES)
    scatter_scales(model)
    x = np.random.default_rng(1).integers(0, 2, (4, 20)).astype("float32")
    found = estimate(model, x)
    assert_same(found, whole(model, x, monkeypatch))


def test_frozen_weights_are_left_out(monkeypatch):
    model = FrozenNetwork(nonlinear=True, **SIZES)
    scatter_scales(model)
    x = np.random.default_rng(1).integers(0, 2, (4, 20)).astype("float32")
    found = estimate(model, x)
    assert len(found) == len(model.trainable_variables)
    assert_same(found, whole(model, x, monkeypatch))


def test_a_loss_on_weights_counts():
    model = rt.models.SigmoidBeliefNetwork(**SIZES)
    kernel = model.encoder[0].layers[0].kernel
    x = np.ones([4, 20], "float32")
    without = estimate(model, x)[kernel.path]
    model.encoder[0].layers[0].kernel_regularizer = keras.regularizers.L2(0.5)
    kernel.regularizer = model.encoder[0].layers[0].kernel_regularizer
    np.testing.assert_allclose(estimate(model, x)[kernel.path] - without, kernel.numpy(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("rows", "by_factors"), [(3, True), (40, False)], ids=["a small batch", "a large one"])
def test_dual_is_half_the_derivative_of_the_square(rows, by_factors):
    rng = np.random.default_rng(0)
    inputs, cotangent = (tf.constant(rng.normal(size=(rows, units)), tf.float32) for units in (12, 15))
    with tf.GradientTape() as tape:
        tape.watch(cotangent)
        gradient = Gradient.of_kernel(inputs, cotangent)
        half_square = tf.reduce_sum(tf.square(gradient.value)) / 2.0
    assert (gradient.source is cotangent) == by_factors
    np.testing.assert_allclose(gradient.value, inputs.numpy().T @ cotangent.numpy(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(gradient.dual, tape.gradient(half_square, gradient.source), rtol=1e-4, atol=1e-3)


def test_a_batch_of_unknown_size_is_taken_whole():
    @tf.function(input_signature=[tf.TensorSpec([None, 12]), tf.TensorSpec([None, 15])])
    def is_whole(inputs, cotangent):
        gradient = Gradient.of_kernel(inputs, cotangent)
        return tf.constant(gradient.source is gradient.value)

    assert is_whole(tf.ones([3, 12]), tf.ones([3, 15]))
