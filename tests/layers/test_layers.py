"""The Keras layers: what they output where, what they refuse, and how they are saved."""

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf
from keras.src.saving.serialization_lib import ObjectSharingScope

import rebar_tf as rt
from rebar_tf.sampling import HardSampler

LOGITS = tf.constant(np.random.default_rng(0).normal(size=[500, 6]), tf.float32)


@pytest.mark.parametrize("values", [(-1, 1), (0, 1), (2.0, -3.0)])
def test_samples_take_the_stated_values(values):
    layer = rt.layers.StochasticBinary(values=values, seed=0)
    with HardSampler(0) as trace:
        output = layer(LOGITS, training=True).numpy()
    assert set(np.unique(output)) == set(map(float, values))
    np.testing.assert_array_equal(output == values[1], trace.sites[0].sample == 1)


def test_inference_modes():
    outputs = {mode: rt.layers.StochasticBinary(inference=mode, seed=0)(LOGITS) for mode in ("sample", "mode", "mean")}
    theta = scipy.special.expit(LOGITS)
    np.testing.assert_allclose(outputs["mean"], 2 * theta - 1, atol=1e-6)
    np.testing.assert_array_equal(outputs["mode"], np.where(LOGITS > 0, 1.0, -1.0))
    assert set(np.unique(outputs["sample"])) == {-1.0, 1.0}
    z = (np.mean(outputs["sample"] == 1) - theta.mean()) / np.sqrt(np.mean(theta * (1 - theta)) / theta.size)
    assert abs(z) < scipy.stats.norm.isf(1e-6)


def test_inference_samples_are_fresh_at_each_call_and_repeat_with_the_seed():
    first, again = (rt.layers.StochasticBinary(seed=4) for _ in range(2))
    draws = [first(LOGITS).numpy() for _ in range(2)]
    assert not np.array_equal(*draws)
    np.testing.assert_array_equal([again(LOGITS).numpy() for _ in range(2)], draws)


