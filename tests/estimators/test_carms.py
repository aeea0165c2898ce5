"""CARMS by its formula, and the law of its samples."""

import itertools

import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf

import rebar_tf as rt
from rebar_tf.distributions import Categorical
from rebar_tf.estimators.arms import one_over_one_less_correlation
from rebar_tf.estimators.carms import Carms, Intervals
from rebar_tf.sampling import HardSampler, Source

FALSE_ALARM = 1e-6
LOGITS = np.array([[0.0, -0.4, 1.5, -3.0], [2.0, 0.0, -1.0, 0.1], [0.0, 0.0, 0.0, 0.0]], np.float32)


def hard_sample(logits, seed=1, source=None):
    with HardSampler(seed) as trace:
        trace.sample(Categorical(tf.constant(logits, tf.float32)), source or Source("units", seed=1))
    return trace.sites[0]


def probability_of_pair(p, a, b, num_samples):
    """Of the classes of two samples, in float64: the mean over the orders of a rectangle of the copula."""

    def both_below(u, v):
        return max(0.0, u ** (1 / (num_samples - 1)) + v ** (1 / (num_samples - 1)) - 1) ** (num_samples - 1)

    masses = []
    for i, j in itertools.combinations(range(len(p)), 2):
        first, last = (j, i) if p[j] < p[i] else (i, j)
        order = [first, *(c for c in range(len(p)) if c not in (i, j)), last]
        edges = np.concatenate([[0.0], np.cumsum(p[order])])
        (u0, u1), (v0, v1) = (edges[order.index(c) : order.index(c) + 2] for c in (a, b))
        masses.append(both_below(u1, v1) - both_below(u0, v1) - both_below(u1, v0) + both_below(u0, v0))
    return np.mean(masses)


@pytest.mark.parametrize("num_samples", [2, 3, 5])
def test_the_estimate_is_its_formula(num_samples):
    logits = np.stack([LOGITS[:2], LOGITS[1:]])
    estimator = Carms(num_samples)
    values = np.array([[1.0, -2.0, 0.5, 4.0], [0.3, 0.0, -1.0, 2.0]], np.float32)

    def f(b):
        units = tf.reduce_sum(b * values, axis=-1)
        return units[:, 0] * units[:, 1] + units[:, 0]

    for seed in range(5):
        watched = tf.constant(logits)
        with tf.GradientTape() as tape:
            tape.watch(watched)
            found = rt.expectation(f, watched, estimator, family="categorical", seed=seed)
        site = hard_sample(logits, seed, Source("expectation", seed=0))
        samples = [b.numpy() for b in Intervals(site).coupled(num_samples, tf.constant(seed))]
        expected, p = np.zeros(logits.shape), scipy.special.softmax(logits.astype(np.float64), axis=-1)
        for b, c in itertools.combinations(samples, 2):
            for e, v in itertools.product(range(2), range(2)):
                k, j = b[e, v].argmax(), c[e, v].argmax()
                if k != j:
                    weight = p[e, v, k] * p[e, v, j] / probability_of_pair(p[e, v], k, j, num_samples)
                    change = float(f(b)[e] - f(c)[e])
                    expected[e, v] += weight * change * (b[e, v] - c[e, v]) / (num_samples * (num_samples - 1))
        np.testing.assert_allclose(tape.gradient(found, watched), expected, rtol=1e-4, atol=1e-6)
        assert np.abs(expected).max() > 1e-2


@pytest.mark.parametrize("num_samples", [2, 3, 5])
def test_the_samples_have_the_law_of_one_and_that_of_the_pairs(num_samples):
    rows = 100_000
    intervals = Intervals(hard_sample(np.tile(LOGITS, [rows, 1, 1])))
    made = np.stack([b.numpy() for b in intervals.coupled(num_samples, tf.constant(1))])
    p = scipy.special.softmax(LOGITS.astype(np.float64), axis=-1)
    pairs = list(itertools.combinations(range(num_samples), 2))
    limit = scipy.stats.norm.isf(FALSE_ALARM / (num_samples * p.size + len(pairs) * p.size * p.shape[-1]) / 2)
    assert (np.abs(made.mean(axis=1) - p) < limit * np.sqrt(p * (1 - p) / rows)).all()
    for k, j in pairs:
        counts = np.einsum("ruc,rud->ucd", made[k], made[j])
        for u, a, b in np.ndindex(counts.shape):
            expected = probability_of_pair(p[u], a, b, num_samples)
            spread = np.sqrt(rows * expected * (1 - expected))
            assert abs(counts[u, a, b] - rows * expected) <= limit * spread + limit**2, (u, a, b)
            assert a == b or expected > 0.0


def test_equal_classes_meet_less_often_than_in_independent_samples():
    rows = 20_000
    first, second, *_ = Intervals(hard_sample(np.zeros([rows, 1, 5]))).coupled(4, tf.constant(1))
    met = float(tf.reduce_mean(tf.reduce_sum(first * second, axis=-1)))
    assert met < 0.2 - 6 * np.sqrt(0.2 * 0.8 / rows)


@pytest.mark.parametrize("num_samples", [2, 4])
def test_two_classes_are_weighted_as_by_arms(num_samples):
    log_odds = np.array([0.3, -2.0, 1.1, 0.0, -6.0], np.float32)
    logits = np.stack([np.zeros_like(log_odds), log_odds], axis=-1)[:, np.newaxis]
    samples = [tf.one_hot(tf.fill([5, 1], k % 2), 2) for k in range(num_samples)]
    weight = Intervals(hard_sample(logits)).weights(samples, [(0, 1)])[0]
    expected = one_over_one_less_correlation(tf.constant(log_odds), num_samples)
    np.testing.assert_allclose(weight[:, 0, 0], expected, rtol=1e-4)


def test_two_likely_classes_among_many_rare_ones_have_the_weight_of_the_formula():
    p = np.full([1, 1, 150], 1e-5, np.float32)
    p[..., 7], p[..., 91] = 0.5, 0.5
    samples = [tf.one_hot([[c]], 150) for c in (7, 91)]
    weight = Intervals(hard_sample(np.log(p))).weights(samples, [(0, 1)])[0]
    p = (p / p.sum()).astype(np.float64).ravel()
    assert float(weight[0, 0, 0]) == pytest.approx(p[7] * p[91] / probability_of_pair(p, 7, 91, 2), rel=1e-4)


def test_the_probability_of_two_rare_classes_keeps_its_digits():
    p = np.array([[[1e-7, 3e-6, 0.3, 0.7 - 3.1e-6]]])
    samples = [tf.one_hot([[c]], 4) for c in (0, 1, 2)]
    weight = Intervals(hard_sample(np.log(p))).weights(samples, [(0, 1)])[0]
    p = scipy.special.softmax(np.log(p).astype(np.float32).astype(np.float64)).ravel()
    assert float(weight[0, 0, 0]) == pytest.approx(p[0] * p[1] / probability_of_pair(p, 0, 1, 3), rel=1e-5)
