"""Adam as in the paper: its formula, its precision, its learning-rate groups, its saved state."""

import keras
import numpy as np
import pytest

import rebar_tf as rt


def reference_adam(gradients, rate, beta_1=0.9, beta_2=0.99999, epsilon=1e-8):
    """Kingma & Ba's algorithm in float64, in the order of operations of their section 2."""
    x = m = v = 0.0
    for t, g in enumerate(gradients, start=1):
        m = beta_1 * m + (1 - beta_1) * g
        v = beta_2 * v + (1 - beta_2) * g * g
        corrected = rate * np.sqrt(1 - beta_2**t) / (1 - beta_1**t)
        x = x - corrected * m / (np.sqrt(v) + epsilon)
    return x


def apply(optimizer, path_name, gradients):
    variable = keras.Variable(0.0, name=path_name)
    optimizer.build([variable])
    for g in gradients:
        optimizer.apply([np.float32(g)])
    return float(variable.numpy())


def test_steps_follow_the_algorithm_at_the_papers_beta_2():
    gradients = np.random.default_rng(0).normal(loc=0.3, size=50)
    assert apply(rt.optimizers.Adam(1e-2), "weight", gradients) == pytest.approx(
        reference_adam(gradients, 1e-2), rel=1e-5
    )


def test_first_step_is_the_learning_rate():
    """Where float32's 1 - beta_2^t would be half a percent off."""
    assert apply(rt.optimizers.Adam(1e-2), "weight", [4.0]) == pytest.approx(-1e-2, rel=1e-6)


def test_control_variables_of_a_model_learn_ten_times_as_fast():
    model = rt.models.SigmoidBeliefNetwork(hidden_units=3, visible_units=4, seed=0)
    optimizer = rt.optimizers.Adam(1e-3)
    factors = {v.path: optimizer.learning_rate_factor(v) for v in model.trainable_variables}
    assert {factors[v.path] for v in model.control_variables} == {10.0}
    assert {factors[v.path] for v in model.model_variables} == {1.0}
    assert {"control/scale/raw_eta", "control/temperature/log_temperature", "control/baseline/out/bias"} <= set(factors)


def test_groups_are_ordered_patterns():
    for groups, factor in (({"^slow": 0.1, "weight": 3.0}, 0.1), ({"weight": 3.0, "^slow": 0.1}, 3.0)):
        optimizer = rt.optimizers.Adam(1e-2, groups=groups)
        for each in (optimizer, rt.optimizers.Adam.from_config(optimizer.get_config())):
            assert apply(each, "slow_weight", [1.0]) == pytest.approx(-1e-2 * factor, rel=1e-5)


def test_schedules_are_followed():
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([0], [1e-2, 1e-3])
    assert apply(rt.optimizers.Adam(schedule), "weight", [1.0, 1.0]) == pytest.approx(-1.1e-2, rel=1e-4)


@pytest.mark.parametrize("rate", [0.0, -1e-3, float("nan"), float("inf")])
def test_bad_learning_rate_is_named(rate):
    with pytest.raises(ValueError, match=r"`learning_rate` must be a positive number. Received: learning_rate="):
        rt.optimizers.Adam(rate)
