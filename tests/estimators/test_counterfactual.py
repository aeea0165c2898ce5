"""The estimators that evaluate the objective at other samples of one layer, by their formulas and on closed forms."""

import functools
import itertools

import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf

import rebar_tf as rt
from rebar_tf.distributions import Bernoulli, Categorical
from rebar_tf.estimators import Arms, DisArm, RaoBlackwell, UnorderedSet
from rebar_tf.estimators.arms import one_over_one_less_correlation
from rebar_tf.estimators.decisions import Decisions
from rebar_tf.estimators.unordered_set import log_probability
from rebar_tf.expectation import _default
from rebar_tf.sampling import HardSampler, Source

RNG = np.random.default_rng(0)
FALSE_ALARM = 1e-6
LOGITS = {"bernoulli": RNG.normal(size=(5, 3)), "categorical": RNG.normal(size=(5, 2, 3))}
KINDS = {"bernoulli": Bernoulli, "categorical": Categorical}
WEIGHTS = {family: RNG.normal(size=logits.shape[1:]) for family, logits in LOGITS.items()}
FAMILIES = pytest.mark.parametrize("family", KINDS)


def f(family, b):
    """A function with interactions, of TensorFlow's and NumPy's samples."""
    units = (b * WEIGHTS[family]).reshape(len(b), -1) if isinstance(b, np.ndarray) else None
    if units is None:
        units = tf.reshape(b * tf.constant(WEIGHTS[family], tf.float32), [tf.shape(b)[0], -1])
        return tf.square(tf.reduce_sum(units, axis=1) - 0.4) + units[:, 0] * units[:, 1]
    return np.square(units.sum(axis=1) - 0.4) + units[:, 0] * units[:, 1]


def estimate(family, estimator, seed=0):
    """Of one call of `expectation`: the gradient, and the hard sample."""
    logits = tf.constant(LOGITS[family], tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = rt.expectation(functools.partial(f, family), logits, estimator, family=family, seed=seed)
    return tape.gradient(value, logits).numpy(), hard_sample(family, seed).sample.numpy()


def hard_sample(family, seed):
    with HardSampler(seed) as trace:
        trace.sample(KINDS[family](tf.constant(LOGITS[family], tf.float32)), Source("expectation", seed=0))
    return trace.sites[0]


def mean(family):
    """Of the units, in float64."""
    return {"bernoulli": scipy.special.expit, "categorical": functools.partial(scipy.special.softmax, axis=-1)}[family](
        LOGITS[family]
    )


def table(family):
    """All states, and the probability of each for each example."""
    states = np.asarray(KINDS[family].states(LOGITS[family].shape[1:]), np.float64)
    p = mean(family)[:, np.newaxis]
    of_units = np.where(states > 0, p, 1 - p if family == "bernoulli" else 1.0)
    return states, of_units.reshape(len(p), len(states), -1).prod(axis=-1)


def exact(family):
    states, p = table(family)
    values, scores = f(family, states), states - mean(family)[:, np.newaxis]
    return np.einsum("es,s,es...->e...", p, values, scores)


@FAMILIES
def test_local_expectation_sums_out_each_unit(family):
    gradient, b = estimate(family, "local_expectation")
    p, expected = mean(family), np.zeros(b.shape)
    for unit in np.ndindex(b.shape[1 : 2 if family == "bernoulli" else -1]):
        for value in range(2 if family == "bernoulli" else b.shape[-1]):
            changed = b.astype(float)
            one_hot = float(value) if family == "bernoulli" else np.eye(b.shape[-1])[value]
            changed[(slice(None), *unit)] = one_hot
            own = p[(slice(None), *unit)]
            of_value = own * value + (1 - own) * (1 - value) if family == "bernoulli" else own[:, value]
            score = (f(family, changed) * of_value).reshape(-1, *[1] * (own.ndim - 1)) * (one_hot - own)
            expected[(slice(None), *unit)] += score
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-5)


