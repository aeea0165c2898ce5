"""Inputs and settings of Keras beyond the usual: sparse rows, texts, `floatx`, and what changes after the model."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.marks import slow_but
from helpers.oracle import assert_unbiased

import rebar_tf as rt
from rebar_tf.diagnostics.twin import with_estimator

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
        model.compile(keras.optimizers.SGD(0.3), loss="mse")  # the epsilon of Adam is 0 in float16
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


class Penalty(keras.layers.Layer):
    def call(self, x):
        self.add_loss(5.0 * tf.reduce_mean(x))
        return x


def test_a_bound_refuses_what_is_no_value_of_each_example():
    inputs = keras.Input((4,))
    b = rt.layers.StochasticBinary("reinforce")(keras.layers.Dense(2)(inputs))
    model = rt.StochasticModel(inputs, keras.layers.Dense(2)(Penalty()(b)))
    with pytest.raises(ValueError, match="`loss` must be given to `compile`"):
        model.bound(ROWS, Y)
    model.compile("sgd", loss="mse")
    with pytest.raises(ValueError, match="layers of the model add losses of the whole batch"):
        model.bound(ROWS, Y)


@pytest.mark.parametrize("estimator", ["vimco", "ovis", "wake_sleep"])
def test_what_takes_an_exponential_of_each_loss_refuses_their_sum(estimator):
    model = network(estimator, keras.Input((4,)))
    model.compile("sgd", loss=keras.losses.MeanSquaredError(reduction="sum"))
    with pytest.raises(ValueError, match=r"A multi-sample bound takes the exponential .*Received: reduction='sum'"):
        model.bound(ROWS, Y)
    with pytest.raises(ValueError, match=rf"Estimator '{estimator}' takes the exponential .*Received: reduction='sum'"):
        model.fit(ROWS, Y, verbose=0)


def test_a_bound_takes_what_fit_takes():
    class Own(rt.StochasticModel):
        def objective(self, x, y=None):
            y_pred = self(x, training=True)
            return tf.reduce_sum(tf.square(y - y_pred), axis=1), y_pred

    inputs = keras.Input((4,))
    b = rt.layers.StochasticBinary("reinforce", seed=1)(keras.layers.Dense(2)(inputs))
    model = Own(inputs, keras.layers.Dense(2)(b))
    model.compile("sgd")
    wide = model.bound(ROWS.astype(np.float64), Y.astype(np.float64), num_samples=2)
    np.testing.assert_array_equal(wide, model.bound(ROWS, Y, num_samples=2))
    assert model.bound(ROWS[:0], Y[:0], num_samples=2).shape == (0,)
    texts = keras.Input((1,), dtype="string")
    assert network("rebar", texts, counted(texts)).bound(np.array([["a"], ["b"]]), Y, num_samples=2).shape == (2,)


class Gates(keras.layers.Layer):
    def __init__(self, **options):
        super().__init__()
        self.units = rt.layers.StochasticBinary(**options)

    def build(self, shape):
        self.gate_logits = self.add_weight(shape=(1, shape[-1]), initializer="zeros")

    def call(self, x, training=None):
        return x * self.units(self.gate_logits, training=training)


@pytest.mark.parametrize("estimator", ["reinforce", "rebar", "disarm"])
def test_one_row_of_logits_for_a_batch_is_told_of_shared(estimator):
    inputs = keras.Input((4,))
    model = rt.StochasticModel(inputs, keras.layers.Dense(2)(Gates(estimator=estimator, name="gates")(inputs)))
    model.compile("sgd", loss="mse")
    message = r"The logits of 'gates' must have a row for each value.*`shared=True`. Received: logits of shape \(1, 4\)"
    with pytest.raises(ValueError, match=message):
        model.fit(ROWS, Y, verbose=0)
    with pytest.raises(ValueError, match=r"The logits of 'expectation' .*shape \(1, 2\), an objective of shape \(5,\)"):
        rt.expectation(lambda b: tf.reduce_sum(b * tf.ones([5, 2]), axis=1), tf.zeros([1, 2]), estimator)


@pytest.mark.parametrize("estimator", slow_but(("reinforce", "rebar"), ("reinforce", "rebar", "arms", "reinmax")))
def test_masked_steps_have_no_gradient(estimator):
    inputs = keras.Input((3, 2))
    encoder = keras.layers.Dense(2, name="encoder")
    b = rt.layers.StochasticBinary(estimator, seed=1)(encoder(keras.layers.Masking()(inputs)))
    model = rt.StochasticModel(inputs, keras.layers.Dense(2)(keras.ops.reshape(b, (-1, 6))))
    model.compile(rt.optimizers.Adam(1e-2), loss="mse")
    x = np.ones([2, 3, 2], np.float32)
    bias = [variable is encoder.bias for variable in model.trainable_variables].index(True)
    assert np.any(model.estimate_gradients(x, Y)[1][bias])
    assert not np.any(model.estimate_gradients(0.0 * x, Y)[1][bias])


class Mixed(rt.training.StochasticTraining, keras.Model):
    def __init__(self, estimator="reinforce", **kwargs):
        super().__init__(**kwargs)
        self.encoder, self.decoder = keras.layers.Dense(2), keras.layers.Dense(2)
        self.units, self.estimator_name = rt.layers.StochasticBinary(estimator), estimator

    def call(self, x, training=None):
        return self.decoder(self.units(self.encoder(x), training=training))

    def get_config(self):
        return {"estimator": self.estimator_name}


def test_a_subclassed_model_keeps_what_it_was_told_of_its_batches(tmp_path):
    model = Mixed()
    model.coupled_batch = True
    model.compile("sgd", loss="mse")
    model.fit(ROWS, Y, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", custom_objects={"Mixed": Mixed})
    assert loaded.coupled_batch is True
    assert with_estimator(model, "reinforce").coupled_batch is True


def test_a_twin_has_the_temperature_of_the_layers_that_keep_their_estimator():
    inputs = keras.Input((4,))
    h = rt.layers.StochasticBinary(rt.estimators.Concrete(1.0), name="local")(keras.layers.Dense(2)(inputs))
    b = rt.layers.StochasticBinary("rebar")(keras.layers.Dense(2)(h))
    model = rt.StochasticModel(inputs, keras.layers.Dense(2)(b))
    model.compile("sgd", loss="mse")
    for variable in model.get_layer("local").local.weights:
        if "temperature" in variable.path:
            variable.assign(variable - 2.0)
    twin = with_estimator(model, "rloo")
    assert float(twin.temperatures["local"]) == pytest.approx(float(model.temperatures["local"]))
    assert float(twin.temperatures["local"]) < 0.5


def test_a_model_that_keras_cannot_make_anew_is_named_by_the_adviser():
    model = rt.diagnostics.expectation_model(lambda b: b[:, 0], [0.3], "reinforce")
    with pytest.raises(ValueError, match="must have a `get_config` of which Keras can make it anew"):
        rt.diagnostics.compare(model, np.zeros([4, 1], np.float32), seconds=0.1)


def test_the_scales_of_least_variance_move_no_statistics():
    inputs = keras.Input((4,))
    model = network("rebar", inputs, keras.layers.BatchNormalization()(inputs))
    before = [variable.numpy() for variable in model.non_trainable_variables]
    rt.diagnostics.optimal_scales(model, ROWS, Y, num_estimates=3, jit_compile=False)
    for variable, value in zip(model.non_trainable_variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
