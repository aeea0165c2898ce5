"""Learning-rate groups with any Keras optimizer, and what each argument of Keras does beside them."""

import contextlib
import copy

import keras
import numpy as np
import pytest
import tensorflow as tf

import rebar_tf as rt
from rebar_tf.estimators.control import mark_control
from rebar_tf.optimizers.groups import CONTROL_GROUP

RNG = np.random.default_rng(0)
X = RNG.normal(size=(16, 3)).astype(np.float32)
Y = RNG.normal(size=(16, 2)).astype(np.float32)

OPTIMIZERS = ["SGD", "RMSprop", "Adagrad", "Adadelta", "Adamax", "Nadam", "Ftrl", "Lion", "Lamb", "Adafactor", "AdamW"]
OPTIMIZERS += ["Adam", "Muon", "ScheduleFreeAdamW"]


def train(optimizer, variables, gradients):
    """The variables' values after each step, and after the moving averages were assigned."""
    optimizer.build(variables)
    scale = optimizer.scale_loss(1.0)

    @tf.function
    def step(*given):
        optimizer.apply([g * scale for g in given], variables)

    values = []
    for given in gradients:
        step(*map(tf.constant, given))
        values.append(np.concatenate([v.numpy().ravel() for v in variables]))
    optimizer.finalize_variable_values(variables)
    return [*values, np.concatenate([v.numpy().ravel() for v in variables])]


def variables_and_gradients(steps=8):
    rng = np.random.default_rng(1)
    variables = [
        keras.Variable(rng.normal(size=s), dtype="float32", name=n) for s, n in (((2, 3), "kernel"), (3, "bias"))
    ]
    return variables, [[rng.normal(size=v.shape).astype(np.float32) for v in variables] for _ in range(steps)]


ARGUMENTS = {
    "none": {},
    "amsgrad": {"amsgrad": True},
    "weight_decay": {"weight_decay": 0.1},
    "clipnorm": {"clipnorm": 0.5},
    "clipvalue": {"clipvalue": 0.1},
    "global_clipnorm": {"global_clipnorm": 0.5},
    "use_ema": {"use_ema": True, "ema_momentum": 0.9},
    "ema_overwrite_frequency": {"use_ema": True, "ema_momentum": 0.9, "ema_overwrite_frequency": 3},
    "loss_scale_factor": {"loss_scale_factor": 64.0},
    "gradient_accumulation_steps": {"gradient_accumulation_steps": 3},
    "several": {"gradient_accumulation_steps": 2, "clipnorm": 0.5, "weight_decay": 0.1, "use_ema": True},
    "callable": {"learning_rate": lambda: 0.03},
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_adam_takes_each_argument_as_keras_does(name):
    """At a `beta_2` that float32 holds well the two differ by rounding alone."""
    options = {"learning_rate": 0.1, "beta_2": 0.9, "epsilon": 1e-7, **ARGUMENTS[name]}
    ours, theirs = (
        train(kind(**options), *variables_and_gradients()) for kind in (rt.optimizers.Adam, keras.optimizers.Adam)
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    if name not in ("none", "callable"):
        plain = train(keras.optimizers.Adam(0.1, beta_2=0.9), *variables_and_gradients())
        assert np.abs(np.array(ours) - plain).max() > 1e-5 or name == "loss_scale_factor"


def with_groups(name):
    return type(name, (rt.optimizers.LearningRateGroups, getattr(keras.optimizers, name)), {})


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_group_learns_as_a_keras_optimizer_of_its_rate_does(name):
    """Decay included, which is the default of AdamW and Muon."""
    if not hasattr(keras.optimizers, name):
        pytest.skip(f"this Keras has no {name}")
    (kernel, _), gradients = variables_and_gradients()
    try:
        plain = train(getattr(keras.optimizers, name)(0.05), [kernel], [g[:1] for g in gradients])
    except AttributeError:
        pytest.skip(f"{name} of this Keras does not run in a graph")  # Muon of Keras 3.10
    (kernel, bias), gradients = variables_and_gradients()
    grouped = train(with_groups(name)(0.1, groups={"kernel": 0.5, "bias": 0.0}), [kernel, bias], gradients)
    np.testing.assert_allclose(np.array(grouped)[:, :6], plain, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.array(grouped)[:, 6:], [grouped[0][6:]] * len(grouped), rtol=1e-6)
    assert np.abs(plain[-1] - plain[0]).max() > 1e-5


def test_a_weight_decay_is_at_the_rate_of_the_group_and_leaves_the_estimator_alone():
    variable = keras.Variable([2.0], name="kernel")
    control = keras.Variable([2.0], name="log_temperature")
    mark_control([control])
    optimizer = with_groups("SGD")(0.1, weight_decay=0.5, groups={"kernel": 0.2, CONTROL_GROUP: 10.0})
    train(optimizer, [variable, control], [[np.zeros(1, np.float32)] * 2])
    assert variable.numpy()[0] == pytest.approx(2.0 * (1.0 - 0.1 * 0.2 * 0.5))
    assert control.numpy()[0] == 2.0


def test_the_estimator_s_variables_are_known_by_what_they_are_and_not_by_their_names():
    x = keras.Input((3,))
    layer = rt.layers.StochasticBinary(rt.estimators.Rebar(name="mine"))
    model = rt.StochasticModel(x, keras.layers.Dense(2, name="control")(layer(keras.layers.Dense(2)(x))))
    for made in (model, copy.deepcopy(model)):
        optimizer = rt.optimizers.Adam(0.1)
        factors = [optimizer.learning_rate_factor(variable) for variable in made.trainable_variables]
        assert factors == [1.0] * len(made.model_variables) + [10.0] * len(made.control_variables)


@pytest.mark.parametrize("option", ["clipnorm", "clipvalue", "global_clipnorm"])
def test_clipping_where_the_estimator_alone_is_trained(option):
    control = keras.Variable([2.0], name="log_temperature")
    mark_control([control])
    train(with_groups("SGD")(0.1, **{option: 0.01}), [control], [[np.ones(1, np.float32)]])
    assert control.numpy()[0] == pytest.approx(1.0)


def make_model(optimizer, **compiled):
    """With a nested model, whose layers Keras lists in another order than the paths of the graph."""
    inner = keras.Input((3,))
    nested = keras.Model(inner, keras.layers.Dense(3)(keras.layers.Dense(4)(inner)))
    inputs = keras.Input((3,))
    b = rt.layers.StochasticBinary("rebar", seed=1)(nested(keras.layers.Dense(3)(inputs)))
    model = rt.StochasticModel(inputs, keras.layers.Dense(2)(b))
    model.compile(optimizer=optimizer, loss="mse", **compiled)
    return model


def test_the_moving_averages_are_assigned_to_their_own_variables():
    model = make_model(rt.optimizers.Adam(0.01, use_ema=True, ema_momentum=0.5))
    model.fit(X, Y, batch_size=4, epochs=1, verbose=0)
    averages = model.optimizer._model_variables_moving_average
    for variable, average in zip(model.trainable_variables, averages, strict=True):
        np.testing.assert_array_equal(variable.numpy(), average.numpy())


@pytest.mark.parametrize("make", [rt.optimizers.Adam, with_groups("SGD")])
def test_rates_are_set_by_callbacks_assignment_and_schedules(make):
    model = make_model(make(0.1))
    scheduler = keras.callbacks.LearningRateScheduler(lambda epoch: 0.1 / (epoch + 1))
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[scheduler])
    assert float(model.optimizer.learning_rate.numpy()) == pytest.approx(0.05)
    plateau = keras.callbacks.ReduceLROnPlateau(monitor="loss", patience=1, min_delta=1e6, factor=0.5)
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[plateau])
    assert float(model.optimizer.learning_rate.numpy()) == pytest.approx(0.025)
    model.optimizer.learning_rate = 0.0
    before = model.get_weights()[0]
    model.fit(X, Y, epochs=1, verbose=0)
    np.testing.assert_array_equal(model.get_weights()[0], before)
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([0], [1.0, 1e-9])
    variable = keras.Variable([2.0], name="kernel")
    values = train(make(schedule, groups={"kernel": 3.0}), [variable], [[np.ones(1, np.float32)]] * 3)
    assert values[0][0] == pytest.approx(-1.0, abs=1e-4)
    assert values[2][0] == pytest.approx(values[0][0], abs=1e-6)