@FAMILIES
def test_local_expectation_of_one_unit_is_exact(family):
    logits = tf.constant(LOGITS[family][:, :1], tf.float32)
    weights = tf.constant(WEIGHTS[family][:1], tf.float32)
    found = []
    for estimator in ("local_expectation", "exact"):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = rt.expectation(
                lambda b: tf.exp(tf.reduce_sum(tf.reshape(b * weights, [5, -1]), axis=1)),
                logits,
                estimator,
                family=family,
                seed=3,
            )
        found.append(tape.gradient(value, logits))
    np.testing.assert_allclose(*found, rtol=1e-4, atol=1e-6)


@FAMILIES
def test_all_states_summed_out_are_exact(family):
    gradient, _ = estimate(family, RaoBlackwell(num_likeliest=9))
    np.testing.assert_allclose(gradient, exact(family), rtol=1e-4, atol=1e-5)


def place_of(gradient, candidates):
    """The place of the one candidate that the gradient is."""
    errors = [np.abs(candidate - gradient).max() for candidate in candidates]
    assert np.sort(errors)[0] < 1e-4 < np.sort(errors)[1]
    return np.argmin(errors)


@FAMILIES
def test_rao_blackwell_is_its_formula_for_one_of_the_states_that_are_left(family):
    states, p = table(family)
    values, drawn = f(family, states), []
    for seed in range(5):
        gradient, _ = estimate(family, RaoBlackwell(num_likeliest=2), seed)
        for e in range(len(gradient)):
            likeliest = np.argsort(p[e])[-2:]
            rest = np.delete(np.arange(len(states)), likeliest)
            baseline = p[e, likeliest] @ values[likeliest] / p[e, likeliest].sum()
            scores = (values - baseline).reshape(-1, *[1] * (states.ndim - 1)) * (states - mean(family)[e])
            summed = np.tensordot(p[e, likeliest], scores[likeliest], axes=1)
            candidates = summed + p[e, rest].sum() * scores[rest]
            drawn.append(place_of(gradient[e], candidates))
    assert len(set(drawn)) > 1


def probability_of_set(p, members):
    """Of drawing these without replacement in any order, one order after the other."""
    total = 0.0
    for order in itertools.permutations(members):
        left, product = sum(p), 1.0
        for s in order:
            product *= p[s] / left
            left -= p[s]
        total += product
    return total


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_the_probability_of_a_set_is_a_sum_over_orders(size):
    p = RNG.dirichlet(np.ones(6))
    log_p = [tf.constant([np.log(value)], tf.float32) for value in p[:size]]
    log_rest = tf.constant([np.log(p[size:].sum())], tf.float32)
    found = log_probability(frozenset(range(size)), log_p, log_rest)
    np.testing.assert_allclose(np.exp(found), probability_of_set(p, range(size)), rtol=1e-5)


def test_the_whole_of_the_states_is_drawn_for_sure():
    log_p = [tf.constant([np.log(value)], tf.float32) for value in (0.5, 0.3, 0.2)]
    found = log_probability(frozenset(range(3)), log_p, tf.constant([-np.inf], tf.float32))
    np.testing.assert_allclose(found, [0.0], atol=1e-6)


def test_a_set_of_all_states_is_exact():
    logits = tf.constant(RNG.normal(size=(6, 1, 4)), tf.float32)
    weights = tf.constant(RNG.normal(size=(4,)), tf.float32)
    found = []
    for estimator in (UnorderedSet(num_samples=4), "exact"):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = rt.expectation(
                lambda b: tf.linalg.matvec(b[:, 0], weights), logits, estimator, family="categorical", seed=1
            )
        found.append(tape.gradient(value, logits))
    np.testing.assert_allclose(*found, rtol=1e-4, atol=1e-6)


