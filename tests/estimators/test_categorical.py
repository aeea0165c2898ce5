"""Categorical units: the layer, the function, and binary units as their case of two classes."""

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf
from helpers.marks import slow_but

import rebar_tf as rt
from rebar_tf.distributions import Categorical
from rebar_tf.sampling import HardSampler

LOGITS = tf.constant(np.random.default_rng(0).normal(size=[400, 6]), tf.float32)  # two variables of three classes
BOTH = [name for name in rt.estimators.names() if "categorical" in rt.estimators.get(name).families]


def layer(num_classes=3, seed=0, **kwargs):
    return rt.layers.StochasticCategorical(num_classes, seed=seed, **kwargs)


def sampled(of, logits):
    with HardSampler(0) as trace:
        output = of(logits, training=True).numpy()
    return output, trace.sites[0]


def test_samples_are_one_hot_for_each_variable():
    output, site = sampled(layer(), LOGITS)
    assert output.shape == (400, 6)
    variables = output.reshape(400, 2, 3)
    assert set(np.unique(output)) == {0.0, 1.0}
    np.testing.assert_array_equal(variables.sum(axis=-1), 1.0)
    np.testing.assert_array_equal(variables, site.sample)
    p = scipy.special.softmax(LOGITS.numpy().reshape(400, 2, 3), axis=-1)
    z = (variables - p).sum(axis=0) / np.sqrt((p * (1 - p)).sum(axis=0))
    assert np.abs(z).max() < scipy.stats.norm.isf(1e-6 / 12)


@pytest.mark.parametrize("shape", [(400, 2, 3), (200, 2, 6), (100, 2, 2, 6)])
def test_any_leading_axes_hold_variables(shape):
    """The same logits in another shape are the same variables."""
    flat, _ = sampled(layer(), LOGITS)
    output, site = sampled(layer(), tf.reshape(LOGITS, shape))
    assert output.shape == shape
    assert site.logits.shape == [*shape[:-1], shape[-1] // 3, 3]
    np.testing.assert_array_equal(output.ravel(), flat.ravel())


def test_unknown_axes_are_known_at_the_call():
    inputs = keras.Input((None, 6))
    model = keras.Model(inputs, layer(inference="mode")(inputs))
    assert model.output_shape == (None, None, 6)
    output = model(tf.reshape(LOGITS, [80, 5, 6])).numpy()
    np.testing.assert_array_equal(output.reshape(400, 6), layer(inference="mode")(LOGITS))


def test_inference_modes():
    outputs = {mode: layer(inference=mode)(LOGITS).numpy().reshape(-1, 3) for mode in ("sample", "mode", "mean")}
    logits = LOGITS.numpy().reshape(-1, 3)
    np.testing.assert_allclose(outputs["mean"], scipy.special.softmax(logits, axis=-1), rtol=1e-5)
    np.testing.assert_array_equal(outputs["mode"], np.eye(3)[logits.argmax(axis=-1)])
    np.testing.assert_array_equal(outputs["sample"].sum(axis=-1), 1.0)
    assert not np.array_equal(outputs["sample"], outputs["mode"])


def test_inference_samples_are_fresh_at_each_call_and_repeat_with_the_seed():
    first, again = layer(seed=4), layer(seed=4)
    draws = [first(LOGITS).numpy() for _ in range(2)]
    assert not np.array_equal(*draws)
    np.testing.assert_array_equal([again(LOGITS).numpy() for _ in range(2)], draws)


@pytest.mark.parametrize("num_classes", [1, 0, -3, 2.0, "3", None])
def test_bad_numbers_of_classes_are_named(num_classes):
    with pytest.raises(ValueError, match=r"`num_classes` must be an integer of 2 or more. Received: num_classes="):
        rt.layers.StochasticCategorical(num_classes)


@pytest.mark.parametrize("shape", [(2, 7), (6,), (2, 3, 4)])
def test_logits_that_do_not_split_are_refused(shape):
    with pytest.raises(ValueError, match=r"units a multiple of num_classes=3. Received: logits.shape=\("):
        layer()(tf.zeros(shape))


def test_an_unknown_number_of_units_is_refused():
    with pytest.raises(ValueError, match=r"units a multiple of num_classes=3. Received: logits.shape=\(None, None\)"):
        layer()(keras.Input((None,)))


def test_numpy_integers_are_integers():
    assert layer(np.int64(3)).get_config()["num_classes"] == 3


def test_config_round_trip():
    one = layer(4, estimator=rt.estimators.Rebar(0.1, eta="unit"), inference="mode", name="units")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(one))
    assert again.get_config() == one.get_config()
    assert again.num_classes == 4
    assert again.make_estimator().scale.group == "unit"


def autoencoder(estimator, **options):
    inputs = keras.Input((8,))
    units = layer(4, estimator=estimator, **options)(keras.layers.Dense(3 * 4)(inputs))
    model = rt.StochasticModel(inputs, keras.layers.Dense(8)(units))
    model.compile(
        optimizer=rt.optimizers.Adam(1e-2), loss=keras.losses.BinaryCrossentropy(from_logits=True), jit_compile=False
    )
    return model