@keras.saving.register_keras_serializable("tests")
class GroupedSGD(rt.optimizers.LearningRateGroups, keras.optimizers.SGD):
    pass


def test_groups_are_saved(tmp_path):
    model = make_model(GroupedSGD(0.01, momentum=0.9, groups={"dense": 0.5}))
    model.fit(X, Y, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras").optimizer
    assert loaded.groups == {"dense": 0.5}
    assert loaded.momentum == 0.9
    for variable, other in zip(model.optimizer.variables, loaded.variables, strict=True):
        np.testing.assert_array_equal(variable.numpy(), other.numpy())


@pytest.mark.parametrize("factor", [-1.0, float("nan"), "10"])
def test_a_bad_factor_is_named(factor):
    with pytest.raises(ValueError, match=r"`groups` must give each pattern a finite factor.*Received: 'a'"):
        GroupedSGD(0.1, groups={"a": factor})


@pytest.mark.parametrize("odd", [[[np.nan, 1.0]], [[-np.inf, 2.0], [-0.0]], [[], [[-3.0]]], [[4.0]]])
@pytest.mark.parametrize("name", ["Adam", "SGD"])
def test_updates_that_wait_are_those_that_do_not(name, odd):
    """To the bit, and whatever they wait for: a rate that is not finite would destroy the weights."""

    def train_after(waits):
        (kernel, bias), gradients = variables_and_gradients()
        optimizer = with_groups(name)(0.1, groups={"bias": 0.5})
        optimizer.build([kernel, bias])

        @tf.function(jit_compile=True)
        def step(tensors, *given):
            with optimizer.updates_after(tensors) if waits else contextlib.nullcontext():
                optimizer.apply(given, [kernel, bias])

        for given in gradients:
            step([tf.constant(values, tf.float32) for values in odd], *map(tf.constant, given))
        return kernel.numpy(), bias.numpy()

    for waited, plain in zip(train_after(True), train_after(False), strict=True):
        np.testing.assert_array_equal(waited, plain)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(", r"`groups` must have regular expressions.*Received: '\('"),
        ("decoder", "match: .*hidden/kernel.*'decoder'"),
    ],
)
def test_a_pattern_that_stands_for_no_variable_is_an_error(pattern, message):
    x = keras.Input((3,))
    b = rt.layers.StochasticBinary("reinforce")(keras.layers.Dense(2, name="hidden")(x))
    model = rt.StochasticModel(x, b)
    with pytest.raises(ValueError, match=message):
        rt.optimizers.Adam(0.1, groups={pattern: 0.1}).build(model.trainable_variables)
