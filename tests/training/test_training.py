"""Stochastic models as Keras models: fit, metrics, saving, precision, and what they refuse."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.marks import slow_but

import rebar_tf as rt

# Four patterns of six pixels, which hold 1.4 nats where six fair coins hold 4.2; the targets say which pattern it is.
PATTERN = np.arange(640) % 4
X = np.array([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1], [1, 0, 1, 0, 1, 0], [0, 1, 0, 1, 0, 1]], np.float32)[PATTERN]
Y = np.stack([PATTERN % 2, PATTERN // 2], axis=1).astype(np.float32)


def functional(estimator="rebar", seed=0, **compile_arguments):
    keras.utils.set_random_seed(seed)
    x = keras.Input((6,))
    b = rt.layers.StochasticBinary(estimator, name="units")(keras.layers.Dense(5)(x))
    model = rt.StochasticModel(x, keras.layers.Dense(2)(b))
    arguments = dict(optimizer=rt.optimizers.Adam(1e-2), loss=keras.losses.BinaryCrossentropy(from_logits=True))
    model.compile(**{**arguments, **compile_arguments})
    return model


def belief_network(estimator="rebar", jit_compile=False, **arguments):
    arguments = {"num_layers": 2, "hidden_units": 4, "visible_units": 6, "seed": 0, **arguments}
    model = rt.models.SigmoidBeliefNetwork(estimator=estimator, **arguments)
    model.compile(optimizer=rt.optimizers.Adam(1e-2), jit_compile=jit_compile)
    return model


QUICK = ("rebar", "disarm", "straight_through")
SAMPLED = [name for name in rt.estimators.names() if not rt.estimators.get(name).enumerates]  # which is for a few units


@pytest.mark.parametrize("estimator", slow_but(QUICK, SAMPLED))
def test_fit_learns_in_a_functional_model(estimator):
    model = functional(estimator, metrics=[keras.metrics.BinaryAccuracy(threshold=0.0)])
    history = model.fit(X, Y, batch_size=16, epochs=6, verbose=0).history
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    assert history["binary_accuracy"][-1] > history["binary_accuracy"][0]
    assert np.isfinite(history["log_grad_variance"]).all()
    evaluation = model.evaluate(X, Y, return_dict=True, verbose=0)
    assert set(evaluation) == {"loss", "binary_accuracy"}
    assert model.predict(X, verbose=0).shape == (640, 2)


def test_samples_of_a_chosen_step_are_those_of_a_call_and_predict_says_so():
    model = functional("rebar")
    model.predict(X[:8], verbose=0)  # compiled, it would run without a look at the sampler

    def at(step, call):
        with rt.sampling.HardSampler(step, training=False):
            return np.asarray(call())

    for call in (lambda: model.predict(X[:8], verbose=0), lambda: model.predict_on_batch(X[:8])):
        with pytest.raises(ValueError, match="`predict` is a compiled function, and takes no notice of the sampler"):
            at(3, call)
    chosen = at(3, lambda: model(X[:8]))
    np.testing.assert_array_equal(at(3, lambda: model(X[:8])), chosen)
    assert (at(4, lambda: model(X[:8])) != chosen).any()
    model.run_eagerly = True
    np.testing.assert_allclose(at(3, lambda: model.predict(X[:8], verbose=0)), chosen, rtol=1e-6)
    np.testing.assert_allclose(at(3, lambda: model.predict_on_batch(X[:8])), chosen, rtol=1e-6)


@pytest.mark.parametrize("estimator", slow_but(QUICK, SAMPLED))
def test_fit_raises_the_bound_of_a_belief_network(estimator):
    raises_the_bound(belief_network(estimator))


@pytest.mark.slow
def test_fit_raises_the_bound_of_a_nonlinear_network():
    raises_the_bound(belief_network(num_layers=1, nonlinear=True))


def raises_the_bound(model):
    before = model.bound(X, num_samples=20).mean()
    model.fit(X, batch_size=16, epochs=4, verbose=0)
    assert model.bound(X, num_samples=20).mean() > before + 0.5


@pytest.mark.slow
def test_temperature_and_scales_move_from_where_they_start():
    model = belief_network()
    history = model.fit(X, batch_size=16, epochs=3, verbose=0).history
    assert history["temperature"][0] != pytest.approx(0.5, abs=1e-3)
    etas = np.array([float(eta) for eta in model.etas.values()])
    upstream = np.array([v.path.startswith("encoder") for v in model.model_variables])
    assert np.all(etas[upstream] != 1.0)
    assert np.all(etas[~upstream] == 1.0)


def variance_objective(model):
    """Mean of the squared estimate at the noise of step 1, for sums in float64."""
    model.estimator.step.assign(0)
    _, gradients = model.estimate_gradients(X[:16])
    of_model = {id(variable) for variable in model.model_variables}
    pairs = zip(model.trainable_variables, gradients, strict=True)
    entries = np.concatenate([np.ravel(g) for variable, g in pairs if id(variable) in of_model])
    return np.mean(entries.astype(np.float64) ** 2)


@pytest.mark.parametrize(
    "estimator",
    [
        pytest.param(rt.estimators.Rebar(), marks=pytest.mark.slow),
        pytest.param(rt.estimators.Rebar(temperature_per_layer=True), marks=pytest.mark.slow),
        pytest.param(rt.estimators.Rebar(group_size=None, eta="shared"), marks=pytest.mark.slow),
        pytest.param(rt.estimators.Relax(), marks=pytest.mark.slow),
    ],
)
def test_control_gradients_are_those_of_the_variance_objective(estimator):
    """Against central differences with common noise, along one random direction of each control variable."""
    model = belief_network(estimator)
    model.fit(X, batch_size=16, epochs=1, verbose=0)  # away from the symmetric start
    model.estimator.step.assign(0)
    _, gradients = model.estimate_gradients(X[:16])
    by_id = {id(v): g for v, g in zip(model.trainable_variables, gradients, strict=True)}
    rng, h = np.random.default_rng(0), 0.02
    for variable in model.control_variables:
        direction = rng.normal(size=variable.shape)
        direction /= max(np.linalg.norm(direction), 1e-9)
        start, values = variable.numpy(), []
        for multiple in (-2, -1, 1, 2):
            variable.assign(start + multiple * h * direction)
            values.append(variance_objective(model))
        variable.assign(start)
        difference = (8 * (values[2] - values[1]) - (values[3] - values[0])) / (12 * h)  # exact to h^4
        expected = np.sum(np.asarray(by_id[id(variable)], np.float64) * direction)
        assert difference == pytest.approx(expected, rel=0.01, abs=1e-5 * values[1] / h), variable.path


def test_metrics_see_hard_samples_only():
    seen = []

    class Spy(keras.metrics.Metric):
        def update_state(self, y_true, y_pred, sample_weight=None):
            seen.append(y_pred.numpy())

        def result(self):
            return 0.0

    x = keras.Input((6,))
    b = rt.layers.StochasticBinary("concrete")(keras.layers.Dense(6)(x))
    model = rt.StochasticModel(x, b)
    model.compile(loss="mse", metrics=[Spy()], run_eagerly=True)
    model.fit(X[:64], X[:64], batch_size=32, verbose=0)
    model.evaluate(X[:64], X[:64], batch_size=32, verbose=0)
    assert len(seen) == 4
    assert set(np.unique(seen)) == {-1.0, 1.0}


def test_reported_loss_is_the_objective_at_hard_samples():
    model = functional("concrete")
    model.estimator.step.assign(4)
    loss, _ = model.estimate_gradients(X, Y)
    with rt.sampling.HardSampler(tf.constant(5, tf.int64), training=False):
        f, _ = model.objective(X, Y)
    assert float(loss) == pytest.approx(float(tf.reduce_mean(f)), rel=1e-5)


def test_gradients_align_with_the_trainable_variables():
    model = functional()
    loss, gradients = model.estimate_gradients(X, Y)
    assert loss.shape == []
    assert len(gradients) == len(model.trainable_variables)
    for gradient, variable in zip(gradients, model.trainable_variables, strict=True):
        assert gradient.shape == variable.shape, variable.path


def test_eager_and_xla_agree():
    model = belief_network()

    def run():
        return model.estimate_gradients(X)

    loss, gradients = run()
    model.estimator.step.assign(0)
    compiled_loss, compiled = tf.function(run, autograph=False, jit_compile=True)()
    assert float(loss) == pytest.approx(float(compiled_loss), rel=1e-5)
    for a, b in zip(gradients, compiled, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def test_sample_weights_weight_the_objective():
    model = functional()
    weights = np.zeros(640, np.float32)
    weights[:160] = 4.0
    model.estimator.step.assign(0)
    weighted, gradients = model.estimate_gradients(X, Y, weights)
    with rt.sampling.HardSampler(tf.constant(1, tf.int64)):
        f, _ = model.objective(X, Y)
    assert float(weighted) == pytest.approx(float(tf.reduce_mean(f[:160])), rel=1e-5)
    assert all(np.isfinite(g).all() for g in gradients)


def test_several_outputs_add_their_losses():
    x = keras.Input((6,))
    b = rt.layers.StochasticBinary("rebar")(keras.layers.Dense(5)(x))
    outputs = {"a": keras.layers.Dense(2, name="a")(b), "b": keras.layers.Dense(1, name="b")(b)}
    model = rt.StochasticModel(x, outputs)
    model.compile(loss={"a": "mse", "b": "mae"})
    targets = {"a": Y, "b": Y[:, :1]}
    with rt.sampling.HardSampler(0):
        f, y_pred = model.objective(X, targets)
    expected = np.mean((y_pred["a"] - Y) ** 2, axis=1) + np.abs(y_pred["b"] - Y[:, :1])[:, 0]
    np.testing.assert_allclose(f, expected, rtol=1e-5)
    assert np.isfinite(model.fit(X, targets, verbose=0).history["loss"]).all()


def test_weight_regularisers_join_the_loss_and_the_direct_gradient():
    x = keras.Input((6,))
    b = rt.layers.StochasticBinary("rebar")(keras.layers.Dense(5)(x))
    model = rt.StochasticModel(x, keras.layers.Dense(2, kernel_regularizer="l2", name="out")(b))
    model.compile(loss="mse")
    model.estimator.step.assign(0)
    loss, gradients = model.estimate_gradients(X, Y)
    kernel = model.get_layer("out").kernel
    gradient = {v.path: g for v, g in zip(model.trainable_variables, gradients, strict=True)}[kernel.path]
    kernel.regularizer = None
    model.estimator.step.assign(0)
    loss_without, gradients = model.estimate_gradients(X, Y)
    without = {v.path: g for v, g in zip(model.trainable_variables, gradients, strict=True)}[kernel.path]
    assert float(loss - loss_without) == pytest.approx(0.01 * float(tf.reduce_sum(kernel.value**2)), rel=1e-3)
    np.testing.assert_allclose(gradient - without, 0.02 * kernel.numpy(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_trains(policy):
    keras.config.set_dtype_policy(policy)
    try:
        model = functional()
        history = model.fit(X, Y, batch_size=16, epochs=6, verbose=0).history
    finally:
        keras.config.set_dtype_policy("float32")
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    assert {str(v.dtype) for v in model.trainable_variables} == {"float32"}


@pytest.mark.slow
def test_functional_and_subclassed_models_coexist():
    functional()

    class Autoencoder(rt.training.StochasticTraining, keras.Model):
        def __init__(self):
            super().__init__()
            self.encoder, self.decoder = keras.layers.Dense(5), keras.layers.Dense(2)
            self.units = rt.layers.StochasticBinary()

        def call(self, x, training=None):
            return self.decoder(self.units(self.encoder(x), training=training))

    model = Autoencoder()
    model.compile(optimizer=rt.optimizers.Adam(1e-2), loss="mse")
    history = model.fit(X, Y, batch_size=16, epochs=3, verbose=0).history
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    functional().fit(X, Y, verbose=0)


def test_fit_compiles():
    """XLA on a CPU is on request only."""
    history = functional(jit_compile=True, steps_per_execution=8).fit(X, Y, batch_size=16, epochs=6, verbose=0).history
    assert history["loss"][-1] < 0.7 * history["loss"][0]


def test_an_objective_without_a_third_derivative_compiles():
    """That of a concatenation under XLA: the temperature's derivative is then taken in reverse mode."""
    keras.utils.set_random_seed(0)
    x = keras.Input((6,))
    b = rt.layers.StochasticBinary("rebar")(keras.layers.Dense(5)(x))
    model = rt.StochasticModel(x, keras.layers.Dense(2)(keras.layers.Concatenate()([b, x])))
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(optimizer=rt.optimizers.Adam(1e-2), loss=loss, jit_compile=True, steps_per_execution=8)
    history = model.fit(X, Y, batch_size=16, epochs=6, verbose=0).history
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    assert history["temperature"][-1] != pytest.approx(0.5, abs=0.01)


