"""Copies of a model are models of their own, and go on as it does; models within models have one estimator."""

import copy
import pickle

import keras
import numpy as np
import pytest

import rebar_tf as rt

RNG = np.random.default_rng(0)
X = RNG.normal(size=(16, 3)).astype(np.float32)
Y = RNG.normal(size=(16, 2)).astype(np.float32)


def functional(estimator="rebar", outputs=2):
    inputs = keras.Input((3,))
    b = rt.layers.StochasticBinary(estimator, values=(0, 1), seed=1)(keras.layers.Dense(2)(inputs))
    return rt.StochasticModel(inputs, keras.layers.Dense(outputs)(b))


@keras.saving.register_keras_serializable("tests")
class Copied(rt.training.StochasticTraining, keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense, self.out = keras.layers.Dense(3), keras.layers.Dense(2)
        self.units = rt.layers.StochasticBinary("rebar", seed=1)

    def call(self, x, training=None):
        return self.out(self.units(self.dense(x), training=training))


def compiled(model):
    model.compile(rt.optimizers.Adam(0.01), loss="mse")
    return model


def train(model):
    return model.fit(X, Y, batch_size=8, epochs=1, shuffle=False, verbose=0).history


@pytest.mark.filterwarnings("ignore:The `save_format`")
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
@pytest.mark.parametrize("make", [functional, Copied])
def test_a_copy_goes_on_as_the_model_does_and_shares_nothing(make, copied):
    model = compiled(make())
    train(model)
    other = copied(model)
    assert not set(map(id, model.variables)) & set(map(id, other.variables))
    assert train(other) == train(model)
    for weight, its in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, its)


def test_a_clone_has_an_estimator_of_its_own():
    model = compiled(functional())
    train(model)
    clone = keras.models.clone_model(model)
    assert int(clone.estimator.step.value) == 0
    assert not set(map(id, model.variables)) & set(map(id, clone.variables))
    assert np.isfinite(train(compiled(clone))["loss"]).all()


def nested(outer, estimator="rebar"):
    inputs = keras.Input((3,))
    inner = functional(estimator, outputs=3)
    if outer is keras.Model:
        return keras.Model(inputs, keras.layers.Dense(2)(inner(inputs))), inner
    b = rt.layers.StochasticBinary(estimator, values=(0, 1), seed=2)(inner(inputs))
    return outer(inputs, keras.layers.Dense(2)(b)), inner


def test_the_outer_estimator_alone_trains_a_nested_model(tmp_path):
    """That Keras warns of no variable without gradient is part of the test."""
    model, inner = nested(rt.StochasticModel)
    assert not {id(v) for v in inner.control_variables} & {id(v) for v in model.trainable_variables}
    assert len(model.model_variables) == 6
    inner_before = [v.numpy() for v in inner.control_variables]
    train(compiled(model))
    for variable, before in zip(inner.control_variables, inner_before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), before)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert train(loaded) == train(model)


def test_a_nested_model_in_a_plain_one_names_the_remedy():
    model, _ = nested(keras.Model)
    model.compile("sgd", loss="mse")
    assert model.predict(X, verbose=0).shape == (16, 2)
    with pytest.raises(ValueError, match=r"Build the model with rebar_tf.StochasticModel\(inputs, outputs\)"):
        train(model)


def test_a_nested_model_of_local_layers_trains_in_a_plain_one():
    model, inner = nested(keras.Model, "straight_through")
    model.compile("sgd", loss="mse")
    before = [v.numpy() for v in inner.model_variables]
    train(model)
    for variable, value in zip(inner.model_variables, before, strict=True):
        assert np.abs(variable.numpy() - value).max() > 0
