"""What the stochastic layers offer beside samples: masks, floors on probabilities, logits without a batch axis."""

import itertools

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf
from helpers.marks import slow_but
from helpers.oracle import assert_unbiased

import rebar_tf as rt
from rebar_tf.training.objective import BatchObjective

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 3)).astype(np.float32)
Y = RNG.normal(size=(3, 2)).astype(np.float32)


def randomized(model, **compiled):
    model.compile(optimizer=rt.optimizers.Adam(1e-3), **{"loss": "mse", **compiled})
    rng = np.random.default_rng(1)
    for variable in model.model_variables:
        variable.assign(rng.normal(size=variable.shape))
    return model


@keras.saving.register_keras_serializable("tests")
class Gate(keras.layers.Layer):
    """Multiplies its inputs by binary gates, one for each feature, drawn once for the whole batch."""

    def __init__(self, estimator, **kwargs):
        super().__init__(**kwargs)
        self.units = rt.layers.StochasticBinary(estimator, values=(0, 1), seed=1, shared=True)

    def build(self, shape):
        self.gate_logits = self.add_weight(shape=(shape[-1],), initializer="zeros", name="gate_logits")
        self.units.build((shape[-1],))

    def call(self, x, training=None):
        return x * self.units(self.gate_logits, training=training)


def gated(estimator):
    inputs = keras.Input((3,))
    return rt.StochasticModel(inputs, keras.layers.Dense(2)(Gate(estimator)(inputs)))


def exact_gates(model, x, y):
    """`E[mse]` and its gradient by the gates' logits, in NumPy."""
    logits, kernel, bias = (np.float64(w) for w in (model.layers[1].gate_logits, *model.layers[2].get_weights()))
    p = 1 / (1 + np.exp(-logits))
    value, gradient = 0.0, np.zeros(3)
    for b in itertools.product((0.0, 1.0), repeat=3):
        b = np.array(b)
        weight = np.prod(np.where(b == 1, p, 1 - p))
        f = np.mean(((x * b) @ kernel + bias - y) ** 2)
        value += weight * f
        gradient += weight * f * (b - p)
    return value, gradient


SERVING_SHARED = [
    name
    for name in rt.estimators.names("bernoulli")
    if rt.estimators.get(name).unbiased and rt.estimators.get(name).serves_coupled
]


