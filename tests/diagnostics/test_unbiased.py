"""Unbiasedness, per parameter and per layer, against exact enumeration; and broken twins that the same check rejects.

Each check rejects an unbiased estimator with probability 1e-4, over all coordinates of all variables together, and the
seeds are fixed. It also asserts its own power: a bias of the stated fraction of a variable's largest gradient entry
would be seen with probability 0.99.

The whole registry runs with two binary layers, and eagerly through `expectation` with both families; those whose passes
differ by layer with three as well, and under XLA, where a check is mostly compilation; and, marked slow, all with 1, 2
and 3 layers of both, in both ways at ten times the samples.
"""

from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.marks import slow_but
from helpers.networks import (
    BIASED,
    INDEPENDENT,
    NETWORKS,
    UNBIASED,
    belief_network,
    chain_network,
    check,
    randomize_control,
    require_unbiased,
    serving,
)

import rebar_tf as rt
from benchmarks.released_rebar import ReleasedRebar
from rebar_tf import distributions
from rebar_tf.distributions import subset as subset_module
from rebar_tf.distributions.math import per_unit
from rebar_tf.estimators import Estimate, Rebar
from rebar_tf.estimators import arms as arms_module
from rebar_tf.estimators import carms as carms_module
from rebar_tf.estimators import decisions as decisions_module
from rebar_tf.estimators import multi_sample_rebar as multi_sample_rebar_module
from rebar_tf.estimators import ovis as ovis_module
from rebar_tf.estimators import rebar as rebar_module
from rebar_tf.estimators import relax as relax_module
from rebar_tf.estimators import rloo as rloo_module
from rebar_tf.estimators import rodeo as rodeo_module
from rebar_tf.estimators import unordered_set as unordered_set_module
from rebar_tf.estimators.joint_states import JointStates
from rebar_tf.sampling import RelaxedSampler

QUICK = [
    *(("categorical", name) for name in ("rebar", "muprop", "rloo", "disarm", "unordered_set")),
    ("subset", "reinforce"),
]
BY_LAYER = ("rebar", "relax", "muprop", "disarm", "double_cv")  # whose passes differ by layer


def registry(names, quick=lambda name, family: True, families=NETWORKS):
    """Every name with every family that it serves, marked slow but for the quick ones."""
    cases = [(name, family) for family in families for name in serving(names, family)]
    return pytest.mark.parametrize(("name", "family"), slow_but(quick, cases))


@registry(UNBIASED, quick=lambda name, family: family == "bernoulli" or (family, name) in QUICK)
def test_unbiased_in_every_variable(name, family):
    report = check(*NETWORKS[family](name, 2), jit_compile=family == "bernoulli" and name in BY_LAYER)
    require_unbiased(report, detectable=0.3)


@registry(BY_LAYER, quick=lambda name, family: name == "rebar" and family == "bernoulli")
def test_unbiased_with_three_layers(name, family):
    report = check(*NETWORKS[family](name, 3), jit_compile=False)
    require_unbiased(report, detectable=0.3)


@pytest.mark.slow
@pytest.mark.parametrize("jit_compile", [True, False])
@pytest.mark.parametrize("num_layers", [1, 2, 3])
@registry(UNBIASED)
def test_unbiased_at_ten_times_the_samples(name, family, num_layers, jit_compile):
    report = check(*NETWORKS[family](name, num_layers), num_estimates=2500, jit_compile=jit_compile)
    require_unbiased(report, detectable=0.1)


@pytest.mark.parametrize(
    "name", slow_but(("rebar", "disarm"), ["rebar", "relax", "disarm", "muprop", "double_cv", "rodeo"])
)
def test_unbiased_where_the_loss_sees_the_last_layer_only(name):
    require_unbiased(check(*chain_network(name), jit_compile=False), detectable=0.5)


