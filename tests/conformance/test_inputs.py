"""Inputs and settings of Keras beyond the usual: sparse rows, texts, `floatx`, and what changes after the model."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.marks import slow_but
from helpers.oracle import assert_unbiased

import rebar_tf as rt

RNG = np.random.default_rng(0)
ROWS = np.array([[1.0, 0.0, 0.0, 2.0], [0.0, -1.0, 0.0, 0.0]], np.float32)
Y = RNG.normal(size=(2, 2)).astype(np.float32)


def counted(texts):
    vectorize = keras.layers.TextVectorization(output_mode="multi_hot", max_tokens=4)
    vectorize.adapt(["a b", "c"])
    return keras.layers.Flatten()(vectorize(texts))


def network(estimator, inputs, rows=None):
    h = keras.layers.Dense(2, name="encoder")(inputs if rows is None else rows)
    b = rt.layers.StochasticBinary(estimator, values=(0, 1), seed=1)(h)
    model = rt.StochasticModel(inputs, keras.layers.Dense(2)(b), name="small")
    model.compile(rt.optimizers.Adam(1e-2), loss="mse")
    rng = np.random.default_rng(1)
    for variable in model.model_variables:
        variable.assign(rng.normal(size=variable.shape))
    return model


@pytest.mark.parametrize("estimator", slow_but(("rebar", "nvil"), ("rebar", "nvil", "rloo", "relax")))
def test_sparse_inputs_train_as_dense_ones(estimator):
    histories = []
    for sparse in (False, True):
        keras.utils.set_random_seed(0)
        model = network(estimator, keras.Input((4,), sparse=sparse))
        rows = tf.sparse.from_dense(ROWS) if sparse else ROWS
        data = tf.data.Dataset.from_tensors((rows, Y)).repeat(3)
        histories.append(model.fit(data, shuffle=False, verbose=0).history)
        histories[-1]["weights"] = model.get_weights()[:4]
    dense, sparse = histories
    assert dense["loss"] == pytest.approx(sparse["loss"], rel=1e-5)
    for one, other in zip(dense["weights"], sparse["weights"], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("estimator", slow_but(("rebar",), ("rebar", "nvil", "rloo")))
def test_texts_train_and_have_no_part_in_the_baseline(estimator):
    texts = keras.Input((1,), dtype="string")
    model = network(estimator, texts, counted(texts))
    assert model.context_size is None
    assert_unbiased(model, np.array([["a"], ["b c"]]), Y, repeats=16)


def test_texts_beside_numbers_leave_the_numbers_to_the_baseline():
    texts, numbers = keras.Input((1,), dtype="string"), keras.Input((3,))
    model = network("nvil", [texts, numbers], keras.layers.Concatenate()([counted(texts), numbers]))
    assert model.context_size == 3
    x = (tf.constant([["a"], ["b c"]]), tf.ones([2, 3]))
    data = tf.data.Dataset.from_tensors((x, Y))
    assert np.isfinite(model.fit(data, shuffle=False, verbose=0).history["loss"]).all()


@pytest.mark.parametrize("floatx", ["float16", "float64"])
@pytest.mark.parametrize("estimator", slow_but(("rebar",), rt.estimators.names("bernoulli")))
def test_any_floatx_trains(estimator, floatx):
    before = keras.config.floatx()
    keras.config.set_floatx(floatx)
    try:
        model = network(estimator, keras.Input((4,)))
        model.compile("sgd", loss="mse")  # the epsilon of Adam is 0 in float16
        weights = model.get_weights()[0]
        logs = model.fit(ROWS, Y, epochs=2, verbose=0).history
    finally:
        keras.config.set_floatx(before)
    assert np.isfinite(logs["loss"]).all()
    assert model.get_weights()[0].dtype == floatx
    assert np.isfinite(moved := model.get_weights()[0] - weights).all()
    assert moved.any() or estimator == "wake_sleep"  # which has a gradient for generative models only


def test_layers_that_were_changed_after_the_model_are_named():
    model = network("rebar", keras.Input((4,)))
    model.get_layer("encoder").enable_lora(1)
    model.compile("sgd", loss="mse")
    assert np.isfinite(model.evaluate(ROWS, Y, verbose=0))  # which needs nothing for each variable
    message = r"Layers of model 'small' have other variables than when it was made.*`rt.StochasticModel\(.*encoder/lora"
    with pytest.raises(ValueError, match=message):
        model.fit(ROWS, Y, verbose=0)
    again = rt.StochasticModel(model.inputs, model.outputs)
    again.compile("sgd", loss="mse")
    assert np.isfinite(again.fit(ROWS, Y, verbose=0).history["loss"]).all()


def test_a_bound_is_of_the_loss_that_the_model_is_compiled_with_now():
    model = network("reinforce", keras.Input((4,)))
    before = model.bound(ROWS, Y, num_samples=3)
    model.compile("sgd", loss=lambda y, y_pred: 0.0 * tf.reduce_sum(y_pred, axis=-1) + 7.0)
    np.testing.assert_allclose(model.bound(ROWS, Y, num_samples=3), [-7.0, -7.0])
    assert (before > -7.0).all()


def test_the_scales_of_least_variance_move_no_statistics():
    inputs = keras.Input((4,))
    model = network("rebar", inputs, keras.layers.BatchNormalization()(inputs))
    before = [variable.numpy() for variable in model.non_trainable_variables]
    rt.diagnostics.optimal_scales(model, ROWS, Y, num_estimates=3, jit_compile=False)
    for variable, value in zip(model.non_trainable_variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