@pytest.mark.parametrize("estimator", slow_but(("rebar", "rloo", "arm"), SERVING_SHARED))
def test_gates_that_the_whole_batch_shares(estimator):
    model = randomized(gated(estimator))
    value, expected = exact_gates(model, X, Y)
    report = rt.diagnostics.check_unbiased(model, X, Y, num_estimates=10_000, jit_compile=False)
    place = [variable.name for variable in model.model_variables].index("gate_logits")
    np.testing.assert_allclose(report.exact[place], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(report.exact[-1], value, rtol=1e-5)
    assert report.unbiased, report
    assert 5.0 * report.standard_error[place].max() < 0.5 * np.abs(expected).max()


@pytest.mark.parametrize(("gates", "is_coupled"), [("straight_through", False), ("reinforce", True)])
def test_shared_gates_take_the_whole_batch_for_a_signal_unless_they_have_a_derivative(gates, is_coupled):
    inputs = keras.Input((3,))
    units = rt.layers.StochasticBinary("reinforce", seed=2)(keras.layers.Dense(2)(Gate(gates)(inputs)))
    model = randomized(rt.StochasticModel(inputs, keras.layers.Dense(2)(units)))
    objective = BatchObjective(model, X, Y)
    with rt.sampling.HardSampler(0):
        f = objective()
    assert objective.is_coupled == is_coupled
    assert (np.ptp(f) == 0.0) == is_coupled


def test_shared_gates_are_saved_and_drawn_once_for_the_batch(tmp_path):
    model = randomized(gated("rebar"))
    model.fit(X, Y, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    same = [made.predict(np.ones([50, 3]), batch_size=50, verbose=0) for made in (model, loaded)]
    np.testing.assert_array_equal(*same)
    assert len(np.unique(same[0], axis=0)) == 1


@pytest.mark.parametrize("in_graph", [False, True])
@pytest.mark.parametrize("estimator", ["vimco", "exact", "local_expectation", "rao_blackwell", "unordered_set"])
def test_shared_gates_are_refused_by_estimators_that_take_examples_one_by_one(estimator, in_graph):
    model = randomized(gated(estimator))
    run = tf.function(model.estimate_gradients, autograph=False) if in_graph else model.estimate_gradients
    with pytest.raises(ValueError, match=f"'{estimator}' takes the examples of a batch one by one"):
        run(X, Y)


@pytest.mark.parametrize("estimator", ["disarm", "arms", "carms", "rloo"])
def test_categorical_gates_that_the_whole_batch_shares(estimator):
    """As many of two classes as of binary ones: the same gradient, by the classes' logits."""

    class Gates(keras.layers.Layer):
        def build(self, shape):
            self.gate_logits = self.add_weight(shape=(3, 2), initializer="zeros", name="gate_logits")
            self.units = rt.layers.StochasticCategorical(2, estimator, seed=1, shared=True)

        def call(self, x, training=None):
            return x * self.units(tf.convert_to_tensor(self.gate_logits), training=training)[tf.newaxis, :, 1]

    inputs = keras.Input((3,))
    model = randomized(rt.StochasticModel(inputs, keras.layers.Dense(2)(Gates()(inputs))))
    report = rt.diagnostics.check_unbiased(model, X, Y, num_estimates=4000, jit_compile=False)
    place = [variable.name for variable in model.model_variables].index("gate_logits")
    assert report.unbiased, report
    assert 5.0 * report.standard_error[place].max() < 0.5 * np.abs(report.exact[place]).max()


@pytest.mark.parametrize("estimator", ["local_expectation", "disarm", "unordered_set"])
def test_a_last_batch_that_is_smaller_trains_under_xla(estimator):
    model = randomized(gated_rows(estimator))
    model.compile("sgd", loss="mse", jit_compile=True)
    history = model.fit(np.ones((7, 3), np.float32), np.ones((7, 2), np.float32), batch_size=5, verbose=0).history
    assert np.isfinite(history["loss"]).all()


def gated_rows(estimator):
    """A unit of its own for each example and input."""
    inputs = keras.Input((3,))
    b = rt.layers.StochasticBinary(estimator, seed=1)(keras.layers.Dense(3)(inputs))
    return rt.StochasticModel(inputs, keras.layers.Dense(2)(b))


@pytest.mark.filterwarnings("ignore:Layer 'flatten'.*does not support masking")
@pytest.mark.parametrize("estimator", ["rebar", "rloo", "relax"])
def test_masked_units_are_zero_and_have_no_gradient(estimator):
    """A later layer may lose the mask: the masked steps' samples still move nothing."""
    inputs = keras.Input((2, 3))
    logits = keras.layers.Dense(2)(keras.layers.Masking()(inputs))
    samples = rt.layers.StochasticBinary(estimator, values=(-1, 1), seed=1)(logits)
    model = randomized(rt.StochasticModel(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(samples))))
    x = RNG.normal(size=(2, 2, 3)).astype(np.float32)
    x[1, 1] = 0.0
    layers = keras.Model(inputs, samples)
    np.testing.assert_array_equal(layers.predict(x, verbose=0)[1, 1], 0.0)
    assert_unbiased(model, x, Y[:2])
    x[:, 1] = 0.0
    watched = tf.Variable(x)
    with tf.GradientTape() as tape:
        mask = tf.reduce_any(tf.not_equal(watched, 0.0), axis=-1)
        sample = rt.layers.StochasticBinary("straight_through", seed=1)(watched, mask=mask, training=True)
    np.testing.assert_array_equal(tape.gradient(sample, watched)[:, 1], 0.0)


@pytest.mark.parametrize("estimator", ["rebar", "rloo"])
def test_unimix_is_a_floor_on_probabilities(estimator):
    inputs = keras.Input((3,))
    layer = rt.layers.StochasticCategorical(3, estimator, seed=1, unimix=0.3, return_probs=True)
    sample, probs = layer(keras.layers.Dense(6)(inputs))
    model = rt.StochasticModel(inputs, [keras.layers.Dense(2)(sample), probs])
    randomized(model, loss=["mse", None])
    assert_unbiased(model, X[:2], [Y[:2], Y[:2]], count=6000, power=0.4)
    logits = 30.0 * RNG.normal(size=(5, 6)).astype(np.float32)
    found = layer(logits)[1].numpy().reshape(5, 2, 3)
    expected = 0.7 * tf.nn.softmax(logits.reshape(5, 2, 3)).numpy() + 0.1
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_unimix_of_binary_units():
    layer = rt.layers.StochasticBinary(seed=1, unimix=0.2, return_logits=True, return_probs=True)
    logits = np.array([[-1000.0, -1.0, 0.0, 2.0, 1000.0]], np.float32)
    _, mixed, probs = layer(logits)
    expected = 0.8 * scipy.special.expit(np.float64(logits)) + 0.1
    np.testing.assert_allclose(probs, expected, rtol=1e-5)
    np.testing.assert_allclose(mixed, np.log(expected / (1 - expected)), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["binary", "categorical"])
@pytest.mark.parametrize("estimator", slow_but(["rebar"], ["rebar", "disarm", "rloo"]))
def test_a_kl_term_by_hand(kind, estimator):
    """The probabilities are differentiable, beside the sample, in every pass."""
    if kind == "categorical" and estimator == "disarm":
        pytest.skip("disarm serves binary units only")

    class Divergence(keras.layers.Layer):
        def call(self, probs):
            self.add_loss(tf.reduce_mean(tf.reduce_sum(probs * tf.math.log(probs + 1e-7), axis=-1)))
            return probs

    inputs = keras.Input((3,))
    options = dict(seed=1, return_probs=True)
    if kind == "binary":
        layer = rt.layers.StochasticBinary(estimator, values=(0, 1), **options)
    else:
        layer = rt.layers.StochasticCategorical(2, estimator, **options)
    sample, probs = layer(keras.layers.Dense(2)(inputs))
    joined = keras.layers.Concatenate()([keras.layers.Dense(2)(sample), Divergence()(probs)])
    model = randomized(rt.StochasticModel(inputs, joined), loss=lambda y, y_pred: tf.square(y - y_pred[:, :2]))
    assert_unbiased(model, X, Y, count=8000, power=0.5)
    objective = BatchObjective(model, X, Y)
    with rt.sampling.HardSampler(0):
        objective()
    assert not objective.is_coupled  # no sample reaches the term: it stays out of the learning signal


def test_options_survive_a_round_trip():
    options = dict(unimix=0.1, shared=True, return_logits=True, return_probs=True)
    for layer in (rt.layers.StochasticBinary(**options), rt.layers.StochasticCategorical(2, **options)):
        again = type(layer).from_config(layer.get_config())
        assert {name: again.get_config()[name] for name in options} == options


def test_temperature_and_etas_by_name():
    inputs = keras.Input((3,))
    b = rt.layers.StochasticBinary("rebar", seed=1, name="units")(keras.layers.Dense(2, name="encoder")(inputs))
    model = rt.StochasticModel(inputs, keras.layers.Dense(2)(b))
    assert float(model.temperature) == pytest.approx(0.5)
    assert list(model.temperatures) == ["units"]
    assert list(model.etas) == [variable.path for variable in model.model_variables]
    assert float(model.etas["encoder/kernel"]) == pytest.approx(1.0)
    local = rt.layers.StochasticBinary("concrete", seed=1, name="local")(keras.layers.Dense(2)(b))
    both = rt.StochasticModel(inputs, keras.layers.Dense(2)(local))
    assert {name: round(float(t), 6) for name, t in both.temperatures.items()} == {"units": 0.5, "local": 0.1}
    with pytest.raises(ValueError, match="has not one temperature, but those of `temperatures`"):
        _ = both.temperature


@pytest.mark.parametrize("kind", [keras.Model, rt.StochasticModel])
def test_a_schedule_moves_the_temperature(kind):
    inputs = keras.Input((3,))
    b = rt.layers.StochasticBinary("concrete", seed=1)(keras.layers.Dense(2)(inputs))
    model = kind(inputs, keras.layers.Dense(2)(b))
    model.compile(optimizer="sgd", loss="mse")
    seen = []
    schedule = keras.optimizers.schedules.ExponentialDecay(1.0, 2, 0.5)
    watch = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda batch, logs: seen.append(float(model.layers[2].local.temperature.of_layer(0)))
    )
    callback = rt.callbacks.TemperatureScheduler(schedule)
    history = model.fit(X, Y, batch_size=1, epochs=2, verbose=0, callbacks=[callback, watch]).history
    np.testing.assert_allclose(seen, 0.5 ** (np.arange(6) / 2), rtol=1e-5)
    np.testing.assert_allclose(history["temperature"], [0.5**1.5, 0.5**3], rtol=1e-5)


