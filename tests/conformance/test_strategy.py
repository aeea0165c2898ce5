"""Under a distribution strategy: other noise on each replica, the gradient of the whole batch, equal weights."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf

import rebar_tf as rt
from rebar_tf.sampling import HardSampler

RNG = np.random.default_rng(0)
X = RNG.normal(size=(17, 3)).astype(np.float32)  # the last batch of 8 is a single example, which leaves a replica none
Y = RNG.normal(size=(17, 2)).astype(np.float32)


@pytest.fixture
def strategy(two_devices):
    return two_devices


class Threshold(keras.layers.Layer):
    """What a stochastic layer with certain units outputs."""

    def call(self, logits):
        return tf.cast(logits > 0.0, tf.float32)


class MeanActivity(keras.layers.Layer):
    """Adds a loss that mixes the examples of a replica."""

    def call(self, x):
        self.add_loss(0.5 * tf.square(tf.reduce_mean(x) - 0.3))
        return x


def network(model, units, wrap=lambda b: b, **options):
    """The units are certain, as the logits are 60 or -60."""
    inputs = keras.Input((3,))
    logits = keras.layers.Rescaling(1e4)(inputs)
    out = keras.layers.Dense(2, kernel_initializer=keras.initializers.GlorotUniform(1), **options)
    return model(inputs, out(wrap(units(logits))))


def stochastic(*args, **options):
    units = rt.layers.StochasticBinary("rloo", values=(0, 1), seed=1)
    return network(rt.StochasticModel, units, *args, **options)


def plain(*args, **options):
    return network(keras.Model, Threshold(), *args, **options)


def trained(make, strategy, loss="mse", **options):
    """The history of two epochs, the evaluation after them, and the weights of the last layer."""
    with strategy.scope():
        model = make(**options)
        model.compile(keras.optimizers.SGD(0.05), loss=loss)
    history = model.fit(X, Y, batch_size=8, epochs=2, shuffle=False, verbose=0).history
    evaluation = model.evaluate(X, Y, batch_size=8, verbose=0)
    return history["loss"], evaluation, *model.layers[-1].get_weights()


CASES = {
    "mean": {
        "wrap": MeanActivity(),
        "kernel_regularizer": keras.regularizers.L2(0.3),
        "activity_regularizer": "l2",
    },
    "sum": {"loss": keras.losses.MeanSquaredError(reduction="sum")},
    "mixed": {"wrap": lambda b: keras.layers.BatchNormalization()(b)},
}


@pytest.mark.parametrize("case", CASES)
def test_fit_and_evaluate_are_those_of_keras(strategy, case):
    for ours, theirs in zip(*(trained(make, strategy, **CASES[case]) for make in (stochastic, plain)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


class OwnObjective(rt.StochasticModel):
    def objective(self, x, y=None):
        y_pred = self(x, training=True)
        return tf.reduce_sum(tf.square(y - y_pred), axis=1), y_pred


def own_objective(**options):
    units = rt.layers.StochasticBinary("rloo", values=(0, 1), seed=1)
    return network(OwnObjective, units, **options)


@pytest.mark.parametrize("make", [stochastic, own_objective])
def test_the_gradient_is_that_of_the_whole_batch(strategy, make):
    options = {"kernel_regularizer": keras.regularizers.L2(0.3)}
    with strategy.scope():
        model = make(**options)
        model.compile(keras.optimizers.SGD(0.05), loss="mse")
    single = make(**options)
    single.compile(keras.optimizers.SGD(0.05), loss="mse")
    for made in (model, single):
        made.fit(X[:8], Y[:8], batch_size=8, verbose=0)
    for weight, other in zip(model.layers[-1].get_weights(), single.layers[-1].get_weights(), strict=True):
        np.testing.assert_allclose(weight, other, rtol=1e-5, atol=1e-6)


def test_replicas_draw_different_noise(strategy):
    with strategy.scope():
        layer = rt.layers.StochasticBinary("rebar", seed=1)
        layer.build((None, 64))

    def sample():
        with HardSampler(3):
            return layer(tf.zeros([1, 64]))

    first, second = strategy.experimental_local_results(strategy.run(sample))
    assert 16 < np.sum(first.numpy() != second.numpy()) < 48


class Subclassed(rt.training.StochasticTraining, keras.Model):
    def __init__(self):
        super().__init__()
        self.dense, self.out = keras.layers.Dense(3), keras.layers.Dense(2)
        self.units = rt.layers.StochasticBinary("rebar", seed=1)

    def call(self, x, training=None):
        return self.out(self.units(self.dense(x), training=training))


def uncertain(estimator):
    inputs = keras.Input((3,))
    b = rt.layers.StochasticBinary(estimator, seed=1)(keras.layers.Dense(3)(inputs))
    return rt.StochasticModel(inputs, keras.layers.Dense(2)(b))


@pytest.mark.parametrize("make", [Subclassed, lambda: uncertain("vimco")], ids=["rebar", "vimco"])
def test_all_variables_stay_equal_over_replicas(strategy, make):
    with strategy.scope():
        model = make()
        model.compile(rt.optimizers.Adam(0.01, weight_decay=0.1, global_clipnorm=1.0), loss="mse")
    history = model.fit(X, Y, batch_size=8, epochs=2, verbose=0).history
    assert all(np.isfinite(values).all() for values in history.values())
    assert int(model.estimator.step.numpy()) == 6
    for variable in [*model.trainable_variables, *model.non_trainable_variables, *model.optimizer.variables]:
        first, second = (value.numpy() for value in strategy.experimental_local_results(variable.value))
        np.testing.assert_array_equal(first, second, err_msg=variable.path)


def test_the_gradient_variance_is_that_of_the_gradient_that_is_applied(strategy, tmp_path):
    """Not of a replica's own, which has the noise of fewer examples; on a loaded model likewise."""
    metrics = []
    with strategy.scope():
        models = [stochastic(), stochastic()]
        models[0].compile(keras.optimizers.SGD(0.05), loss="mse")
    models[1] = stochastic()
    models[1].compile(keras.optimizers.SGD(0.05), loss="mse")
    for model in models:
        history = model.fit(X[:16], Y[:16], batch_size=8, epochs=2, shuffle=False, verbose=0).history
        metrics.append((history["log_grad_variance"], *model.gradient_variance.by_variable()))
    models[0].save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    metrics.append((metrics[0][0], *loaded.gradient_variance.by_variable()))
    for value, alone, saved in zip(*metrics, strict=True):
        np.testing.assert_allclose(value, alone, rtol=1e-4, atol=1e-8)
        np.testing.assert_allclose(saved, value, rtol=1e-6)


