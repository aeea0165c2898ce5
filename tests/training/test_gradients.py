"""The gradients of dense layers by their factors are those that automatic differentiation takes whole."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

import rebar_tf as rt
from rebar_tf.training import FactoredDense
from rebar_tf.training.gradients import Gradient, Part
from rebar_tf.training.keras_loss import coupled

SIZES = {"hidden_units": 12, "visible_units": 20, "seed": 3}
NETWORKS = {
    "linear": {},
    "two linear": {"num_layers": 2},
    "two nonlinear": {"num_layers": 2, "nonlinear": True},
}
ESTIMATORS = {
    "rebar": {},
    "a scale for each unit": {"eta": "unit"},
    "coupled": {"group_size": None},
}


class TiedNetwork(rt.models.SigmoidBeliefNetwork):
    """Whose inference network runs twice, so that each of its weights is in two products."""

    def objective(self, x, y=None):
        f, visible = super().objective(x, y)
        return f + tf.reduce_sum(tf.square(self.encoder[0](2.0 * x)), axis=1), visible


class PenalizedNetwork(rt.models.SigmoidBeliefNetwork):
    """Whose objective has a penalty on a kernel, written by hand."""

    def objective(self, x, y=None):
        f, visible = super().objective(x, y)
        return f + 5.0 * tf.reduce_sum(tf.square(self.encoder[0].layers[0].kernel)), visible


class TransposedNetwork(rt.models.SigmoidBeliefNetwork):
    """Whose objective uses the transposed kernel of the inference network, as a tied autoencoder does."""

    def objective(self, x, y=None):
        f, visible = super().objective(x, y)
        hidden = tf.sigmoid(self.encoder[0](x))
        back = tf.matmul(hidden, self.encoder[0].layers[0].kernel, transpose_b=True)
        return f + tf.reduce_sum(tf.square(back - x), axis=1), visible


class LoopingNetwork(rt.models.SigmoidBeliefNetwork):
    """Whose inference network runs in a loop, too, where its products cannot be recorded."""

    def objective(self, x, y=None):
        f, visible = super().objective(x, y)

        def body(i, total):
            return i + 1, total + tf.reduce_sum(tf.square(self.encoder[0](tf.cast(i, tf.float32) * x)), axis=1)

        start = [tf.constant(1), tf.zeros_like(f)]
        return f + tf.while_loop(lambda i, total: i < 3, body, start, maximum_iterations=2)[1], visible


def whole(model, x, monkeypatch):
    """The same estimate without any factors."""
    monkeypatch.setattr(FactoredDense, "call", keras.layers.Dense.call)
    return estimate(model, x)


def estimate(model, x):
    model.estimator.step.assign(0)
    _, found = model.estimate_gradients(x)
    return {variable.path: g for variable, g in zip(model.trainable_variables, found, strict=True) if g is not None}


def scatter_scales(model):
    """Scales that differ, so that a gradient with the wrong one shows."""
    raw = model.estimator.scale.raw_eta
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
    of_part = Part.gradient
    monkeypatch.setattr(Part, "gradient", lambda part, eta: factored.append(part) or of_part(part, eta))
    found = estimate(model, x)
    scaled = [part for part in factored if part.variate is not None]
    weights = [variable for segment in model.encoder for variable in segment.trainable_variables]
    assert len(scaled) == len(weights)
    assert sum(part.inputs is not None for part in scaled) == len(weights) / 2
    assert_same(found, whole(model, x, monkeypatch))


@pytest.mark.parametrize("estimator", ["rebar", "nvil", "relax", "double_cv", "concrete"])
@pytest.mark.parametrize("network", [TiedNetwork, PenalizedNetwork, TransposedNetwork])
def test_other_uses_of_the_weights_are_added(network, estimator, monkeypatch):
    model = network(estimator=estimator, **SIZES)
    x = np.random.default_rng(1).integers(0, 2, (4, 20)).astype("float32")
    found = estimate(model, x)
    assert_same(found, whole(model, x, monkeypatch))
    model.objective = functools.partial(rt.models.SigmoidBeliefNetwork.objective, model)
    path = model.encoder[0].layers[0].kernel.path
    assert np.abs(found[path] - estimate(model, x)[path]).max() > 1e-2  # the other use matters


def test_layers_in_a_loop_are_taken_whole(monkeypatch):
    """In a graph, where the tensors of a loop's body are not to be had outside of it."""
    model = LoopingNetwork(**SIZES)
    x = np.random.default_rng(1).integers(0, 2, (4, 20)).astype("float32")

    def traced():
        model.estimator.step.assign(0)
        return tf.function(lambda: model.estimate_gradients(x)[1], autograph=False)()

    found = traced()
    monkeypatch.setattr(FactoredDense, "call", keras.layers.Dense.call)
    paths = [variable.path for variable in model.trainable_variables]
    assert_same(dict(zip(paths, found, strict=True)), dict(zip(paths, traced(), strict=True)))