def test_a_schedule_needs_a_temperature_that_is_not_learned():
    inputs = keras.Input((3,))
    model = randomized(rt.StochasticModel(inputs, rt.layers.StochasticBinary("rebar")(keras.layers.Dense(2)(inputs))))
    with pytest.raises(ValueError, match=r"has no temperature to set.*learn_temperature=False"):
        model.fit(X, Y, verbose=0, callbacks=[rt.callbacks.TemperatureScheduler(lambda step: 1.0)])


class OwnObjective(rt.training.StochasticTraining, keras.Model):
    """An objective of its own, gates that the batch shares, and an added loss."""

    def __init__(self):
        super().__init__()
        self.gate = Gate("rloo")

    def call(self, x, training=None):
        gated = self.gate(x, training=training)
        self.add_loss(3.0 * tf.reduce_mean(gated))
        return gated

    def objective(self, x, y=None):
        gated = self(x, training=True)
        return tf.reduce_sum(tf.square(gated), axis=1), gated


def test_the_loss_of_an_own_objective_that_is_the_batch_s_is_its_mean():
    model = OwnObjective()
    model.compile(optimizer="sgd")
    loss, _ = model.estimate_gradients(X)
    model.gate.gate_logits.assign([60.0, -60.0, 60.0])  # certain
    kept = X * [1.0, 0.0, 1.0]
    expected = np.mean(np.sum(kept**2, axis=1)) + 3.0 * np.mean(kept)
    loss, _ = model.estimate_gradients(X)
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert model.evaluate(X, batch_size=3, verbose=0) == pytest.approx(expected, rel=1e-5)