@FAMILIES
def test_the_unordered_set_is_its_formula_for_one_of_the_other_states(family):
    states, p = table(family)
    values, drawn = f(family, states), []
    for seed in range(5):
        gradient, b = estimate(family, UnorderedSet(num_samples=2), seed)
        for e in range(len(gradient)):
            first = int(np.argmax([(state == b[e]).all() for state in states]))
            rest = np.delete(np.arange(len(states)), first)
            candidates = [pair(p[e], values, states - mean(family)[e], first, s) for s in rest]
            drawn.append(place_of(gradient[e], candidates))
    assert len(set(drawn)) > 1


def pair(p, values, scores, a, b):
    """The estimate of the set of two states."""
    total = 0.0
    for s, t in ((a, b), (b, a)):
        ratio = p[t] / (1 - p[s]) / probability_of_set(p, [a, b])
        baseline = p[s] * values[s] + p[t] * values[t] / (p[t] / (1 - p[s]))
        total = total + p[s] * ratio * (values[s] - baseline) * scores[s]
    return total


@FAMILIES
def test_arms_of_two_samples_is_disarm(family):
    for seed in range(5):
        pair_of = estimate(family, Arms(num_samples=2), seed)[0]
        np.testing.assert_allclose(pair_of, estimate(family, DisArm(), seed)[0], rtol=1e-4, atol=1e-6)
        assert np.abs(pair_of).max() > 1e-2


@pytest.mark.parametrize("num_samples", [2, 3, 5])
def test_samples_of_arms_have_the_law_of_one_and_the_stated_correlation(num_samples):
    rows, logits = 100_000, np.array([0.0, -0.4, 1.5, -3.0], np.float32)
    with HardSampler(1) as trace:
        trace.sample(Bernoulli(tf.tile(logits[np.newaxis], [rows, 1])), Source("units", seed=1))
    decisions = Decisions(trace.sites[0], tf.constant(1))
    made = np.stack([decisions.drawn, *Arms(num_samples).antithetic(decisions)])
    p = scipy.special.expit(logits.astype(np.float64))
    tests = num_samples * len(p) + num_samples * (num_samples - 1) // 2 * len(p)
    limit = scipy.stats.norm.isf(FALSE_ALARM / tests / 2)
    assert (np.abs(made.mean(axis=1) - p) < limit * np.sqrt(p * (1 - p) / rows)).all()
    one_less = 1.0 / one_over_one_less_correlation(tf.constant(logits), num_samples).numpy()
    assert (one_less > 1.0).all()
    for j, k in itertools.combinations(range(num_samples), 2):
        differ = (made[j] != made[k]).mean(axis=0)
        expected = 2 * p * (1 - p) * one_less
        assert (np.abs(differ - expected) < limit * np.sqrt(expected * (1 - expected) / rows) + 1e-9).all()


EXTREMES = np.array([[0.0, 200.0, -300.0], [1e4, -1e4, 0.0], [50.0, 49.0, -80.0], [-88.0, 88.0, 104.0]], np.float32)


@pytest.mark.parametrize("name", ["arm", "disarm", "arms", "local_expectation", "rao_blackwell", "unordered_set"])
@FAMILIES
def test_certain_units_have_a_finite_estimate(family, name):
    logits = tf.constant(EXTREMES if family == "bernoulli" else EXTREMES[:, np.newaxis])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = rt.expectation(
            lambda b: tf.reduce_sum(tf.reshape(b * b - 0.3 * b, [4, -1]), axis=1), logits, name, family=family, seed=0
        )
    assert np.isfinite(tape.gradient(value, logits)).all()