@registry(UNBIASED, families=INDEPENDENT)
def test_unbiased_expectation(name, family):
    """Eagerly; each row is an estimate."""
    estimator, rows = rt.estimators.get(name), 50_000
    kind = {"bernoulli": distributions.Bernoulli, "categorical": distributions.Categorical}[family]
    rng = np.random.default_rng(0)
    logits, weights = (tf.constant(rng.normal(size=[2, 3]), tf.float32) for _ in range(2))
    context = tf.constant(rng.normal(size=[rows, 2]), tf.float32)

    def fn(b):
        return tf.square(tf.reduce_sum(b * weights, axis=[1, 2]) - 0.45)

    def gradients(rows):
        at = tf.repeat(logits[tf.newaxis], rows, axis=0)
        with tf.GradientTape() as tape:
            tape.watch(at)
            value = rt.expectation(fn, at, estimator, family=family, seed=0, context=context[:rows])
        return tape.gradient(value, at).numpy().astype(np.float64)

    gradients(1)  # creates the control variables
    randomize_control(estimator.trainable_variables)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        states = tf.constant(kind.states((2, 3)))
        target = estimator.exact_target(fn(states)[:, tf.newaxis], kind(logits).log_prob(states)[:, tf.newaxis])
    exact = tape.gradient(target, logits).numpy().astype(np.float64)
    estimates = gradients(rows)
    error = estimates.std(axis=0, ddof=1) / np.sqrt(rows)
    report = rt.diagnostics.BiasReport(["logits"], [exact], [estimates.mean(axis=0)], [error], rows, 1e-4, 0.99)
    require_unbiased(report, detectable=0.3)


@pytest.mark.parametrize("temperature", slow_but([0.1], [0.05, 0.1, 3.0]))
@pytest.mark.parametrize("relaxation", ["eq7", "concrete"])
def test_rebar_is_unbiased_at_any_temperature(temperature, relaxation):
    network = belief_network(Rebar(temperature, learn_temperature=False, relaxation=relaxation), 2)
    require_unbiased(check(*network, jit_compile=False), detectable=0.3)