def images():
    """Eight patterns of eight pixels."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 2, (8, 8)).astype(np.float32)[rng.integers(0, 8, 512)]


@pytest.mark.parametrize("estimator", slow_but(["rebar", "vimco"], ["rebar", "muprop", "vimco", "concrete"]))
def test_fit_learns(estimator):
    model, x = autoencoder(estimator), images()
    history = model.fit(x, x, batch_size=32, epochs=8, verbose=0).history["loss"]
    assert np.isfinite(history).all()
    assert history[-1] < 0.85 * history[0]


def test_a_model_is_saved_and_loaded(tmp_path):
    model, x = autoencoder("relax", inference="mode"), images()
    model.fit(x, x, batch_size=64, epochs=1, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(x), model(x))
    for g, other in zip(*(m.estimate_gradients(x, x)[1] for m in (model, loaded)), strict=True):
        np.testing.assert_array_equal(g, other)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy):
    keras.mixed_precision.set_global_policy(policy)
    try:
        units = layer(dtype=policy)
        with HardSampler(0) as trace:
            output = units(tf.cast(LOGITS, units.compute_dtype), training=True)
        assert output.dtype == units.compute_dtype
        assert trace.sites[0].noise.dtype == trace.sites[0].logits.dtype == tf.float32
        model, x = autoencoder("rebar"), images()
        assert np.isfinite(model.fit(x, x, batch_size=64, epochs=1, verbose=0).history["loss"]).all()
        assert {v.dtype for v in model.control_variables} == {"float32"}
    finally:
        keras.mixed_precision.set_global_policy("float32")


@pytest.mark.parametrize(
    ("shape", "message"), [((6,), r"\[batch, classes\].*\(6,\)"), ((2, 1), r"at least 2 classes.*\(2, 1\)")]
)
def test_expectation_refuses_logits_without_classes(shape, message):
    with pytest.raises(ValueError, match=message):
        rt.expectation(lambda b: tf.reduce_sum(b, 1), tf.zeros(shape), "rebar", family="categorical")


# Binary units as two classes: the logits [0, l] for l.

ROWS = 50_000
BINARY = np.array([0.6, -1.1])


def binary_estimates(name, two_classes):
    """f's values, the samples, and the estimates for the binary logits, `[ROWS, units]`."""
    logits = tf.tile(tf.constant(BINARY, tf.float32)[tf.newaxis], [ROWS, 1])
    seen = []

    def fn(b):
        binary = b[..., 1] if two_classes else b
        seen.append(binary)
        return tf.square(tf.reduce_sum(binary * [0.7, -1.2], axis=1) - 0.45) + binary[:, 0]

    at = tf.stack([tf.zeros_like(logits), logits], axis=-1) if two_classes else logits
    with tf.GradientTape() as tape:
        tape.watch(at)
        value = rt.expectation(fn, at, name, family="categorical" if two_classes else "bernoulli", seed=1)
    gradient = tape.gradient(value, at).numpy()
    if two_classes:  # the softmax does not see a shift of both logits
        np.testing.assert_allclose(gradient.sum(axis=-1), 0.0, atol=1e-4)
        gradient = gradient[..., 1]
    return value.numpy(), seen[0].numpy(), gradient


def test_two_classes_have_the_binary_probabilities():
    logits = tf.constant([[0.6, -1.1]])
    pair = tf.stack([tf.zeros_like(logits), logits], axis=-1)
    np.testing.assert_allclose(Categorical(pair).mean()[..., 1], rt.distributions.Bernoulli(logits).mean(), rtol=1e-6)
    b = tf.constant([[1.0, 0.0]])
    one_hot = tf.stack([1.0 - b, b], axis=-1)
    binary = rt.distributions.Bernoulli(logits).log_prob(b)
    np.testing.assert_allclose(Categorical(pair).log_prob(one_hot), binary, rtol=1e-6)


def test_two_classes_have_the_binary_exact_gradient():
    (_, _, two), (_, _, binary) = (binary_estimates("exact", two_classes) for two_classes in (True, False))
    np.testing.assert_allclose(two, binary, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["reinforce", "nvil", "simple_muprop", "muprop", "straight_through"])
def test_estimators_that_see_the_sample_only_are_the_same_function_of_it(name):
    tables = []
    for two_classes in (True, False):
        value, b, gradient = binary_estimates(name, two_classes)
        states, first = np.unique(b, axis=0, return_index=True)
        assert len(states) == 4
        tables.append(np.concatenate([states, value[first, np.newaxis], gradient[first]], axis=1))
    np.testing.assert_allclose(*tables, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in BOTH if not rt.estimators.get(name).enumerates])
def test_two_classes_have_the_binary_expectation(name):
    """The biased ones, too: a difference of two Gumbels is logistic."""
    two, binary = (binary_estimates(name, two_classes)[2].astype(np.float64) for two_classes in (True, False))
    error = np.sqrt((two.var(axis=0) + binary.var(axis=0)) / ROWS)
    bound = scipy.stats.norm.isf(1e-5 / 4)
    assert (bound + 2.33) * error.max() < 0.3 * np.abs(binary.mean(axis=0)).max(), "too little power"
    assert np.all(np.abs(two.mean(axis=0) - binary.mean(axis=0)) < bound * error)


@pytest.mark.parametrize("estimator", [rt.estimators.Concrete, rt.estimators.GumbelStraightThrough])
def test_two_relaxed_classes_have_the_binary_law(estimator):
    two, binary = (binary_estimates(estimator(temperature=1.0), two_classes)[2] for two_classes in (True, False))
    for unit in range(2):
        assert scipy.stats.ks_2samp(two[:5000, unit], binary[-5000:, unit]).pvalue > 1e-6
