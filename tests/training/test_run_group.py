"""Several runs in one program come to what each comes to alone."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.marks import slow_but

import rebar_tf as rt
from rebar_tf.training.run_group import RunGroup, state_of

STEPS, PROGRAM, BATCH, PIXELS = 25, 5, 5, 6  # a step in which the moments take a gradient in, and ones in which not
RUNS = ((0, 3e-4), (1, 3e-4), (1, 1e-2))  # seeds and learning rates
# RODEO's networks have gradients near 0, whose rounding Adam makes steps of the size of the rate: at 1e-2 one model
# differs by 1e-4 from itself where it is not compiled.
RUNS_OF = {"rodeo": ((0, 3e-4), (1, 3e-4), (1, 1e-3))}
NOT_VECTORIZED = ("exact", "lax", "local_expectation", "q_function", "relax")
VECTORIZED = [name for name in rt.estimators.names("bernoulli") if name not in NOT_VECTORIZED]


def network(seed=0, rate=3e-4, estimator="rebar", optimizer=None, hidden=3, **compiled):
    keras.utils.set_random_seed(seed)
    model = rt.models.SigmoidBeliefNetwork(
        num_layers=2, hidden_units=hidden, visible_units=PIXELS, estimator=estimator, seed=seed
    )
    model.compile(optimizer=optimizer or rt.optimizers.Adam(rate), jit_compile=True, **compiled)
    return model


def images(runs):
    return np.random.default_rng(0).integers(0, 2, (STEPS, runs, BATCH, PIXELS)).astype(np.float32)


def fit(model, batches, epochs=1):
    model.steps_per_execution = PROGRAM
    options = tf.data.Options()
    options.autotune.enabled = False  # an iterator else ends only when its search for buffer sizes wakes up
    data = tf.data.Dataset.from_tensor_slices(batches).repeat().with_options(options)
    return model.fit(data, steps_per_epoch=STEPS, epochs=epochs, verbose=0, shuffle=False)


def numbers(model):
    return [variable.numpy() for variables in state_of(model).values() for variable in variables]


def assert_same(model, other, **tolerance):
    for ours, theirs in zip(numbers(model), numbers(other), strict=True):
        np.testing.assert_allclose(ours, theirs, **tolerance)


@pytest.mark.parametrize("estimator", slow_but(["rebar"], VECTORIZED))
def test_each_run_comes_to_what_it_comes_to_alone(estimator):
    runs = RUNS_OF.get(estimator, RUNS)
    batches = images(len(runs))
    alone, together = ([network(*run, estimator=estimator) for run in runs] for _ in range(2))
    histories = [fit(model, batches[:, run]).history for run, model in enumerate(alone)]
    history = fit(RunGroup(together), batches).history
    for ours, theirs in zip(together, alone, strict=True):
        assert_same(ours, theirs, rtol=1e-3, atol=1e-5)  # rounding, of sums in another order
        reports = [{name: float(value) for name, value in model.read_logs().items()} for model in (ours, theirs)]
        assert reports[0] == pytest.approx(reports[1], rel=1e-4)
    assert history["loss"][0] == pytest.approx(np.mean([h["loss"][0] for h in histories]), rel=1e-5)
    assert len({model.model_variables[1].numpy().tobytes() for model in together}) == len(runs)


def test_a_run_goes_on_alone_as_it_would_have_before():
    batches = images(2)
    group = RunGroup([network(0, estimator="rloo"), network(1, estimator="rloo")])
    fit(group, batches)
    unbroken = network(1, estimator="rloo")
    fit(unbroken, batches[:, 1], epochs=2)
    fit(group.models[1], batches[:, 1])
    assert_same(group.models[1], unbroken, rtol=1e-3, atol=1e-5)


def test_a_run_that_diverges_leaves_the_others_as_they_are():
    batches = images(2)
    together = [network(0, estimator="rloo"), network(1, estimator="rloo")]
    together[1].model_variables[1].assign(np.full([PIXELS, 3], np.nan, np.float32))
    alone = network(0, estimator="rloo")
    fit(alone, batches[:, 0])
    fit(RunGroup(together), batches)
    assert_same(together[0], alone, rtol=1e-3, atol=1e-5)
    assert np.isnan(together[1].model_variables[1].numpy()).all()


def test_frozen_weights_and_a_fixed_temperature_are_each_run_s_own():
    fixed = rt.estimators.Rebar(temperature=0.3, learn_temperature=False)

    def runs():
        models = [network(seed, estimator=fixed) for seed in range(2)]
        models[1].estimator.temperature.assign(0.7)
        for model in models:
            model.encoder[0].trainable = False
            model.compile(optimizer=rt.optimizers.Adam(1e-2), jit_compile=True)
        return models

    batches, alone, together = images(2), runs(), runs()
    for run, model in enumerate(alone):
        fit(model, batches[:, run])
    fit(RunGroup(together), batches)
    for ours, theirs in zip(together, alone, strict=True):
        assert_same(ours, theirs, rtol=1e-3, atol=1e-5)
        for own, other in zip(ours.gradient_variance.variables, theirs.gradient_variance.variables, strict=True):
            np.testing.assert_allclose(own.numpy(), other.numpy(), rtol=1e-3, atol=1e-6)


def test_layers_keep_their_seeds():
    models = [network(3, estimator="rloo"), network(4, estimator="rloo")]
    seeds = [[layer.seed for layer in model.stochastic_layers] for model in models]
    fit(RunGroup(models), images(2))
    assert [[layer.seed for layer in model.stochastic_layers] for model in models] == seeds


@pytest.mark.parametrize("estimator", slow_but(["relax"], NOT_VECTORIZED))
def test_what_tensorflow_cannot_vectorize_is_named(estimator):
    group = RunGroup([network(seed, estimator=estimator) for seed in range(2)])
    with pytest.raises(ValueError, match=f"Estimator '{estimator}' cannot be trained in one program with other runs"):
        fit(group, images(2))


def schedule():
    return keras.optimizers.schedules.ExponentialDecay(1e-3, 10, 0.9)


def stepped():
    model = network()
    fit(model, images(1)[:, 0])
    return model


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda: network(hidden=4), "must have the same shapes"),
        (lambda: network(estimator="muprop"), "must have the same (shapes|estimator)"),
        (lambda: network(estimator=rt.estimators.Rebar(group_size=None)), "must have the same estimator"),
        (lambda: network(optimizer=rt.optimizers.Adam(3e-4, beta_1=0.8)), "must have the same optimizer"),
        (lambda: network(optimizer=rt.optimizers.Adam(3e-4, clipnorm=1.0)), "without clipping.*'clipnorm': 1.0"),
        (lambda: network(optimizer=rt.optimizers.Adam(3e-4, amsgrad=True)), "without clipping.*'amsgrad': True"),
        (lambda: network(optimizer=keras.optimizers.SGD(0.1)), "rebar_tf.optimizers.Adam.*Received: SGD"),
        (lambda: network(optimizer=rt.optimizers.Adam(schedule())), "numbers for learning rates. Received: a schedule"),
        (stepped, f"must have the same number of steps. Received: 0 and {STEPS}"),
        (lambda: network(optimizer=rt.optimizers.Adam(groups={"encoder": 0.1})), "must have the same optimizer"),
    ],
)
def test_models_that_are_no_runs_of_one_network_are_refused(other, message):
    with pytest.raises(ValueError, match=message):
        RunGroup([network(), other()])


def functional_pair(first, second):
    return [functional(**first), functional(**second)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (({}, {"loss": "mae"}), "must have the same loss. Received: .*mse.* and .*mae"),
        (({}, {"activation": "tanh"}), "must have the same configuration"),
        (({}, {"unimix": 0.1}), "must have the same configuration"),
        (({}, {"kernel_regularizer": "l2"}), "must have the same configuration"),
        (({"kernel_constraint": "non_neg"},) * 2, "without constraints. Received: .*NonNeg"),
        (({"dtype": "bfloat16"},) * 2, "float32 variables"),
        (({"outputs": 2},) * 2, "have one output"),
    ],
)
def test_functional_models_that_differ_or_have_more_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        RunGroup(functional_pair(*options))


def test_a_model_twice_and_an_optimizer_twice_are_refused():
    model, other = functional(), functional()
    with pytest.raises(ValueError, match="different models, with an optimizer each"):
        RunGroup([model, model])
    other.compile(optimizer=model.optimizer, loss="mse", jit_compile=True)
    with pytest.raises(ValueError, match="different models, with an optimizer each"):
        RunGroup([model, other])


def test_layers_frozen_after_compile_and_steps_of_ones_own_are_refused():
    model = functional()
    model.build_optimizer()
    model.layers[1].trainable = False
    with pytest.raises(ValueError, match="compiled after their layers were frozen"):
        RunGroup([model])

    class Own(rt.StochasticModel):
        def apply_gradients(self, gradients):
            pass

    x = keras.Input((2,))
    own = Own(x, rt.layers.StochasticBinary("rloo")(x))
    own.compile(optimizer=rt.optimizers.Adam(1e-3), loss="mse", jit_compile=True)
    with pytest.raises(ValueError, match=r"take the steps of StochasticModel. Received: \['apply_gradients'\]"):
        RunGroup([own])


def test_a_group_is_trained_only_and_on_datasets_of_one_size():
    group = RunGroup([network(seed, estimator="rloo") for seed in range(2)])
    x = images(2)
    rate = keras.callbacks.LearningRateScheduler(lambda epoch: 0.5)
    data = tf.data.Dataset.from_tensor_slices(x)
    with pytest.raises(ValueError, match=r"must be given a tf.data.Dataset"):
        group.fit(x[0], verbose=0)
    odd = tf.data.Dataset.from_tensor_slices(x[:, 0]).batch(2)
    with pytest.raises(ValueError, match="whose batches all have one size"):
        group.fit(odd, verbose=0)
    with pytest.raises(ValueError, match=r"learning rates of a group are its models'.*LearningRateScheduler"):
        group.fit(data, callbacks=[rate], verbose=0)
    with pytest.raises(ValueError, match="compiled as its models are"):
        group.compile(optimizer="sgd")
    calls = (group.evaluate, group.predict, group.train_on_batch, lambda x: group.fit(x, validation_data=x))
    for call in calls:
        with pytest.raises(NotImplementedError, match="only trained, by `fit`"):
            call(data)


def test_batches_without_an_axis_of_runs_are_refused():
    group = RunGroup([network(estimator="rloo") for _ in range(2)])
    with pytest.raises(ValueError, match=r"batches `\[2 runs, batch, ...\]`.*Received: batches of shape \(5, 6\)"):
        fit(group, images(2)[:, 0])


def test_no_model_is_refused():
    with pytest.raises(ValueError, match="must be one model or more"):
        RunGroup([])


def functional(normalise=False, loss="mse", unimix=0.0, outputs=1, metrics=None, **dense):
    x = keras.Input((PIXELS,))
    h = keras.layers.Dense(3, **dense)(x)
    h = keras.layers.BatchNormalization()(h) if normalise else h
    b = rt.layers.StochasticBinary(estimator="rloo", seed=0, unimix=unimix)(h)
    ends = [keras.layers.Dense(2)(b) for _ in range(outputs)]
    model = rt.StochasticModel(x, ends if outputs > 1 else ends[0])
    model.compile(optimizer=rt.optimizers.Adam(1e-3), loss=loss, metrics=metrics, jit_compile=True)
    return model


def test_metrics_and_moving_statistics_are_refused():
    with pytest.raises(ValueError, match="must be compiled without metrics"):
        RunGroup([functional(metrics=["mae"])])
    x = images(2)
    with pytest.raises(ValueError, match=r"no state that a pass updates.*batch_normalization"):
        fit(RunGroup([functional(normalise=True) for _ in range(2)]), (x, x[..., :2]))


def test_models_of_users_with_targets_and_weights():
    keras.utils.set_random_seed(0)
    x, weights = images(2), np.random.default_rng(1).uniform(size=(STEPS, 2, BATCH)).astype(np.float32)
    batches = (x, x[..., :2], weights)
    together = [functional(), functional()]
    alone = keras.models.clone_model(together[1])
    alone.compile(optimizer=rt.optimizers.Adam(1e-3), loss="mse", jit_compile=True)
    alone.set_weights(together[1].get_weights())
    fit(alone, tuple(part[:, 1] for part in batches))
    fit(RunGroup(together), batches)
    assert_same(together[1], alone, rtol=1e-3, atol=1e-5)