@pytest.mark.parametrize("num_layers", slow_but([2], [1, 2]))
@registry(BIASED, quick=lambda name, family: family != "subset")
def test_biased_estimators_are_shown_biased(name, family, num_layers):
    report = check(*NETWORKS[family](name, num_layers), num_estimates=60, jit_compile=False)
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
            f_relaxed, (relaxed,), (derivative,) = self.relaxed_objective(objective, trace, [site])
            estimate.plain.append(per_unit(f, site.score) * site.score)
            estimate.variate.append(
                self.broken_variate(site, f_relaxed, derivative, relaxed, self.temperature.of_layer(0))
            )
        return estimate

    def broken_variate(self, site, f_relaxed, derivative, relaxed, temperature):
        correct = rebar_module.control_variate(site, f_relaxed, derivative, relaxed, temperature)
        score_term = -per_unit(f_relaxed, site.score) * site.score
        residual = correct - score_term
        to_z = site.distribution.relaxation_vjp(derivative, relaxed, temperature)
        return {
            None: correct,
            "sign of the residual": score_term - residual,
            "no residual": score_term,
            "no score term": residual,
            "conditional derivative left out": score_term + to_z,
            "factor 1/lambda left out": score_term + residual * temperature,
            "derivative at the hard sample": score_term
            + site.distribution.coupled_residual_vjp(
                site.distribution.relaxation_vjp(derivative, site.sample, temperature), site.z, site.sample
            ),
            "residual of the other value": score_term
            + site.distribution.coupled_residual_vjp(to_z, site.z, 1.0 - site.sample),
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


@pytest.mark.parametrize("family", INDEPENDENT)
def test_the_twin_without_a_break_passes(family):
    require_unbiased(check(*NETWORKS[family](Twin(), 2), jit_compile=False), detectable=0.3)


@pytest.mark.parametrize(
    ("family", "num_layers"),
    slow_but([("bernoulli", 2)], [("bernoulli", 1), ("bernoulli", 2), ("categorical", 2)]),
)
@pytest.mark.parametrize("broken", BREAKS)
def test_broken_twins_are_rejected(broken, family, num_layers):
    report = check(*NETWORKS[family](Twin(broken), num_layers), num_estimates=150, jit_compile=False)
    assert not report.unbiased, report


def twin(parent, break_name, patch=None, **attributes):
    """A subclass with other attributes, or whose estimates are made with one function of the library replaced."""
    parent = type(rt.estimators.get(parent))
    if patch is not None:

        def estimate(self, *args):
            with mock.patch.object(*patch):
                return parent.estimate(self, *args)

        attributes["estimate"] = estimate
    cls = type(f"{parent.__name__}: {break_name}", (parent,), {"__module__": __name__, **attributes})
    return keras.saving.register_keras_serializable("tests")(cls)


def without_derivative(networks, group, temperature, frozen=False):
    value, relaxed, (derivative,) = LEARNED_OBJECTIVE(networks, group, temperature, frozen)
    return value, relaxed, [tf.zeros_like(derivative)]


def with_relaxed_z(self, objective, trace, group):
    """The relaxed pass's z in place of the hard pass's: the same in the first layer only."""
    seen = []

    def relax(distribution, z, layer):
        seen.append(z)
        return self.temperature.relax(distribution, z, layer)

    with RelaxedSampler(trace, 0, relax) as relaxed:
        f_relaxed = objective()
    for site, z in zip(group, seen, strict=True):
        site.z = z
    return f_relaxed, relaxed.outputs, relaxed.gradients(f_relaxed)


def forgetful_noise(decisions):
    """All decisions anew, in place of those behind the sample."""
    noise = decisions.uniform(8)
    return noise, decisions.made(noise)


def independent_draws(subset):
    return subset.size * tf.nn.softmax(subset.logits)


def drawn_evenly(log_weights, u):
    """Of the places of positive weight."""
    return INVERSE_CDF(tf.where(log_weights > -1e29, 0.0, log_weights), u)


INVERSE_CDF = subset_module.inverse_cdf
LEARNED_OBJECTIVE = relax_module.learned_objective
NO_CORRECTION = (distributions.Bernoulli, "mean_vjp", lambda self, cotangent: tf.zeros_like(self.logits))
TWINS = [
    twin("arm", "twice the weight", weight=lambda self, decisions, other: 2.0 * (decisions.noise - 0.5)),
    twin("arm", "sample as weight", weight=lambda self, decisions, other: decisions.drawn - 0.5),
    twin("disarm", "no sigmoid", weight=lambda self, decisions, other: 0.5 * (decisions.drawn - other)),
    twin(
        "disarm",
        "logits for their size",
        weight=lambda self, decisions, other: 0.5 * (decisions.drawn - other) * tf.sigmoid(decisions.logits),
    ),
    twin(
        "rloo",
        "own sample in the baseline",
        (rloo_module, "mean_of_others", lambda f: tf.zeros_like(f) + tf.reduce_mean(f, 0)),
    ),
    twin(
        "rloo",
        "sum over the samples",
        scored=lambda self, traces, signals: rt.estimators.Rloo.scored(self, traces, 2.0 * signals),
    ),
    twin("vimco", "no score of the density", score_in_density=False),
    twin(
        "vimco",
        "twice the signal",
        scored=lambda self, traces, signals: rt.estimators.Vimco.scored(self, traces, 2.0 * signals),
    ),
    twin("double_cv", "no correction", NO_CORRECTION),
    twin("muprop", "no correction", NO_CORRECTION),
    twin("relax", "no derivative of the network", (relax_module, "learned_objective", without_derivative)),
    twin(
        "rodeo",
        "probability of the drawn value",
        (
            rodeo_module,
            "probability_of_flip",
            lambda site: tf.sigmoid((2.0 * site.sample - 1.0) * site.logits),
        ),
    ),
    twin(
        "rodeo",
        "no value before the flip",
        (
            rodeo_module,
            "stein",
            lambda site, value, flipped: tf.reduce_mean(rodeo_module.probability_of_flip(site) * flipped, axis=1),
        ),
    ),
    twin(
        "arms",
        "no correlation",
        (arms_module, "one_over_one_less_correlation", lambda logits, num_samples: tf.ones_like(logits)),
    ),
    twin(
        "local_expectation",
        "no probability",
        (distributions.Bernoulli, "log_prob_of_units", lambda self, b: tf.zeros_like(b)),
    ),
    twin("rao_blackwell", "whole weight of the rest", (JointStates, "log_p_without", lambda self, places: 0.0)),
    twin(
        "unordered_set",
        "no leave-one-out ratio",
        (unordered_set_module, "log_probability", lambda those, log_p, log_rest: tf.zeros_like(log_rest)),
    ),
    twin(
        "multi_sample_rebar",
        "own sample in the baseline",
        (multi_sample_rebar_module, "mean_of_others", lambda f: tf.zeros_like(f) + tf.reduce_mean(f, 0)),
    ),
    twin("ovis", "own sample in the baseline", (ovis_module, "log_one_less_share", lambda weights: 0.0 * weights)),
    twin(
        "wake_sleep",
        "half the signal",
        scored=lambda self, traces, signals: rt.estimators.WakeSleep.scored(self, traces, 0.5 * signals),
    ),
]


CATEGORICAL_TWINS = [
    twin(
        "carms",
        "independent pairs' weight",
        (
            carms_module.Intervals,
            "weights",
            lambda self, samples, pairs: [tf.ones_like(samples[0][..., :1]) for _ in pairs],
        ),
    ),
    twin("lax", "no derivative of the network", (relax_module, "learned_objective", without_derivative)),
    twin("disarm", "no sigmoid on the tree", weight=lambda self, decisions, other: 0.5 * (decisions.drawn - other)),
    twin(
        "disarm",
        "noise that forgets the sample",
        (decisions_module.Decisions, "_noise_given_sample", forgetful_noise),
    ),
]
SUBSET_TWINS = [
    (twin("reinforce", "mean of independent draws", (distributions.Subset, "mean", independent_draws)), "subset"),
    pytest.param(
        *(twin("rloo", "units drawn evenly", (subset_module, "inverse_cdf", drawn_evenly)), "subset"),
        marks=pytest.mark.slow,
    ),
]


@pytest.mark.parametrize(
    ("broken", "family"),
    [*((cls, "bernoulli") for cls in TWINS), *((cls, "categorical") for cls in CATEGORICAL_TWINS), *SUBSET_TWINS],
    ids=lambda part: getattr(part, "__name__", part),
)
def test_broken_twins_of_the_others_are_rejected(broken, family):
    report = check(*NETWORKS[family](broken(), 2), num_estimates=150, jit_compile=False)
    assert not report.unbiased, report


CoupledTwin = twin("rebar", "relaxed z", relaxed_objective=with_relaxed_z)


def test_coupling_the_relaxed_z_is_rejected_beyond_the_first_layer():
    report = check(*belief_network(CoupledTwin(group_size=None), 2), num_estimates=60, jit_compile=False)
    biased = {
        name.split("/")[0] for name, z in zip(report.names, report.z, strict=True) if np.abs(z).max() > report.threshold
    }
    assert biased == {"encoder_0", "encoder_1"} or biased == {"encoder_1"}, report


def test_the_rule_of_the_released_code_is_rejected_in_the_second_layer():
    report = check(*belief_network(ReleasedRebar(), 2), num_estimates=60, jit_compile=False)
    second = [np.abs(z).max() for name, z in zip(report.names, report.z, strict=True) if name.startswith("encoder_1/")]
    assert min(second) > 2 * report.threshold, report


def test_a_report_states_its_error_rate_and_power():
    model = rt.diagnostics.expectation_model(lambda b: b[:, 0], [0.0], "reinforce")
    report = rt.diagnostics.check_unbiased(model, np.zeros([64, 1], np.float32), num_estimates=400)
    assert report.names[1] == "loss"
    assert report.exact[1] == pytest.approx(0.5)
    assert report.threshold == pytest.approx(4.10, abs=0.01)  # the two-sided quantile of 5e-5, 399 degrees of freedom
    assert report.exact[0] == pytest.approx(0.25)
    error = report.standard_error[0][0]
    assert report.detectable == pytest.approx((4.10 + 2.33) * error / 0.25, rel=0.01)
    assert error == pytest.approx(np.sqrt(0.0625 / (64 * 400)), rel=0.2)  # b (b - 1/2) is 0 or 1/2


def test_the_stated_false_alarm_rate_holds():
    """At a rate of one half, about half of many independent checks of an unbiased estimator must fail, not none."""
    model = rt.diagnostics.expectation_model(lambda b: (b[:, 0] - 0.45) ** 2, [0.3], "reinforce")
    x = np.zeros([64, 1], np.float32)
    settings = dict(num_estimates=50, false_alarm=0.5, jit_compile=False)
    alarms = sum(not rt.diagnostics.check_unbiased(model, x, **settings).unbiased for _ in range(40))
    assert 6 <= alarms <= 34  # 1e-5 of the binomial law on each side


def test_enumeration_refuses_too_many_units():
    model = rt.diagnostics.expectation_model(lambda b: tf.reduce_sum(b, 1), np.zeros(13), "reinforce")
    with pytest.raises(ValueError, match=r"at most 4096 joint states.*8192"):
        rt.diagnostics.exact_gradients(model, np.zeros([2, 1], np.float32))
