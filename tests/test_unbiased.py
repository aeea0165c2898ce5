"""Unbiasedness, per parameter and per layer, against exact enumeration; and broken twins that the same check rejects.

Each check rejects an unbiased estimator with probability 1e-4, over all coordinates of all variables together, and the
seeds are fixed. It also asserts its own power: a bias of the stated fraction of a variable's largest gradient entry
would be seen with probability 0.99.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

import rebar_tf as rt
from rebar_tf.estimators import Estimate, Rebar
from rebar_tf.estimators import rebar as rebar_module
from rebar_tf.reparameterization import per_unit
from rebar_tf.sampling import RelaxedSampler, Site

UNBIASED = [name for name in rt.estimators.names() if rt.estimators.get(name).unbiased]
BIASED = [name for name in rt.estimators.names() if not rt.estimators.get(name).unbiased]


def belief_network(estimator, num_layers, seed=0, scale=1.0):
    """A small network with random weights, biases and control-variate scales, and a batch of repeated inputs."""
    model = rt.models.SigmoidBeliefNetwork(
        num_layers=num_layers, hidden_units=3, visible_units=5, seed=seed, estimator=estimator
    )
    rng = np.random.default_rng(seed)
    for variable in model.model_variables:
        variable.assign(rng.normal(scale=scale, size=variable.shape))
    if hasattr(model.estimator, "raw_eta"):
        model.estimator.raw_eta.assign(rng.normal(size=model.estimator.raw_eta.shape))
    return model, np.repeat(rng.integers(0, 2, (4, 5)), 32, axis=0).astype(np.float32)


def functional_model(estimator):
    """Two stochastic layers of other values and widths, a nonlinear segment.

    The loss sees the first layer too.
    """
    x = keras.Input((3,))
    first = rt.layers.StochasticBinary(estimator, values=(0, 1), seed=1)(keras.layers.Dense(4)(x))
    hidden = keras.layers.Dense(3, activation="tanh")(first)
    second = rt.layers.StochasticBinary(estimator, seed=2)(keras.layers.Dense(2)(hidden))
    model = rt.StochasticModel(x, keras.layers.Dense(2, activation="tanh")(keras.layers.Concatenate()([first, second])))
    model.compile(optimizer=rt.optimizers.Adam(1e-3), loss="mse")
    rng = np.random.default_rng(0)
    for variable in model.model_variables:
        variable.assign(rng.normal(size=variable.shape))
    x, y = rng.normal(size=(4, 3)), rng.normal(size=(4, 2))
    return model, *(np.repeat(t, 32, axis=0).astype(np.float32) for t in (x, y))


def require_unbiased(report, detectable):
    assert report.detectable < detectable, f"the check has too little power\n{report}"
    assert report.unbiased, f"biased\n{report}"


@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("name", UNBIASED)
def test_unbiased_in_every_variable(name, num_layers):
    model, x = belief_network(name, num_layers)
    require_unbiased(rt.testing.check_unbiased(model, x, num_estimates=4000), detectable=0.25)


@pytest.mark.parametrize("name", UNBIASED)
def test_unbiased_in_a_functional_model(name):
    model, x, y = functional_model(name)
    require_unbiased(rt.testing.check_unbiased(model, x, y, num_estimates=4000), detectable=0.25)


@pytest.mark.parametrize("name", UNBIASED)
def test_unbiased_expectation(name):
    model = rt.testing.expectation_model(lambda b: (tf.reduce_sum(b, 1) - 0.45) ** 2, [0.3, -1.0, 1.5], name)
    require_unbiased(rt.testing.check_unbiased(model, np.zeros([256, 1], np.float32), num_estimates=2000), 0.1)


@pytest.mark.parametrize("name", UNBIASED)
def test_unbiased_outside_of_xla(name):
    model, x = belief_network(name, 2)
    require_unbiased(rt.testing.check_unbiased(model, x, num_estimates=1000, jit_compile=False), detectable=0.5)


@pytest.mark.parametrize("temperature", [0.05, 0.1, 3.0])
@pytest.mark.parametrize("relaxation", ["eq7", "concrete"])
def test_rebar_is_unbiased_at_any_temperature(temperature, relaxation):
    model, x = belief_network(Rebar(temperature, learn_temperature=False, relaxation=relaxation), 2)
    require_unbiased(rt.testing.check_unbiased(model, x, num_estimates=4000), detectable=0.4)


@pytest.mark.slow
@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("name", UNBIASED)
def test_unbiased_at_ten_times_the_samples(name, num_layers):
    model, x = belief_network(name, num_layers)
    require_unbiased(rt.testing.check_unbiased(model, x, num_estimates=40_000), detectable=0.1)


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("name", BIASED)
def test_biased_estimators_are_shown_biased(name, num_layers):
    model, x = belief_network(name, num_layers)
    report = rt.testing.check_unbiased(model, x, num_estimates=2000)
    assert report.max_abs_z > 2 * report.threshold, report


class Twin(Rebar):
    """REBAR with one thing broken."""

    def __init__(self, broken=None, **kwargs):
        super().__init__(**kwargs)
        self.broken = broken

    def get_config(self):
        return {**super().get_config(), "broken": self.broken}

    def estimate(self, objective, step, context=None):
        trace, f = self.hard_pass(objective, step)
        estimate = Estimate(value=f, direct=f, sites=list(trace.sites))
        for site in trace:
            with RelaxedSampler(trace, site.index, self.temperature(), self.relaxation) as relaxed:
                f_relaxed = objective()
            derivative = relaxed.gradient(f_relaxed)
            estimate.plain.append(per_unit(f, site.score) * site.score)
            estimate.variate.append(
                self.broken_variate(site, f_relaxed, derivative, relaxed.relaxed, self.temperature())
            )
        return estimate

    def broken_variate(self, site, f_relaxed, derivative, relaxed, temperature):
        correct = rebar_module.control_variate(site, f_relaxed, derivative, relaxed, temperature)
        score_term = -per_unit(f_relaxed, site.score) * site.score
        residual = correct - score_term
        to_z = site.family.relaxation_vjp(derivative, relaxed, temperature)
        return {
            None: correct,
            "sign of the residual": score_term - residual,
            "no residual": score_term,
            "no score term": residual,
            "conditional derivative left out": score_term + to_z,
            "factor 1/lambda left out": score_term + residual * temperature,
            "derivative at the hard sample": score_term
            + site.family.coupled_residual_vjp(
                site.family.relaxation_vjp(derivative, site.sample, temperature),
                site.z,
                site.sample,
                site.logits,
            ),
            "residual of the other value": score_term
            + site.family.coupled_residual_vjp(to_z, site.z, 1.0 - site.sample, site.logits),
        }[self.broken]


keras.saving.register_keras_serializable("tests")(Twin)
BREAKS = [
    "sign of the residual",
    "no residual",
    "no score term",
    "conditional derivative left out",
    "factor 1/lambda left out",
    "derivative at the hard sample",
    "residual of the other value",
]


def test_the_twin_without_a_break_passes():
    model, x = belief_network(Twin(), 2)
    require_unbiased(rt.testing.check_unbiased(model, x, num_estimates=4000), detectable=0.25)


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("broken", BREAKS)
def test_broken_twins_are_rejected(broken, num_layers):
    model, x = belief_network(Twin(broken), num_layers)
    report = rt.testing.check_unbiased(model, x, num_estimates=4000)
    assert not report.unbiased, report


class RecordingSampler(RelaxedSampler):
    """Remembers the relaxed layers after the first, as the pass saw them."""

    def sample(self, family, logits, seed):
        site = self.trace.sites[self._next]
        relaxed = super().sample(family, logits, seed)
        self.later = Site(site.index, family, logits, site.noise, family.reparameterize(site.noise, logits), relaxed)
        return relaxed


@keras.saving.register_keras_serializable("tests")
class ConditionsLaterLayers(Rebar):
    """The rule of the paper's released code.

    Later layers are conditioned on their samples too, without their score term.
    """

    def estimate(self, objective, step, context=None):
        estimate = super().estimate(objective, step, context)
        temperature = self.temperature()
        trace = rt.sampling.HardSampler(step)
        trace.sites = estimate.sites[:2]
        with RecordingSampler(trace, 0, temperature, self.relaxation) as relaxed:
            f_relaxed = objective()
        later = relaxed.later
        to_z = later.family.relaxation_vjp(relaxed._tape.gradient(f_relaxed, later.sample), later.sample, temperature)
        residual = later.family.coupled_residual_vjp(to_z, later.z, later.family.threshold(later.z), later.logits)
        estimate.sites = [*estimate.sites, later]
        estimate.plain.append(tf.zeros_like(residual))
        estimate.variate.append(residual)
        return estimate


def test_conditioning_later_layers_is_rejected_in_the_second_layer():
    model, x = belief_network(ConditionsLaterLayers(), 2)
    report = rt.testing.check_unbiased(model, x, num_estimates=4000)
    second = [np.abs(z).max() for name, z in zip(report.names, report.z, strict=True) if name.startswith("encoder_1/")]
    assert min(second) > 2 * report.threshold, report


def test_a_report_states_its_error_rate_and_power():
    model = rt.testing.expectation_model(lambda b: b[:, 0], [0.0], "reinforce")
    report = rt.testing.check_unbiased(model, np.zeros([64, 1], np.float32), num_estimates=400)
    assert report.threshold == pytest.approx(3.89, abs=0.01)  # the two-sided normal quantile of 1e-4
    assert report.exact[0] == pytest.approx(0.25)
    error = report.standard_error[0][0]
    assert report.detectable == pytest.approx((3.89 + 2.33) * error / 0.25, rel=0.01)
    assert error == pytest.approx(np.sqrt(0.0625 / (64 * 400)), rel=0.2)  # b (b - 1/2) is 0 or 1/2


def test_the_stated_false_alarm_rate_holds():
    """At a rate of one half, about half of many independent checks of an unbiased estimator must fail, not none."""
    model = rt.testing.expectation_model(lambda b: (b[:, 0] - 0.45) ** 2, [0.3], "reinforce")
    x = np.zeros([64, 1], np.float32)
    alarms = sum(not rt.testing.check_unbiased(model, x, num_estimates=50, false_alarm=0.5).unbiased for _ in range(40))
    assert 6 <= alarms <= 34  # 1e-5 of the binomial law on each side


def test_enumeration_refuses_too_many_units():
    model = rt.testing.expectation_model(lambda b: tf.reduce_sum(b, 1), np.zeros(13), "reinforce")
    with pytest.raises(ValueError, match=r"at most 12.*13"):
        rt.testing.exact_gradients(model, np.zeros([2, 1], np.float32))