def test_a_dataset_read_several_steps_at_a_time_trains_the_same():
    """With `steps_per_epoch` the pipeline stacks the batches; without, the program takes them one by one."""
    weights = []
    for arguments in ({"steps_per_epoch": 8, "epochs": 5}, {"epochs": 1}):
        model = functional(jit_compile=True, steps_per_execution=8)
        dataset = tf.data.Dataset.from_tensor_slices((X, Y)).batch(16, drop_remainder=True)
        model.fit(dataset, verbose=0, shuffle=False, **arguments)
        assert model.estimator.step.numpy() == 40
        weights.append(model.get_weights())
    for a, b in zip(*weights, strict=True):
        np.testing.assert_array_equal(a, b)


def trained(kind):
    model = functional(jit_compile=True) if kind == "functional" else belief_network(num_layers=1, jit_compile=True)
    targets = (X, Y) if kind == "functional" else (X,)
    model.fit(*targets, batch_size=16, epochs=2, verbose=0)
    return model, targets


@pytest.mark.parametrize("estimator", ["rebar", "nvil"])
def test_a_belief_networks_seed_fixes_every_initial_weight(estimator):
    first, second = (belief_network(estimator).get_weights() for _ in range(2))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kind", slow_but(["belief network"], ["functional", "belief network"]))
