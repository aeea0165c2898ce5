"""Layers with a local estimator are plain layers: in any Keras model, and beside layers of other estimators."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.marks import slow_but

import rebar_tf as rt
from rebar_tf.distributions import Bernoulli, Categorical

LOCAL = rt.estimators.names(local=True)
QUICK = ("concrete", "reinmax")  # one that relaxes, and one that does not
RNG = np.random.default_rng(0)
X = RNG.normal(size=(8, 3)).astype(np.float32)
Y = RNG.normal(size=(8, 2)).astype(np.float32)


def layer(estimator, **options):
    return rt.layers.StochasticBinary(estimator, values=(0, 1), seed=1, **options)


def sequential(estimator):
    return keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(4, name="in"), layer(estimator), keras.layers.Dense(2)]
    )


class Subclassed(keras.Model):
    def __init__(self, estimator):
        super().__init__()
        self.dense, self.units, self.out = keras.layers.Dense(4, name="in"), layer(estimator), keras.layers.Dense(2)

    def call(self, x, training=None):
        return self.out(self.units(self.dense(x), training=training))


def functional(estimator):
    x = keras.Input((3,))
    return keras.Model(x, keras.layers.Dense(2)(layer(estimator)(keras.layers.Dense(4, name="in")(x))))


def derivative(estimator, distribution, noise, weights):
    """`d (weights . sample) / d logits` by the formulas of the papers, with TensorFlow's own derivatives."""
    logits = tf.identity(distribution.logits)
    units = type(distribution)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        z = units(logits).reparameterize(noise)
        activation = tf.sigmoid if units is Bernoulli else tf.nn.softmax
        if estimator in TEMPERATURES:
            smooth = activation(z / TEMPERATURES[estimator])
        elif estimator in TEMPERATURES_OF_THE_MEAN:
            smooth = activation(logits / TEMPERATURES_OF_THE_MEAN[estimator])
        else:
            formula = {"reinmax": reinmax, "gumbel_rao": gumbel_rao}[estimator]
            smooth = formula(units(logits), noise, activation)
        total = tf.reduce_sum(weights * smooth)
    return tape.gradient(total, logits)


TEMPERATURES = {"gumbel_straight_through": 0.5, "concrete": 0.1}
TEMPERATURES_OF_THE_MEAN = {"straight_through": 1.0, "decoupled_straight_through": 2.0}


def reinmax(distribution, noise, activation):
    """Liu et al. 2023, algorithm 2, temperature 1."""
    logits, p = distribution.logits, activation(distribution.logits)
    middle = 0.5 * (distribution.sample(noise) + p)
    inverse = tf.math.log(middle) - (tf.math.log1p(-middle) if activation is tf.sigmoid else 0.0)
    shifted = activation(tf.stop_gradient(inverse - logits) + logits)
    return 2.0 * shifted - 0.5 * p


def gumbel_rao(distribution, noise, activation, temperature=0.1, draws=10):
    """Paulus et al. 2021, eq. 9, one rotation of the noise after the other."""
    b, turns = distribution.sample(noise), rt.estimators.GumbelRao().rotations(noise.shape[-1])
    relaxed = []
    for k in range(draws):
        v = (distribution.couple(noise, b) + turns[k]) % 1.0
        z = tf.stop_gradient(distribution.conditional(v, b) - distribution.logits) + distribution.logits
        relaxed.append(activation(z / temperature))
    return tf.add_n(relaxed) / draws


@pytest.mark.parametrize("units", [Bernoulli, Categorical])
@pytest.mark.parametrize("name", LOCAL)
def test_the_sample_has_the_derivative_of_its_formula(name, units):
    logits, weights = tf.constant(RNG.normal(size=(2, 4, 3, 2)).astype(np.float32))
    made = layer(name) if units is Bernoulli else rt.layers.StochasticCategorical(2, name, seed=1)
    made.build(logits.shape)
    for training in (True, False):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            sample = made(logits, training=training)
        found = tape.gradient(sample, logits, output_gradients=weights)
        noise = rt.sampling.uniform([4, 3, 2] if units is Bernoulli else [4, 3, 1, 2], int(made.draws.value), 1, 0)
        expected = derivative(name, units(tf.reshape(logits, noise.shape)), noise, tf.reshape(weights, noise.shape))
        np.testing.assert_allclose(found, tf.reshape(expected, logits.shape), rtol=1e-4, atol=1e-6)
        if not training or name != "concrete":
            hard = units(tf.reshape(logits, noise.shape)).sample(noise)
            np.testing.assert_allclose(sample, tf.reshape(hard, logits.shape), atol=1e-6)


