"""Subsets of a size: against the list of all subsets, and where float32 is short."""

import itertools

import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf

from rebar_tf.distributions import Subset
from rebar_tf.sampling.noise import uniform

FALSE_ALARM = 1e-6
SIZES = pytest.mark.parametrize(("units", "size"), [(1, 1), (4, 4), (5, 2), (6, 1), (8, 3), (9, 8)])


def logits_of(units, rows=3):
    return np.random.default_rng(units).normal(scale=2.0, size=(rows, units)).astype(np.float32)


def listed(logits, size):
    """All subsets as rows of ones, and their probabilities for each row of logits, in float64."""
    units = logits.shape[-1]
    subsets = np.zeros((len(list(itertools.combinations(range(units), size))), units))
    for row, members in zip(subsets, itertools.combinations(range(units), size), strict=True):
        row[list(members)] = 1.0
    return subsets, scipy.special.softmax(logits.astype(np.float64) @ subsets.T, axis=1)


@SIZES
def test_the_law_is_that_of_the_list(units, size):
    logits = logits_of(units)
    subsets, p = listed(logits, size)
    distribution = Subset(tf.constant(logits), size)
    assert distribution.num_states((units,)) == len(subsets)
    np.testing.assert_array_equal(distribution.states((units,)), subsets)
    states = tf.constant(subsets, tf.float32)
    np.testing.assert_allclose(np.exp(distribution.log_prob_of_states(states)), p, rtol=1e-4)
    np.testing.assert_allclose(distribution.mean(), p @ subsets, rtol=1e-4, atol=1e-6)
    for subset, log_p in zip(subsets, np.log(p).T, strict=True):
        rows = tf.tile(tf.constant(subset[np.newaxis], tf.float32), [len(logits), 1])
        np.testing.assert_allclose(distribution.log_prob(rows), log_p, rtol=1e-4, atol=1e-4)


@SIZES
def test_the_derivative_of_the_mean_is_the_covariance(units, size):
    logits, cotangent = logits_of(units), np.random.default_rng(1).normal(size=(3, units)).astype(np.float32)
    subsets, p = listed(logits, size)
    centred = subsets - (p @ subsets)[:, np.newaxis]
    expected = np.einsum("rs,rsi,rsj,rj->ri", p, centred, centred, cotangent)
    found = Subset(tf.constant(logits), size).mean_vjp(tf.constant(cotangent))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


@SIZES
def test_samples_have_the_law(units, size):
    rows = 40_000
    logits = logits_of(units, rows=1) / 2
    subsets, p = listed(logits, size)
    samples = Subset(tf.tile(logits, [rows, 1]), size).sample(uniform([rows, units], 3, 1)).numpy()
    np.testing.assert_array_equal(samples.sum(axis=1), size)
    codes = 2.0 ** np.arange(units)
    counts = [np.sum(samples @ codes == subset @ codes) for subset in subsets]
    assert sum(counts) == rows
    assert len(subsets) == 1 or scipy.stats.chisquare(counts, rows * p[0]).pvalue > FALSE_ALARM


def test_groups_of_units_are_independent():
    logits = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    grouped, noise = Subset(tf.constant(logits), 2), uniform(logits.shape, 1, 1)
    single = [Subset(tf.constant(logits[:, i]), 2) for i in range(3)]
    np.testing.assert_array_equal(
        grouped.sample(noise), np.stack([d.sample(noise[:, i]) for i, d in enumerate(single)], 1)
    )
    np.testing.assert_allclose(grouped.mean(), np.stack([d.mean() for d in single], 1), rtol=1e-5)
    b = grouped.sample(noise)
    expected = sum(d.log_prob(b[:, i]).numpy() for i, d in enumerate(single))
    np.testing.assert_allclose(grouped.log_prob(b), expected, rtol=1e-5)
    states = tf.constant(grouped.states((3, 4)))
    assert states.shape == (6**3, 3, 4)
    p = np.exp(grouped.log_prob_of_states(states))
    np.testing.assert_allclose(p.sum(axis=1), 1.0, rtol=1e-4)
    np.testing.assert_allclose(p[0], [np.exp(grouped.log_prob(states[s : s + 1]))[0] for s in range(6**3)], rtol=1e-4)


def test_the_mode_has_the_largest_logits():
    mode = Subset(tf.constant([[0.3, -1.0, 2.0, 0.9], [5.0, 4.0, 3.0, -2.0]]), 2).mode()
    np.testing.assert_array_equal(mode, [[0.0, 0.0, 1.0, 1.0], [1.0, 1.0, 0.0, 0.0]])


def test_large_logits_stay_finite_and_are_drawn():
    distribution = Subset(tf.constant([[80.0, -80.0, 0.0, 3.0, 1000.0, -1000.0]]), 2)
    np.testing.assert_allclose(distribution.mean(), [[1.0, 0.0, 0.0, 0.0, 1.0, 0.0]], atol=1e-6)
    assert np.isfinite(distribution.mean_vjp(tf.ones([1, 6]))).all()
    np.testing.assert_array_equal(distribution.sample(uniform([1, 6], 1, 1)), [[1.0, 0.0, 0.0, 0.0, 1.0, 0.0]])


@pytest.mark.parametrize("u", [2.0**-24, 1.0 - 2.0**-24])
def test_the_outermost_noise_draws_as_many_units(u):
    logits = tf.constant(np.random.default_rng(0).normal(scale=5.0, size=(500, 37)), tf.float32)
    samples = Subset(logits, 9).sample(tf.fill([500, 37], u))
    np.testing.assert_array_equal(tf.reduce_sum(samples, axis=1), 9.0)
    assert set(np.unique(samples)) == {0.0, 1.0}


def test_nan_is_kept():
    samples = Subset(tf.constant([[np.nan, 0.0, 1.0], [0.0, 0.0, 1.0]]), 1).sample(uniform([2, 3], 1, 1))
    assert np.isnan(samples[0]).any()
    assert np.isfinite(samples[1]).all()


def test_large_layers_are_drawn_under_xla():
    logits = tf.constant(np.random.default_rng(0).normal(size=(24, 200)), tf.float32)

    @tf.function(jit_compile=True)
    def run(noise):
        distribution = Subset(logits, 20)
        return distribution.sample(noise), distribution.mean()

    noise = uniform([24, 200], 1, 1)
    samples, mean = run(noise)
    np.testing.assert_allclose(tf.reduce_sum(mean, axis=1), 20.0, rtol=1e-4)
    np.testing.assert_array_equal(samples, Subset(logits, 20).sample(noise))