def test_training_in_a_plain_keras_model_is_refused():
    x = keras.Input((4,))
    model = keras.Model(x, keras.layers.Dense(1)(rt.layers.StochasticBinary(name="units")(keras.layers.Dense(3)(x))))
    model.compile(loss="mse")
    with pytest.raises(ValueError, match=r"'units'.*by itself it has no gradient.*StochasticModel"):
        model.fit(np.zeros([4, 4]), np.zeros([4, 1]), verbose=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(estimator="rebarr"), "`estimator` must be one of .*rebar.*Received: estimator='rebarr'"),
        (dict(inference="argmax"), "`inference` must be one of sample, mode, mean.*'argmax'"),
        (dict(values=(1, 1)), "`values` must be two different numbers"),
        (dict(unimix=1.0), r"`unimix` must be a number in \[0, 1\)\. Received: unimix=1\.0"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        rt.layers.StochasticBinary(**arguments)


def test_logits_of_rank_one_are_refused():
    with pytest.raises(ValueError, match=r"`logits` must have shape \[batch, units\].*\(3,\)"):
        rt.layers.StochasticBinary()(tf.zeros([3]))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float32"])
def test_mixed_precision_computes_in_float32(policy):
    layer = rt.layers.StochasticBinary(dtype=policy, seed=0)
    with HardSampler(0) as trace:
        output = layer(tf.cast(LOGITS, layer.compute_dtype), training=True)
    assert output.dtype == layer.compute_dtype
    assert trace.sites[0].noise.dtype == trace.sites[0].logits.dtype == tf.float32


def test_config_round_trip():
    layer = rt.layers.StochasticBinary(
        rt.estimators.Rebar(0.1, learn_temperature=False),
        values=(0, 1),
        inference="mode",
        seed=3,
        name="units",
    )
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert again.get_config() == layer.get_config()
    assert again.make_estimator().temperature.initial == 0.1
    assert not again.make_estimator().temperature.learn


def test_layers_name_the_same_estimator_while_keras_loads_a_model():
    """Keras marks objects that occur twice, by an address that another estimator may have had."""
    with ObjectSharingScope():
        configs = [rt.layers.StochasticBinary("nvil").estimator_config for _ in range(20)]
    assert all(config == configs[0] for config in configs)


def test_a_saved_network_names_its_own_estimator():
    with ObjectSharingScope():
        networks = [
            rt.models.SigmoidBeliefNetwork(estimator=name, hidden_units=2, visible_units=2)
            for name in ("nvil", "muprop") * 5
        ]
        configs = [keras.saving.serialize_keras_object(network)["config"] for network in networks]
    found = [rt.estimators.get(config["estimator"]).estimator_name for config in configs]
    assert found == ["nvil", "muprop"] * 5
    assert not any("shared_object_id" in config["estimator"] for config in configs)


def test_seed_follows_kerass_global_seed():
    def seed():
        keras.utils.set_random_seed(5)
        return rt.layers.StochasticBinary().seed

    assert seed() == seed()


def test_convolutional_logits():
    with HardSampler(0):
        assert rt.layers.StochasticBinary()(tf.zeros([2, 4, 4, 3]), training=True).shape == [2, 4, 4, 3]


def test_baseline_is_its_formula():
    layer = rt.layers.InputDependentBaseline(hidden_units=7)
    x = np.random.default_rng(0).normal(size=[5, 4]).astype(np.float32)
    output = layer(x)
    w1, b1, w2, b2 = layer.get_weights()
    assert w1.shape == (4, 7)
    np.testing.assert_allclose(output, (np.tanh(x @ w1 + b1) @ w2 + b2)[:, 0], rtol=1e-5)
    assert rt.layers.InputDependentBaseline.from_config(layer.get_config()).hidden_units == 7


def test_paper_initializer_is_a_normal_truncated_at_two_deviations():
    weights = np.asarray(rt.initializers.PaperInitializer(seed=0)((400, 500)))
    deviation = np.sqrt(2.6 / 400)
    assert np.abs(weights).max() <= 2 * deviation * (1 + 1e-6)
    truncated = scipy.stats.truncnorm(-2, 2, scale=deviation)
    assert scipy.stats.kstest(weights.ravel(), truncated.cdf).pvalue > 1e-6
    assert rt.initializers.PaperInitializer(seed=4).get_config() == {"seed": 4}


def test_each_output_has_the_mask_of_the_logits():
    inputs = keras.Input((3, 2))
    logits = keras.layers.Masking()(inputs)
    outputs = rt.layers.StochasticBinary("straight_through", return_logits=True, return_probs=True)(logits)
    x = np.array([[[0.0, 0.0], [1.0, 2.0], [0.0, 0.0]]])
    masks = [keras.src.backend.get_keras_mask(part) for part in keras.Model(inputs, outputs)(x)]
    assert [np.asarray(mask).tolist() for mask in masks] == [[[False, True, False]]] * 3


@pytest.mark.parametrize("name", rt.estimators.names(local=True))
@pytest.mark.parametrize("training", [True, False])
def test_certain_units_have_samples_by_every_local_estimator(name, training):
    infinite = np.array([[np.inf, -np.inf]], np.float32)
    binary = rt.layers.StochasticBinary(name, values=(0, 1), seed=0)(infinite, training=training)
    np.testing.assert_array_equal(binary, [[1.0, 0.0]])
    masked = np.array([[0.0, 1.0, -np.inf]] * 20, np.float32)
    never = rt.layers.StochasticCategorical(3, name, seed=0)(masked, training=training).numpy()
    np.testing.assert_allclose(never.sum(axis=-1), 1.0, rtol=1e-5)
    assert not never[:, 2].any()


def test_masked_units_are_zero():
    mask = np.arange(500) % 3 > 0
    outputs = []
    for given in (mask, None):
        with HardSampler(0):
            outputs.append(rt.layers.StochasticBinary(seed=0)(LOGITS, training=True, mask=given).numpy())
    np.testing.assert_array_equal(outputs[0], np.where(mask[:, np.newaxis], outputs[1], 0.0))
