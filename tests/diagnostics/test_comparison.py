"""Methods compared along one trajectory: the numbers against a plain loop."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf

import rebar_tf as rt
from rebar_tf.diagnostics import ComparedVariance

METHODS = ("nvil", "rebar", "concrete")
FOLLOW = "rebar"
IMAGES = (np.random.default_rng(0).uniform(size=(12, 6)) < 0.3).astype(np.float32)
BATCHES = IMAGES.reshape(6, 2, 6)
UNBIASED = ("nvil", "rebar")


def network(method):
    model = rt.models.SigmoidBeliefNetwork(
        num_layers=1, hidden_units=4, visible_units=6, estimator=method, seed=3, data_mean=IMAGES.mean(axis=0)
    )
    model.gradient_variance.every = 1  # the moments of each of the few steps
    return model


def comparison(kind=rt.diagnostics.EstimatorComparison, methods=METHODS, follow=FOLLOW):
    model = kind({method: network(method) for method in methods}, follow)
    model.compile(optimizer=rt.optimizers.Adam(0.01), steps_per_execution=3)
    return model


def fit(model):
    return model.fit(IMAGES, batch_size=2, shuffle=False, verbose=0).history


def run_eagerly(model, batches=BATCHES):
    """The same steps without a compiled program, which takes seconds to compile; the report at the end."""
    model.optimizer.build(model.trainable_variables)
    model.reset_metrics()
    for x in batches:
        logs = model.train_step(x)
    return {name: float(value) for name, value in logs.items()}


def arrays(variables):
    return [variable.numpy() for variable in variables]


def assert_close(ours, theirs):
    """Equal but for the order of float32 sums, which another program may change."""
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-6)


@pytest.fixture(scope="module")
def plain():
    """Plain training of the followed method."""
    model = network(FOLLOW)
    model.compile(optimizer=rt.optimizers.Adam(0.01), jit_compile=True, steps_per_execution=3)
    return model, fit(model)


@pytest.fixture(scope="module")
def compared():
    model = comparison()
    return model, fit(model)


@pytest.fixture(scope="module")
def by_hand():
    """The same in a plain loop: every method has its own copy of the followed parameters and its own optimizer."""
    models = {method: network(method) for method in METHODS}
    optimizers = {method: rt.optimizers.Adam(0.01) for method in METHODS}
    logs = []
    for x in BATCHES:
        for model in models.values():
            for own, followed in zip(model.model_variables, models[FOLLOW].model_variables, strict=True):
                own.assign(followed)
        for method, model in models.items():
            _, gradients = model.estimate_gradients(x)
            pairs = list(zip(gradients, model.trainable_variables, strict=True))
            optimizers[method].build(model.trainable_variables)
            optimizers[method].apply_gradients(pairs)
            model.gradient_variance.update_state([g for g, v in pairs if any(v is m for m in model.model_variables)])
        logs.append({method: moments(model) for method, model in models.items()})
    return models, logs


def moments(model):
    """Both averages, as lists of arrays by variable."""
    return arrays(model.gradient_variance.first), arrays(model.gradient_variance.second)


def parts(model):
    return ["prior_logits" if "prior" in v.path else v.path.split("/")[0] for v in model.model_variables]


def expected_logs(logs, names):
    """What the last report must say, in NumPy float64, from the moments after each step."""
    variances, signals = {}, {}
    for part in (None, *names):
        chosen = [k for k, name in enumerate(names) if part in (None, name)]

        def entries(arrays, chosen=chosen):
            return np.concatenate([arrays[k].ravel() for k in chosen]).astype(np.float64)

        for step in logs:
            first = {method: entries(step[method][0]) for method in METHODS}
            pooled = np.mean([first[method] for method in UNBIASED], axis=0)
            for method in METHODS:
                mean = pooled if method in UNBIASED else first[method]
                variance = entries(step[method][1]) - mean**2
                variances.setdefault((method, part), []).append(variance.mean())
            for method in METHODS:
                rivals = UNBIASED if method in UNBIASED else (method,)
                least = sum(min(np.sum(np.square(step[m][0][k], dtype=np.float64)) for m in rivals) for k in chosen)
                signals.setdefault((method, part), []).append(least / len(entries(step[method][0])))
    result = {}
    for method, part in variances:
        suffix = method if part is None else f"{method}/{part}"
        variance = np.mean(variances[method, part])
        result[f"log_variance/{suffix}"] = np.log(variance)
        result[f"signal_to_noise/{suffix}"] = np.sqrt(np.mean(signals[method, part]) / variance)
    return result


def test_the_followed_method_trains_as_it_would_alone(plain, compared):
    (alone, history), (model, logs) = plain, compared
    assert_close(arrays(model.followed.trainable_variables), arrays(alone.trainable_variables))
    assert logs["loss"] == pytest.approx(history["loss"], rel=1e-5)
    assert logs[f"temperature/{FOLLOW}"] == pytest.approx(history["temperature"], rel=1e-5)
    np.testing.assert_array_equal(model.bound(IMAGES, num_samples=3), model.followed.bound(IMAGES, num_samples=3))


def test_one_method_alone_has_the_variance_that_training_reports(plain):
    logs = run_eagerly(comparison(methods=(FOLLOW,)))
    assert logs[f"log_variance/{FOLLOW}"] == pytest.approx(plain[1]["log_grad_variance"][0], abs=1e-4)


def assert_as_by_hand(model, by_hand):
    models, logs = by_hand
    for method in METHODS:
        ours, theirs = model.models[method], models[method]
        assert_close(arrays(ours.control_variables), arrays(theirs.control_variables))
        for mine, other in zip(moments(ours), logs[-1][method], strict=True):
            assert_close(mine, other)
        assert int(ours.estimator.step) == len(BATCHES)


def test_each_method_has_the_moments_and_control_variables_of_a_plain_loop(compared, by_hand):
    assert_as_by_hand(compared[0], by_hand)
    assert_close(arrays(compared[0].followed.model_variables), arrays(by_hand[0][FOLLOW].model_variables))


def test_methods_at_parameters_of_their_own_are_told_from_those_at_the_followed_ones(by_hand):
    class Apart(rt.diagnostics.EstimatorComparison):
        def at_followed_parameters(self, model):
            return contextlib.nullcontext()

    model = comparison(Apart)
    run_eagerly(model)
    with pytest.raises(AssertionError):
        assert_as_by_hand(model, by_hand)


def test_the_report_is_the_formula(compared, by_hand):
    model, logs = compared
    expected = expected_logs(by_hand[1], parts(by_hand[0][FOLLOW]))
    assert model.parts == ["prior_logits", "encoder_0", "generator_0"]
    assert len(expected) == 2 * len(METHODS) * (1 + len(model.parts))
    assert logs.keys() == {"loss", "temperature/rebar", "temperature/concrete", *expected}
    for name, value in expected.items():
        assert logs[name] == pytest.approx([value], rel=1e-3, abs=1e-3), name


def test_a_report_is_about_the_steps_since_the_last_reset(compared, by_hand):
    model = comparison()
    run_eagerly(model, BATCHES[:4])
    logs = run_eagerly(model, BATCHES[4:])
    expected = expected_logs(by_hand[1][4:], parts(by_hand[0][FOLLOW]))
    for name, value in expected.items():
        assert logs[name] == pytest.approx(value, rel=1e-3, abs=1e-3), name
    assert logs["log_variance/nvil"] != pytest.approx(compared[1]["log_variance/nvil"][0], abs=0.01)


def test_all_models_have_the_followed_parameters_between_executions(compared):
    for model in compared[0].models.values():
        for own, followed in zip(model.model_variables, compared[0].followed.model_variables, strict=True):
            np.testing.assert_array_equal(own.numpy(), followed.numpy())


def test_saved_and_loaded_it_goes_on_with_the_same_numbers(tmp_path):
    model = comparison()
    run_eagerly(model, BATCHES[:2])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert list(loaded.models) == list(METHODS)
    for network in loaded.models.values():
        network.gradient_variance.every = 1
    assert model.train_step(BATCHES[2]).keys() == loaded.train_step(BATCHES[2]).keys()
    for ours, theirs in zip(state(loaded), state(model), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def state(model):
    """All that goes on from a checkpoint, as arrays."""
    own = [variable for metric in model.metrics for variable in metric.variables]
    averages = [v for inner in model.models.values() for v in inner.gradient_variance.variables]
    return arrays([*model.variables, *model.optimizer.variables, *own, *averages])


def test_no_signal_and_no_variance():
    metric = ComparedVariance(["a", "b"], [True, False], ["p"], [2])
    averages = [rt.training.LogGradientVariance() for _ in range(2)]
    for average in averages:
        average.build_moments([np.zeros(2)])
    metric.update_state(1.0, averages)
    logs = metric.result()
    assert float(logs["log_variance/a"]) == -np.inf
    assert float(logs["signal_to_noise/a"]) == 0.0


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"`follow` must be one of nvil, rebar\. Received: follow='muprop'"):
        comparison(methods=("nvil", "rebar"), follow="muprop")
    wider = rt.models.SigmoidBeliefNetwork(hidden_units=5, visible_units=6, estimator="nvil", seed=0)
    with pytest.raises(ValueError, match=r"`models` must all have variables of the shapes .* Received: 'nvil' with"):
        rt.diagnostics.EstimatorComparison({"rebar": network("rebar"), "nvil": wider}, "rebar")


def normalising(method):
    x = keras.Input((6,))
    h = keras.layers.BatchNormalization(momentum=0.5)(x)
    initializer = keras.initializers.GlorotUniform(0)
    h = rt.layers.StochasticBinary(method, seed=1)(keras.layers.Dense(3, kernel_initializer=initializer)(h))
    return rt.StochasticModel(x, keras.layers.Dense(6, kernel_initializer=initializer)(h))


def test_all_models_have_the_state_that_the_followed_method_leaves():
    alone = normalising("rloo")
    models = {method: normalising(method) for method in ("reinforce", "rloo")}
    model = rt.diagnostics.EstimatorComparison(models, "rloo")
    for each in (alone, model, *models.values()):
        each.compile(optimizer=rt.optimizers.Adam(0.01), loss="mse", run_eagerly=True)
    for batch in BATCHES[:3]:
        alone.train_step((batch, batch))
        model.train_step((batch, batch))
    model.read_logs()
    for each in models.values():
        assert_close(arrays(each.layers[1].weights), arrays(alone.layers[1].weights))


@pytest.mark.slow
def test_what_the_passes_of_the_methods_share_is_computed_once():
    def products(*methods):
        models = {
            method: rt.models.SigmoidBeliefNetwork(hidden_units=4, visible_units=6, estimator=method, seed=3)
            for method in methods
        }
        model = rt.diagnostics.EstimatorComparison(models, methods[0])
        model.compile(optimizer=rt.optimizers.Adam(0.01))
        model.optimizer.build(model.trainable_variables)
        step = tf.function(model.train_step, autograph=False, jit_compile=True)
        return step.experimental_get_compiler_ir(tf.constant(IMAGES))("optimized_hlo").count(" dot(")

    both, first, second = products("reinforce", "rloo"), products("reinforce"), products("rloo")
    assert both < first + second