def test_a_layer_is_frozen_and_thawed_after_the_model_was_built(monkeypatch):
    model = rt.models.SigmoidBeliefNetwork(nonlinear=True, **SIZES)
    scatter_scales(model)
    x = np.random.default_rng(1).integers(0, 2, (4, 20)).astype("float32")
    before = estimate(model, x)
    layer = model.encoder[0].layers[1]
    layer.trainable = False
    frozen = estimate(model, x)
    assert frozen.keys() == before.keys() - {variable.path for variable in layer.variables}
    model_paths = frozen.keys() & {variable.path for variable in model.model_variables}
    assert_same({path: frozen[path] for path in model_paths}, {path: before[path] for path in model_paths})
    model.compile(optimizer=rt.optimizers.Adam(1e-3))
    kernel = np.array(layer.kernel)
    model.fit(x, verbose=0)
    np.testing.assert_array_equal(layer.kernel, kernel)
    layer.trainable = True
    model.compile(optimizer=rt.optimizers.Adam(1e-3))
    model.fit(x, verbose=0)
    assert np.abs(layer.kernel - kernel).max() > 0
    assert estimate(model, x).keys() == before.keys()


def test_frozen_weights_are_left_out(monkeypatch):
    model = rt.models.SigmoidBeliefNetwork(nonlinear=True, **SIZES)
    model.encoder[0].layers[1].trainable = False
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


@keras.saving.register_keras_serializable("tests")
class WithControlLoss(rt.estimators.Rebar):
    """REBAR whose temperature is trained on a loss of its own, too."""

    def estimate(self, *args):
        found = super().estimate(*args)
        found.control_loss = 3.0 * self.temperature.log_temperature.value
        return found


def test_the_control_loss_and_the_variance_objective_are_added():
    x = np.random.default_rng(1).integers(0, 2, (4, 20)).astype("float32")
    networks = [rt.models.SigmoidBeliefNetwork(estimator=e, **SIZES) for e in (WithControlLoss(), "rebar")]
    both, variance = (
        {path: g for path, g in estimate(network, x).items() if path.startswith("control/")} for network in networks
    )
    path = "control/temperature/log_temperature"
    assert np.abs(variance[path]) > 1e-4
    np.testing.assert_allclose(both.pop(path), 3.0 + variance.pop(path), rtol=1e-5)
    assert_same(both, variance)


def test_a_scalar_that_mixes_examples_is_the_batchs_times_its_size_with_its_own_derivative():
    x = tf.constant(2.0)
    with tf.GradientTape() as tape:
        tape.watch(x)
        values = coupled(5.0 * x, 4)
        mean = tf.reduce_mean(values)
    np.testing.assert_allclose(values, [40.0] * 4)
    assert float(tape.gradient(mean, x)) == pytest.approx(5.0)
