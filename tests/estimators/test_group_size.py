"""REBAR over several layers: its groups, scales and temperatures, what trains what, and its limit, SimpleMuProp."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.marks import slow_but
from helpers.networks import INDEPENDENT, belief_network, check, require_unbiased

import rebar_tf as rt
from rebar_tf.estimators import QFunction, Rebar
from rebar_tf.sampling import HardSampler

RULES = {
    "n_pass": functools.partial(Rebar, group_size=1),
    "coupled": functools.partial(Rebar, group_size=None),
    "hybrid": functools.partial(Rebar, group_size=2),
    "q_function": QFunction,
}


def gradients(model, x, y=None, step=0):
    """The gradients of the step after `step`, by path; None where there is none."""
    model.estimator.step.assign(step)
    return gradients_of(model, x, y)


def gradients_of(model, x, y=None):
    values = model.estimate_gradients(x, y)[1]
    return {variable.path: g for variable, g in zip(model.trainable_variables, values, strict=True)}


def model_gradients(model, x, y=None, step=0):
    found = gradients(model, x, y, step)
    return [found[variable.path].numpy() for variable in model.model_variables]


def is_encoder(path):
    return path.startswith("encoder")


@pytest.mark.parametrize("family", slow_but(["bernoulli"], INDEPENDENT))
@pytest.mark.parametrize("rule", ["coupled", "hybrid", "q_function"])  # n_pass is the registry's
def test_every_rule_is_unbiased(rule, family):
    network = INDEPENDENT[family](RULES[rule](temperature_per_layer=True), 3)
    require_unbiased(check(*network, jit_compile=False), detectable=0.3)


@pytest.mark.parametrize("rule", ["coupled", "q_function"])
def test_every_rule_is_unbiased_under_xla(rule):
    require_unbiased(check(*belief_network(RULES[rule](), 2)), detectable=0.3)


@pytest.mark.slow
@pytest.mark.parametrize("family", INDEPENDENT)
@pytest.mark.parametrize("rule", RULES)
def test_every_rule_is_unbiased_at_ten_times_the_samples(rule, family):
    network = INDEPENDENT[family](RULES[rule](temperature_per_layer=True), 3)
    require_unbiased(check(*network, num_estimates=2500), detectable=0.1)


@pytest.mark.parametrize(("rule", "evaluations"), [("n_pass", 4), ("coupled", 2), ("hybrid", 3), ("q_function", 1)])
def test_evaluations_of_the_objective(rule, evaluations):
    model, x, _ = belief_network(RULES[rule](), 3)
    calls = []

    def objective():
        calls.append(1)
        return model.objective(x)[0]

    model.estimator.estimate(objective, 0, model.baseline_context(x))
    assert len(calls) == evaluations


@pytest.mark.parametrize("family", INDEPENDENT)
@pytest.mark.parametrize(("group_size", "same"), [(1, "n_pass"), (3, "coupled"), (5, "coupled")])
def test_hybrid_joins_the_other_two(family, group_size, same):
    """The same noise, the same estimate."""

    def estimate(estimator):
        model, x, y = INDEPENDENT[family](estimator, 3)
        return model_gradients(model, x, y)

    hybrid = estimate(Rebar(group_size=group_size))
    for g, other in zip(hybrid, estimate(RULES[same]()), strict=True):
        np.testing.assert_array_equal(g, other)
    different = estimate(RULES["coupled" if same == "n_pass" else "n_pass"]())
    assert any(np.abs(g - other).max() > 1e-3 for g, other in zip(hybrid, different, strict=True))


@pytest.mark.parametrize("family", INDEPENDENT)
@pytest.mark.parametrize("rule", RULES)
def test_one_temperature_a_layer(rule, family):
    """Equal ones give the estimate of the shared one; its derivative is the sum of theirs; each matters."""
    found, estimates = {}, {}
    for per_layer in (False, True):
        model, x, y = INDEPENDENT[family](RULES[rule](temperature_per_layer=per_layer), 2)
        model.estimator.temperature.log_temperature.assign(
            tf.fill(model.estimator.temperature.log_temperature.shape, -0.3)
        )
        model.estimator.scale.raw_eta.assign(tf.zeros_like(model.estimator.scale.raw_eta))
        found[per_layer] = gradients(model, x, y)
        estimates[per_layer] = [found[per_layer][v.path].numpy() for v in model.model_variables]
    for g, other in zip(estimates[True], estimates[False], strict=True):
        np.testing.assert_array_equal(g, other)
    per_layer = found[True]["control/temperature/log_temperature"].numpy()
    assert per_layer.shape == (2,)
    assert np.all(per_layer != 0)
    assert per_layer.sum() == pytest.approx(float(found[False]["control/temperature/log_temperature"]), rel=1e-3)
    assert set(model.estimator.diagnostics()) == {"temperature_0", "temperature_1"}


def eta_model(group):
    model, x, _ = belief_network(Rebar(eta=group), 2)
    model.estimator.scale.raw_eta.assign(tf.fill(model.estimator.scale.raw_eta.shape, 0.4))
    return model, x


def test_groups_of_scales_nest():
    """Equal scales give equal estimates in any grouping; the derivative of a coarser group is the sum of the finer."""
    units, estimates, slopes = [], {}, {}
    for group in ("shared", "variable", "unit"):
        model, x = eta_model(group)
        units = [v.shape[-1] for v in model.model_variables]
        estimates[group] = model_gradients(model, x)
        slopes[group] = gradients(model, x)["control/scale/raw_eta"].numpy().astype(np.float64)
    for group in ("variable", "unit"):
        for g, other in zip(estimates[group], estimates["shared"], strict=True):
            np.testing.assert_allclose(g, other, rtol=1e-5, atol=1e-6)
    assert slopes["shared"].shape == (1,)
    assert slopes["unit"].shape == (sum(units),)
    by_variable = np.add.reduceat(slopes["unit"], np.cumsum([0, *units[:-1]]))
    np.testing.assert_allclose(slopes["variable"], by_variable, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(slopes["shared"], slopes["variable"].sum(), rtol=1e-3)
    assert np.abs(slopes["variable"]).max() > 1e-3


def test_scales_of_units_scale_their_units():
    """`g = f + eta h`, eta along the last axis."""
    model, x = eta_model("unit")

    def at(raw):
        model.estimator.scale.raw_eta.assign(raw)
        return model_gradients(model, x)

    size = model.estimator.scale.raw_eta.shape[0]
    raw = np.random.default_rng(0).normal(size=size)
    eta, offset = 2.0 / (1.0 + np.exp(-raw)), 0
    for f, full, g in zip(at(np.full(size, -1e9)), at(np.zeros(size)), at(raw), strict=True):
        h = full - f
        np.testing.assert_allclose(g, f + eta[offset : offset + f.shape[-1]] * h, rtol=1e-4, atol=1e-5)
        offset += f.shape[-1]
    assert offset == size


@pytest.mark.parametrize("rule", ["n_pass", "q_function"])
def test_a_group_of_scales_is_unbiased(rule):
    require_unbiased(check(*belief_network(RULES[rule](eta="unit"), 2), jit_compile=False), detectable=0.3)


def test_q_is_trained_by_squared_error_and_the_rest_on_the_variance():
    model, x, _ = belief_network(QFunction(), 2)
    estimator = model.estimator
    both = gradients(model, x)
    is_q = {v.path: "/q_" in v.path for v in model.control_variables}
    assert sum(is_q.values()) == 8
    estimator._squared_error = lambda site, f: tf.constant(0.0)
    variance_only = gradients(model, x)
    for path, q in is_q.items():
        if q:
            assert variance_only[path] is None
        else:
            np.testing.assert_array_equal(both[path], variance_only[path])
            assert np.abs(both[path]).max() > 0
    del estimator._squared_error

    with HardSampler(1) as trace, tf.GradientTape() as tape:
        f = model.objective(x)[0]
        loss = 0.0
        for i, site in enumerate(trace):
            y = site.distribution.relax(site.z, estimator.temperature.of_layer(i))
            loss += tf.reduce_mean(tf.square(f - estimator.networks[i](y, tf.sigmoid(site.logits))))
    q_variables = [v for v in model.control_variables if is_q[v.path]]
    for variable, expected in zip(q_variables, tape.gradient(loss, [v.value for v in q_variables]), strict=True):
        assert np.abs(expected).max() > 0
        np.testing.assert_allclose(both[variable.path], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_q_learns_to_predict_the_objective():
    model, x, _ = belief_network(QFunction(), 2)
    optimizer = keras.optimizers.Adam(1e-2)
    q_variables = [v for v in model.control_variables if "/q_" in v.path]
    optimizer.build(q_variables)
    data = tf.repeat(tf.constant(x), 50, axis=0)

    @tf.function
    def train():
        for _ in tf.range(300):
            found = gradients_of(model, data)
            optimizer.apply_gradients([(found[v.path], v) for v in q_variables])

    def loss():
        with HardSampler(10_000) as trace:
            f = model.objective(data)[0]
        return float(sum(model.estimator._squared_error(site, f) for site in trace))

    before = loss()
    train()
    assert loss() < 0.5 * before


@pytest.mark.parametrize("family", ["bernoulli", "categorical"])
def test_eq7_at_a_large_temperature_is_simple_muprop(family):
    """Appendix E; one layer, both scales 1, no baseline, the same noise."""
    rng = np.random.default_rng(0)
    logits, weights = (tf.constant(rng.normal(size=shape), tf.float32) for shape in ([50, 4, 3], [4, 3]))

    def fn(b):
        return tf.square(tf.reduce_sum(b * weights, axis=[1, 2]) - 0.45)

    def estimate(estimator):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = rt.expectation(fn, logits, estimator, family=family, seed=3)
        return tape.gradient(value, logits).numpy()

    muprop = estimate("simple_muprop")
    np.testing.assert_allclose(estimate(Rebar(1e9)), muprop, rtol=1e-5, atol=1e-5 * np.abs(muprop).max())
    assert np.abs(estimate(Rebar(1e9, relaxation="concrete")) - muprop).max() > 0.1
    assert np.abs(estimate(Rebar(1.0)) - muprop).max() > 0.1


def set_scales(model, etas):
    """Sets eta = 2 sigmoid(raw), within (0, 2)."""
    halves = np.clip(np.asarray(etas) / 2, 1e-6, 1 - 1e-6)
    model.estimator.scale.raw_eta.assign(np.log(halves) - np.log1p(-halves))


def summed_variance(model, x, num_estimates):
    """Of each variable; the same noise at every call."""
    model.estimator.step.assign(0)
    return [v.sum() for v in rt.diagnostics.gradient_variance(model, x, num_estimates=num_estimates, jit_compile=False)]


def test_variance_is_a_parabola_in_the_scale_with_the_stated_minimum():
    """Appendix A. With common noise this is algebra, not statistics."""
    model = rt.diagnostics.expectation_model(lambda b: (tf.reduce_sum(b, 1) - 0.45) ** 2, [0.3, -1.0, 1.5], Rebar(0.3))
    x = np.zeros([8, 1], np.float32)
    (best,) = rt.diagnostics.optimal_scales(model, x, num_estimates=200, jit_compile=False)
    etas, variances = [0.2, 0.7, 1.1, 1.5, 1.9], []
    for eta in etas:
        set_scales(model, [eta])
        variances += summed_variance(model, x, 200)
    parabola = np.polyfit(etas[::2], variances[::2], 2)
    np.testing.assert_allclose(np.polyval(parabola, etas), variances, rtol=1e-3)
    assert parabola[0] > 0
    assert best == pytest.approx(-parabola[1] / (2 * parabola[0]), abs=1e-3)
    assert abs(best - 1.0) > 0.1


@pytest.mark.slow
def test_optimal_scales_lower_the_variance_of_every_variable():
    model, x, _ = belief_network(Rebar(0.3), 2)
    step = int(model.estimator.step.value)
    best = rt.diagnostics.optimal_scales(model, x, num_estimates=300, jit_compile=False)
    assert int(model.estimator.step.value) == step
    paths = [v.path for v in model.model_variables]
    assert [np.isfinite(eta) for eta in best] == [is_encoder(path) for path in paths]
    set_scales(model, np.ones(len(best)))
    ones = summed_variance(model, x, 300)
    set_scales(model, np.nan_to_num(best, nan=1.0))
    optimal = summed_variance(model, x, 300)
    for path, eta, variance, at_one in zip(paths, best, optimal, ones, strict=True):
        if is_encoder(path):
            assert variance <= at_one * (1 + 1e-5)
            assert abs(eta - 1) < 0.03 or variance < at_one * (1 - 1e-4)
    assert np.nanmax(np.abs(np.subtract(best, 1))) > 0.1


@pytest.mark.parametrize(
    "options",
    [
        *(dict(group_size=size) for size in (1, None, 2)),
        dict(temperature_per_layer=True, eta="unit", relaxation="concrete"),
    ],
)
def test_options_are_saved(options):
    again = rt.estimators.get(keras.saving.serialize_keras_object(Rebar(**options)))
    assert again.get_config() == Rebar(**options).get_config()
    assert options.items() <= again.get_config().items()


def test_optimal_scales_need_a_control_variate():
    model, x, _ = belief_network("rloo", 1)
    with pytest.raises(ValueError, match=r"scaled control variate, such as rebar.*rloo"):
        rt.diagnostics.optimal_scales(model, x)


@pytest.mark.parametrize("options", [{"temperature_per_layer": True}, {"learn_temperature": False}])
def test_q_is_not_trained_on_the_variance_whichever_way_that_is_differentiated(options):
    model, x, _ = belief_network(QFunction(**options), 2)
    model.estimator._squared_error = lambda site, f: tf.constant(0.0)
    found = {path: g for path, g in gradients(model, x).items() if "/q_" in path}
    assert len(found) == 8
    assert all(g is None for g in found.values())