@pytest.mark.parametrize("name", ["disarm", "arms", "carms"])
@FAMILIES
def test_a_unit_that_has_one_value_in_all_samples_has_no_gradient_at_all(family, name):
    """Also where f is large, and its differences are rounded."""
    logits = np.array([[60.0, -60.0, 0.0]] * 32, np.float32)
    logits = tf.constant(logits if family == "bernoulli" else np.stack([logits, -logits], axis=1))
    weights = tf.constant(RNG.normal(size=logits.shape[1:]), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = rt.expectation(
            lambda b: 1234.5 + 100.0 * tf.reduce_sum(tf.reshape(weights * b, [32, -1]), axis=1),
            logits,
            name,
            family=family,
            seed=0,
        )
    gradient = tape.gradient(value, logits).numpy()
    assert not gradient[:, :2].any() if family == "bernoulli" else not gradient.any()
    assert family == "categorical" or gradient[:, 2].any()


def test_a_baseline_may_see_another_context_in_another_call():
    logits = tf.zeros([4, 2])
    for size in (3, None, 5, 3):
        context = None if size is None else tf.ones([4, size])
        rt.expectation(lambda b: b[:, 0], logits, "nvil", context=context, seed=0)
        baseline = _default("nvil", "bernoulli", (2,), size).baseline
        assert (None if baseline is None else baseline.weights[0].shape[0]) == size


@pytest.mark.parametrize("classes", [2, 3, 5, 8])
def test_decisions_have_the_law_of_the_classes(classes):
    logits = RNG.normal(size=(4, 2, classes)) * 3
    distribution = Categorical(tf.constant(logits, tf.float32))
    up = scipy.special.expit(np.asarray(distribution.decision_logits(), np.float64))
    assert up.shape == (4, 2, classes - 1)
    for c in range(classes):
        b = tf.one_hot(tf.fill([4, 2], c), classes)
        drawn, known = (np.asarray(part) for part in Categorical.decisions(b))
        np.testing.assert_array_equal(Categorical.decide(tf.constant(drawn)), b)
        np.testing.assert_array_equal(Categorical.decide(tf.constant(1 - (1 - drawn) * known)), b)
        of_path = np.where(known > 0, np.where(drawn > 0, up, 1 - up), 1.0).prod(axis=-1)
        np.testing.assert_allclose(of_path, scipy.special.softmax(logits, axis=-1)[..., c], rtol=1e-4)


@FAMILIES
def test_the_noise_of_decisions_leads_to_the_sample_and_is_uniform(family):
    rows = 20_000
    logits = tf.tile(tf.constant(LOGITS[family][:1], tf.float32), [rows, *[1] * (LOGITS[family].ndim - 1)])
    with HardSampler(3) as trace:
        trace.sample(KINDS[family](logits), Source("units", seed=1))
    decisions = Decisions(trace.sites[0], tf.constant(3))
    np.testing.assert_array_equal(decisions.sample(decisions.drawn), trace.sites[0].sample)
    np.testing.assert_array_equal(decisions.made(decisions.noise), decisions.drawn)
    for column in np.asarray(decisions.noise).reshape(rows, -1).T:
        assert scipy.stats.kstest(column, "uniform").pvalue > FALSE_ALARM


def test_a_decision_that_no_sample_depends_on_has_no_part_in_the_estimate():
    """Two of four classes share a node: it is left out where no sample is one of them."""
    rows = 500
    logits = tf.tile(tf.constant([[[0.3, -0.2, 0.1, 0.4]]]), [rows, 1, 1])
    with HardSampler(3) as trace:
        trace.sample(Categorical(logits), Source("units", seed=1))
    decisions = Decisions(trace.sites[0], tf.constant(3))
    relevant = decisions.relevant([decisions.drawn]).numpy()[:, 0]
    np.testing.assert_array_equal(relevant[:, 0], 1.0)
    np.testing.assert_array_equal(relevant[:, 1:].sum(axis=1), 1.0)
    upper = trace.sites[0].sample.numpy()[:, 0, 2:].sum(axis=1)
    np.testing.assert_array_equal(relevant[:, 2], upper)


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_turns_lead_to_every_value_once(classes):
    b = tf.one_hot([[1, 0]], classes)
    turned = np.stack([Categorical.turned(b, turns) for turns in range(classes)])
    np.testing.assert_array_equal(turned.sum(axis=0), 1.0)
    np.testing.assert_array_equal(turned[0], b)
    bits = tf.constant([[1.0, 0.0]])
    np.testing.assert_array_equal(Bernoulli.turned(bits, 0), bits)
    np.testing.assert_array_equal(Bernoulli.turned(bits, 1), 1.0 - bits)