@pytest.mark.parametrize("name", slow_but(QUICK, LOCAL))
@pytest.mark.parametrize("kind", [sequential, Subclassed, functional])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_plain_models_train_what_stands_before_the_layer(name, kind, jit_compile):
    model = kind(name)
    model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse", jit_compile=jit_compile)
    model.fit(X, Y, verbose=0)
    before = model.get_layer("in").kernel.numpy()
    model.fit(X, Y, verbose=0)
    assert np.abs(model.get_layer("in").kernel.numpy() - before).max() > 1e-5


@pytest.mark.parametrize("name", LOCAL)
def test_a_plain_model_is_saved_and_goes_on(name, tmp_path):
    model = sequential(name)
    model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse")
    model.fit(X, Y, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for made in (model, loaded):
        made.fit(X, Y, verbose=0)
    for w, other in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(w, other)


class Cell(keras.layers.Layer):
    """A recurrent cell whose state is a sample."""

    state_size = output_size = 2

    def __init__(self, estimator, **kwargs):
        super().__init__(**kwargs)
        self.dense, self.units = keras.layers.Dense(2), layer(estimator)

    def build(self, shape):
        self.dense.build((None, shape[-1] + 2))
        self.units.build((None, 2))

    def call(self, x, states, training=None):
        b = self.units(self.dense(keras.ops.concatenate([x, states[0]], axis=-1)), training=training)
        return b, [b]


@pytest.mark.parametrize("name", slow_but(QUICK, LOCAL))
@pytest.mark.parametrize("unroll", [False, True])
def test_a_recurrent_loop_draws_fresh_noise_at_each_step(name, unroll):
    inputs = keras.Input((8, 3))
    model = keras.Sequential([inputs, keras.layers.RNN(Cell(name), return_sequences=True, unroll=unroll)])
    model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse")
    x = np.zeros([4, 8, 3], np.float32)
    samples = model.predict(x, verbose=0)
    assert len(np.unique(samples[0], axis=0)) > 1  # the first state and input decide nothing: weights see zeros
    before = model.get_weights()[0]
    model.fit(x + 1.0, np.zeros([4, 8, 2], np.float32), verbose=0)
    assert np.abs(model.get_weights()[0] - before).max() > 1e-6


@pytest.mark.parametrize("name", slow_but(QUICK, LOCAL))
@pytest.mark.parametrize("estimator", slow_but(["rebar"], ["rebar", "relax", "rloo", "muprop", "disarm"]))
def test_beside_a_layer_of_another_estimator(name, estimator):
    """The gradient of the other layer is that of the expectation, over the noise of the local ones, too.

    The loss is linear in the local samples, so that enumeration of hard samples serves for them, and straight-through
    is exact. A relaxed sample behind the other layer has another mean; there is none with Concrete.
    """
    inputs = keras.Input((3,))
    b = layer(estimator)(keras.layers.Dense(2)(inputs))
    seen = [keras.layers.Dense(3, activation="tanh")(b), layer(name)(keras.layers.Dense(2)(inputs))]
    if name != "concrete":
        seen.append(layer(name)(keras.layers.Dense(2)(keras.layers.Concatenate()([b, inputs]))))
    outputs = keras.layers.Dense(1)(keras.layers.Concatenate()(seen))
    model = rt.StochasticModel(inputs, outputs)
    model.compile(optimizer=rt.optimizers.Adam(1e-3), loss=lambda y, y_pred: y * y_pred)
    rng = np.random.default_rng(1)
    for variable in model.model_variables:
        variable.assign(rng.normal(size=variable.shape))
    assert model.estimator.estimator_name == estimator
    x, y = X[:1], np.array([[2.0]], np.float32)
    report = rt.diagnostics.check_unbiased(model, x, y, num_estimates=8000, false_alarm=1e-5, jit_compile=False)
    encoder = [v.path for v in model.model_variables[:2]]
    for variable, z in zip(model.model_variables, report.z, strict=False):
        if name == "straight_through" or variable.path in encoder:
            assert np.abs(z).max() < report.threshold, f"{variable.path}\n{report}"
    assert report.threshold * report.standard_error[0].max() < 0.5 * np.abs(report.exact[0]).max()


def test_two_kinds_of_local_estimators_in_one_model():
    inputs = keras.Input((3,))
    b = [layer(name)(keras.layers.Dense(2)(inputs)) for name in LOCAL]
    model = rt.StochasticModel(inputs, keras.layers.Dense(2)(keras.layers.Concatenate()(b)))
    model.compile(optimizer=rt.optimizers.Adam(1e-3), loss="mse")
    _, gradients = model.estimate_gradients(X, Y)
    assert all(np.abs(g).max() > 0 for g in gradients)


def test_other_estimators_say_what_they_need():
    model = sequential("rebar")
    model.compile(optimizer="sgd", loss="mse")
    message = (
        r"by itself it has no gradient.*StochasticModel.*estimate_gradients.*"
        r"any model: concrete, decoupled_straight_through, gumbel_rao"
    )
    with pytest.raises(ValueError, match=message):
        model.fit(X, Y, verbose=0)
