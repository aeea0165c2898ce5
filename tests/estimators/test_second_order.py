"""ReinMax and Gumbel-Rao against their publications: closed forms, exactness, and what averaging is worth."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.integrate import quad
from scipy.special import expit, softmax

import rebar_tf as rt
from rebar_tf.distributions import Bernoulli, Categorical
from rebar_tf.estimators import ControlSpec, GumbelRao, GumbelStraightThrough, ReinMax

RNG = np.random.default_rng(0)
LOGITS = {Bernoulli: RNG.normal(size=(1, 4)).astype(np.float32), Categorical: RNG.normal(size=(1, 2, 3)).astype("f4")}


def jacobian(estimator, family, logits, noise):
    """The derivative of a layer's sample by its logits, `[units, units]`, and the sample."""
    logits = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        b = estimator.sample(family(logits), tf.constant(noise), training=True)
    units = logits.shape.num_elements()
    return tape.jacobian(b, logits).numpy().reshape(units, units), b.numpy()


def published_reinmax(p, b):
    """Algorithm 2 of Liu et al. for one categorical variable, temperature 1: `2 J((b + p) / 2) - J(p) / 2`."""

    def of_softmax(q):
        return np.diag(q) - np.outer(q, q)

    return 2 * of_softmax((b + p) / 2) - of_softmax(p) / 2


def test_reinmax_is_the_published_algorithm():
    logits = LOGITS[Categorical]
    for seed in range(5):
        noise = np.random.default_rng(seed).uniform(size=logits.shape).astype(np.float32)
        found, b = jacobian(ReinMax(), Categorical, logits, noise)
        expected = np.zeros([6, 6])
        for i in range(2):
            expected[3 * i : 3 * i + 3, 3 * i : 3 * i + 3] = published_reinmax(softmax(logits[0, i]), b[0, i])
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_for_binary_units_it_is_darn_with_one_half():
    logits = LOGITS[Bernoulli]
    noise = RNG.uniform(size=logits.shape).astype(np.float32)
    found, b = jacobian(ReinMax(), Bernoulli, logits, noise)
    p = expit(logits)
    np.testing.assert_allclose(np.diag(found), ((b - 0.5) * (b - p))[0], atol=1e-6)
    assert np.count_nonzero(found - np.diag(np.diag(found))) == 0


def quadratic(b):
    """Quadratic in all units together, with products of them."""
    units = int(np.prod(b.shape[1:]))
    matrix = tf.constant(np.random.default_rng(3).normal(size=(units, units)), tf.float32)
    flat = tf.reshape(b, [-1, units])
    return tf.reduce_sum(flat * tf.matmul(flat, matrix), axis=1)


@pytest.mark.parametrize("family", [Bernoulli, Categorical], ids=lambda family: family.name)
def test_reinmax_is_exact_for_a_quadratic_and_straight_through_is_not(family):
    """Of each unit given the others; 4 standard errors of 40,000 estimates are allowed, the other is beyond 10."""
    rows = 40_000
    logits = tf.constant(LOGITS[family])

    def estimates(name):
        at = tf.repeat(logits, rows, axis=0)
        with tf.GradientTape() as tape:
            tape.watch(at)
            value = rt.expectation(quadratic, at, name, family=family.name, seed=0)
        return tape.gradient(value, at).numpy().astype(np.float64)

    with tf.GradientTape() as tape:
        tape.watch(logits)
        states = tf.constant(family.states(logits.shape[1:]))
        expected = tf.reduce_sum(tf.exp(family(logits).log_prob(states)) * quadratic(states))
    exact = tape.gradient(expected, logits).numpy()[0]

    def z(name):
        found = estimates(name)
        error = found.std(axis=0, ddof=1) / np.sqrt(rows)
        return np.abs((found.mean(axis=0) - exact) / np.maximum(error, 1e-6)).max()

    assert z("reinmax") < 4
    assert z("straight_through") > 10


@pytest.mark.parametrize("temperature", [0.3, 1.0])
def test_gumbel_rao_is_the_conditional_mean_of_gumbel_straight_through(temperature):
    """By numerical integration over the noise that gives the sample, at many draws."""
    logit, samples = 0.7, 4000
    u = RNG.uniform(size=(1, samples)).astype(np.float32)
    estimator = GumbelRao(temperature, num_draws=2)
    estimator.build_control(ControlSpec((), ((samples,),), (Bernoulli,), ("units",)))
    found, b = jacobian_diagonal(estimator, np.full([1, samples], logit, np.float32), u)

    def slope(u):
        y = expit((logit + np.log(u / (1 - u))) / temperature)
        return y * (1 - y) / temperature

    edge = expit(-logit)
    for value, low, high in ((0, 0.0, edge), (1, edge, 1.0)):
        expected = quad(slope, low, high)[0] / (high - low)
        chosen = found[b == value]
        assert abs(chosen.mean() - expected) < 4 * chosen.std(ddof=1) / np.sqrt(chosen.size)


def jacobian_diagonal(estimator, logits, noise):
    """The derivative of each binary unit by its own logit, and the units."""
    logits = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        b = estimator.sample(Bernoulli(logits), tf.constant(noise), training=True)
    return tape.gradient(b, logits).numpy(), b.numpy()


@pytest.mark.parametrize("family", [Bernoulli, Categorical], ids=lambda family: family.name)
def test_gumbel_rao_has_the_mean_of_gumbel_straight_through_and_less_variance(family):
    rows = 20_000
    at = np.repeat(LOGITS[family], rows, axis=0)
    weights = tf.constant(RNG.normal(size=LOGITS[family].shape), tf.float32)

    def estimates(estimator):
        logits = tf.constant(at)
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = rt.expectation(
                lambda b: tf.reduce_sum(tf.reshape(weights * b**2, [rows, -1]), 1),
                logits,
                estimator,
                family=family.name,
                seed=0,
            )
        return tape.gradient(value, logits).numpy().astype(np.float64)

    plain, averaged = estimates(GumbelStraightThrough(0.1)), estimates(GumbelRao(0.1, num_draws=10))
    error = np.sqrt((plain.var(axis=0) + averaged.var(axis=0)) / rows)
    assert (np.abs(plain.mean(axis=0) - averaged.mean(axis=0)) < 4.5 * error).all()
    assert (averaged.var(axis=0) < 0.6 * plain.var(axis=0)).all()


def test_rotations_are_a_permutation_in_each_unit():
    turns = GumbelRao(0.5, num_draws=6).rotations(5)
    np.testing.assert_allclose(np.sort(turns, axis=0), np.tile(np.arange(6)[:, np.newaxis] / 6, 5), atol=1e-7)
    assert len(np.unique(turns, axis=1).T) > 1


@pytest.mark.parametrize("number", [1, 0, 2.5, "3"])
def test_numbers_of_samples_are_checked(number):
    with pytest.raises(ValueError, match=r"`num_draws` must be an integer of 2 or more. Received: num_draws="):
        GumbelRao(num_draws=number)