def test_everything_is_saved_and_training_goes_on_where_it_stopped(kind, tmp_path):
    model, targets = trained(kind)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")  # safe mode is on
    assert type(again) is type(model)
    for a, b in zip(model.variables, again.variables, strict=True):
        if "total" not in a.path and "count" not in a.path:  # the metrics' sums, which each epoch resets
            np.testing.assert_array_equal(a, b, err_msg=a.path)
    for a, b in zip(model.optimizer.variables, again.optimizer.variables, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=a.path)
    for each in (model, again):
        each.fit(*targets, batch_size=16, epochs=1, verbose=0, shuffle=False)
    for a, b in zip(model.variables, again.variables, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=a.path)


@pytest.mark.slow  # the conformance table's fast rows do the same
def test_a_new_process_loads_the_model(tmp_path):
    model, _ = trained("functional")
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "x.npy", X)
    code = (
        "import sys, keras, numpy as np, rebar_tf as rt\n"
        "model = keras.saving.load_model(sys.argv[1] + '/model.keras')\n"
        "with rt.sampling.HardSampler(0):\n"
        "    y = model(np.load(sys.argv[1] + '/x.npy'), training=True)\n"
        "np.save(sys.argv[1] + '/y.npy', y)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True)
    with rt.sampling.HardSampler(0):
        np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), model(X, training=True))


def test_one_seed_one_result():
    """Bit for bit under XLA; outside of it TensorFlow's kernels may add in another order from run to run."""
    weights = []
    for _ in range(2):
        model = functional(seed=7, jit_compile=True)
        model.fit(X, Y, batch_size=16, epochs=2, verbose=0)
        weights.append(model.get_weights())
    for a, b in zip(*weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_model_without_stochastic_layers_is_refused():
    x = keras.Input((6,))
    with pytest.raises(ValueError, match=r"no stochastic layer.*StochasticBinary.*keras\.Model"):
        rt.StochasticModel(x, keras.layers.Dense(2)(x))


def test_layers_that_disagree_on_the_estimator_are_refused():
    x = keras.Input((6,))
    first = rt.layers.StochasticBinary("rebar", name="first")(keras.layers.Dense(5)(x))
    second = rt.layers.StochasticBinary("nvil", name="second")(keras.layers.Dense(5)(first))
    with pytest.raises(ValueError, match=r"same estimator.*first: rebar, second: nvil"):
        rt.StochasticModel(x, second)


def test_a_model_without_a_loss_is_refused():
    model = functional(loss=None)
    with pytest.raises(ValueError, match="`loss` must be given"):
        model.estimate_gradients(X, Y)