def test_several_steps_are_one_program_and_train_the_same(strategy):
    """Whether XLA is asked for or not: it is not used here."""
    found = []
    for steps, jit_compile in ((1, False), (2, True)):
        with strategy.scope():
            model = stochastic()
            model.compile(keras.optimizers.SGD(0.05), loss="mse", steps_per_execution=steps, jit_compile=jit_compile)
        # Three batches an epoch, so that the second program ends before its last step; the third is of one example.
        history = model.fit(X, Y, batch_size=8, epochs=2, shuffle=False, verbose=0).history
        evaluation = model.evaluate(X, Y, batch_size=8, verbose=0, return_dict=True)
        found.append([*history["loss"], evaluation["loss"], *np.concatenate([w.ravel() for w in model.get_weights()])])
        assert "log_grad_variance" not in evaluation
        assert int(model.optimizer.iterations.numpy()) == 6
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6)


@pytest.mark.parametrize("overflowing", [0, 1])
def test_a_step_that_overflows_on_one_replica_is_skipped_on_all(strategy, overflowing):
    with strategy.scope():
        model = stochastic()
        scaled = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.05), initial_scale=2.0**10)
        model.compile(scaled, loss="mse")
    x, y = X[:8].copy(), Y[:8].copy()
    before = model.layers[-1].get_weights()
    y[4 * overflowing] = 3e38  # of the first example of that replica's half
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    for weight, other in zip(model.layers[-1].get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, other)
    history = model.fit(X[:8], Y[:8], batch_size=8, epochs=3, verbose=0).history
    assert history["skipped_steps"] == [1.0, 1.0, 1.0]
    assert np.isfinite(history["loss"]).all()
    assert float(scaled.dynamic_scale.numpy()) == 2.0**9
    assert rt.callbacks.global_step(model) == 4
    for variable in [*model.trainable_variables, *scaled.variables, *model.gradient_variance.variables]:
        first, second = (value.numpy() for value in strategy.experimental_local_results(variable.value))
        np.testing.assert_array_equal(first, second, err_msg=variable.path)


def test_the_logs_of_an_estimator_with_a_temperature_are_exact(strategy):
    """Keras does not replace the logs of the last batch by its own where there are more than its metrics."""
    losses = []
    for scope in (strategy.scope(), contextlib.nullcontext()):
        with scope:
            inputs = keras.Input((3,))
            logits = keras.layers.Rescaling(60.0)(keras.layers.Dense(3, kernel_initializer="identity")(inputs))
            b = rt.layers.StochasticBinary("rebar", values=(0, 1), seed=1)(100.0 * logits)
            model = rt.StochasticModel(inputs, keras.layers.Dense(2, kernel_initializer="ones")(b))
            model.compile(keras.optimizers.SGD(0.0), loss="mse")
        losses.append(model.fit(X[:9], Y[:9], batch_size=8, shuffle=False, verbose=0).history["loss"])
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_inputs_may_be_boolean(strategy):
    """Keras takes the mean of the replicas' first batches, which is none for booleans."""
    with strategy.scope():
        model = stochastic()
        model.compile(keras.optimizers.SGD(0.05), loss="mse")
    history = model.fit(X[:8] > 0, Y[:8], batch_size=8, verbose=0).history
    assert np.isfinite(history["loss"]).all()
