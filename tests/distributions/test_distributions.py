"""Both families: the paper's formulas, the coupling, the closed-form derivatives, stability, and TFP as oracle."""

import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

from rebar_tf.distributions import Bernoulli, Categorical, check_relaxation
from rebar_tf.sampling.noise import uniform

FALSE_ALARM = 1e-6
FAMILIES = [Bernoulli, Categorical]


def draw(family, rows=64, scale=2.0, seed=0):
    """Logits, noise, z and b of a small batch."""
    shape = [rows, 5] if family is Bernoulli else [rows, 3, 4]
    logits = tf.constant(np.random.default_rng(seed).normal(scale=scale, size=shape), tf.float32)
    u = uniform(shape, seed, 1)
    z = family(logits).reparameterize(u)
    return logits, u, z, family.threshold(z)


def test_binary_formulas_of_appendix_c():
    logits, u, z, b = (np.asarray(t, np.float64) for t in draw(Bernoulli))
    theta = scipy.special.expit(logits)
    np.testing.assert_allclose(z, np.log(theta / (1 - theta)) + np.log(u / (1 - u)), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(b, (u > 1 - theta).astype(float))
    v = np.asarray(uniform(list(b.shape), 9, 2), np.float64)
    odds = v / (1 - v)
    expected = np.where(b == 1, np.log(odds / (1 - theta) + 1), -np.log(odds / theta + 1))
    v, b, logits = (tf.constant(t, tf.float32) for t in (v, b, logits))
    got = Bernoulli(logits).conditional(v, b)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_binary_coupling_is_the_place_in_the_interval():
    logits, u, _, b = draw(Bernoulli, scale=1.0)
    u_prime = 1 - scipy.special.expit(np.asarray(logits, np.float64))
    place = np.where(b == 1, (u - u_prime) / (1 - u_prime), 1 - u / u_prime)
    np.testing.assert_allclose(Bernoulli(logits).couple(u, b), place, rtol=1e-3, atol=1e-5)


def test_categorical_formulas_of_appendix_c():
    logits, u, z, b = (np.asarray(t, np.float64) for t in draw(Categorical))
    p = scipy.special.softmax(logits, axis=-1)
    np.testing.assert_allclose(z, np.log(p) - np.log(-np.log(u)), rtol=1e-4, atol=1e-5)
    v = np.asarray(uniform(list(b.shape), 9, 2), np.float64)
    v_k = np.sum(b * v, axis=-1, keepdims=True)
    expected = np.where(b == 1, -np.log(-np.log(v)), -np.log(-np.log(v) / p - np.log(v_k)))
    v, b, logits = (tf.constant(t, tf.float32) for t in (v, b, logits))
    got = Categorical(logits).conditional(v, b)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_conditional_sample_agrees_with_its_condition(family):
    logits, _, _, b = draw(family, rows=2000)
    z = family(logits).conditional(uniform(logits.shape, 5, 5), b)
    np.testing.assert_array_equal(family.threshold(z), b)


@pytest.mark.parametrize("family", FAMILIES)
def test_coupled_noise_reproduces_z(family):
    logits, u, z, b = draw(family, rows=500)
    v = family(logits).couple(u, b)
    np.testing.assert_allclose(family(logits).conditional(v, b), z, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_coupled_noise_is_uniform_and_independent_of_the_sample(family):
    n, width = 40_000, 3
    logits = tf.repeat(tf.constant([[0.8, -1.2, 0.1]]), n, axis=0)
    u = uniform([n, width], 1, 3)
    b = family.threshold(family(logits).reparameterize(u))
    v, b = family(logits).couple(u, b).numpy(), b.numpy()
    tests = 0
    for unit in range(width):
        for value in (0.0, 1.0):
            chosen = v[b[:, unit] == value, unit]
            assert scipy.stats.kstest(chosen, "uniform").pvalue > FALSE_ALARM
            tests += len(chosen) > 1000
    assert tests == 2 * width  # enough samples of each case to see anything


@pytest.mark.parametrize("family", FAMILIES)
def test_residual_derivative_is_that_of_the_two_reparameterisations(family):
    logits, u, z, b = draw(family)
    v = family(logits).couple(u, b)
    cotangent = tf.constant(np.random.default_rng(3).normal(size=logits.shape), tf.float32)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(logits)
        unconditional = tf.reduce_sum(cotangent * family(logits).reparameterize(u))
        conditional = tf.reduce_sum(cotangent * family(logits).conditional(v, b))
    expected = tape.gradient(unconditional, logits) - tape.gradient(conditional, logits)
    np.testing.assert_allclose(family(logits).coupled_residual_vjp(cotangent, z, b), expected, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_mean_derivative(family):
    logits, _, _, _ = draw(family)
    cotangent = tf.constant(np.random.default_rng(3).normal(size=logits.shape), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = tf.reduce_sum(cotangent * family(logits).mean())
    got = family(logits).mean_vjp(cotangent)
    np.testing.assert_allclose(got, tape.gradient(value, logits), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("relaxation", ["eq7", "concrete"])
@pytest.mark.parametrize("family", FAMILIES)
def test_relaxation_derivative(family, relaxation):
    logits, _, z, _ = draw(family)
    cotangent = tf.constant(np.random.default_rng(3).normal(size=logits.shape), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(z)
        relaxed = family(logits).relax(z, tf.constant(0.7), relaxation)
        value = tf.reduce_sum(cotangent * relaxed)
    got = family.relaxation_vjp(cotangent, relaxed, tf.constant(0.7))
    np.testing.assert_allclose(got, tape.gradient(value, z), rtol=1e-4, atol=1e-5)


def test_eq7_by_its_formula():
    logits, u, z, _ = draw(Bernoulli)
    t = 0.3
    factor = (t**2 + t + 1) / (t + 1)
    l64, u64 = np.asarray(logits, np.float64), np.asarray(u, np.float64)
    expected = scipy.special.expit((factor * l64 + np.log(u64 / (1 - u64))) / t)
    np.testing.assert_allclose(Bernoulli(logits).relax(z, tf.constant(t)), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_limits_of_the_relaxations(family):
    logits, _, z, b = draw(family)
    for relaxation in ("eq7", "concrete"):
        np.testing.assert_allclose(family(logits).relax(z, tf.constant(1e-5), relaxation), b, atol=1e-3)
    np.testing.assert_allclose(family(logits).relax(z, tf.constant(1e6), "eq7"), family(logits).mean(), atol=1e-4)
    flat = 0.5 if family is Bernoulli else 0.25
    np.testing.assert_allclose(family(logits).relax(z, tf.constant(1e6), "concrete"), flat + 0 * b, atol=1e-4)


def test_unknown_relaxation_is_named():
    with pytest.raises(ValueError, match=r"eq7, concrete.*'soft'"):
        check_relaxation("soft")


@pytest.mark.parametrize("family", FAMILIES)
def test_score_is_the_derivative_of_the_log_probability(family):
    logits, _, _, b = draw(family)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        log_prob = family(logits).log_prob(b)
    assert log_prob.shape == [64]
    np.testing.assert_allclose(family(logits).score(b), tape.gradient(log_prob, logits), atol=1e-5)


def test_log_prob_has_the_right_derivative_at_zero_logits():
    logits = tf.zeros([1, 2])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = Bernoulli(logits).log_prob(tf.constant([[1.0, 0.0]]))
    np.testing.assert_array_equal(tape.gradient(value, logits), [[0.5, -0.5]])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("family", FAMILIES)
def test_everything_is_finite_at_the_edges(family, dtype):
    edges = np.array([2.0**-24, 2.0**-126, 0.5, 1 - 2.0**-24], np.float32)
    values = np.array([-50.0, -1.0, 0.0, 50.0], np.float32)
    u, wide = (tf.constant(t.reshape(4, 4)) for t in np.meshgrid(edges, values))
    logits = family.check_logits(tf.cast(wide, dtype))
    assert logits.dtype == tf.float32
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(logits)
        z = family(logits).reparameterize(u)
        b = family.threshold(z)
        v = tf.stop_gradient(family(logits).couple(u, b))  # a constant, as the derivative through g~ asks
        results = [z, v, family(logits).conditional(v, b), family(logits).log_prob(b), family(logits).mean()]
        results += [family(logits).relax(z, tf.constant(t), r) for t in (0.005, 0.5, 50.0) for r in ("eq7", "concrete")]
    results += [family(logits).coupled_residual_vjp(tf.ones_like(z), z, b)]
    results += [tape.gradient(result, logits) for result in (z, results[2], results[3], *results[5:11])]
    assert all(np.isfinite(result).all() for result in results)


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_of_the_wrong_rank_are_refused(family):
    with pytest.raises(ValueError, match=r"logits.*\[batch.*Received.*\(3,\)"):
        family.check_logits(tf.zeros([3]))


def test_one_class_is_refused():
    with pytest.raises(ValueError, match="at least 2 classes"):
        Categorical.check_logits(tf.zeros([3, 1]))


def test_relaxed_bernoulli_of_tfp_has_the_same_law():
    n, logit, temperature = 50_000, 0.7, 0.4
    logits = tf.fill([n, 1], logit)
    z = Bernoulli(logits).reparameterize(uniform([n, 1], 1, 1))
    ours = Bernoulli(logits).relax(z, tf.constant(temperature), "concrete").numpy().ravel()
    theirs = tfp.distributions.RelaxedBernoulli(temperature, logits=logit).sample(n, seed=1).numpy()
    assert scipy.stats.ks_2samp(ours, theirs).pvalue > FALSE_ALARM


def test_relaxed_categorical_of_tfp_has_the_same_law():
    n, temperature = 50_000, 0.6
    logits = tf.repeat(tf.constant([[0.5, -1.0, 0.2]]), n, axis=0)
    z = Categorical(logits).reparameterize(uniform([n, 3], 1, 1))
    ours = Categorical(logits).relax(z, tf.constant(temperature), "concrete").numpy()
    theirs = tfp.distributions.RelaxedOneHotCategorical(temperature, logits=logits[0]).sample(n, seed=1).numpy()
    for k in range(3):
        assert scipy.stats.ks_2samp(ours[:, k], theirs[:, k]).pvalue > FALSE_ALARM


@pytest.mark.parametrize(
    ("family", "oracle"),
    [(Bernoulli, tfp.distributions.Bernoulli), (Categorical, tfp.distributions.OneHotCategorical)],
)
def test_log_prob_and_mean_agree_with_tfp(family, oracle):
    logits, _, _, b = draw(family)
    distribution = oracle(logits=logits, dtype=tf.float32)
    log_prob = distribution.log_prob(b)
    np.testing.assert_allclose(
        family(logits).log_prob(b), tf.reduce_sum(tf.reshape(log_prob, [64, -1]), 1), rtol=1e-4, atol=1e-4
    )
    np.testing.assert_allclose(family(logits).mean(), distribution.mean(), atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_samples_have_the_stated_probabilities(family):
    n = 200_000
    logits = tf.repeat(tf.constant([[0.5, -1.0, 0.2]]), n, axis=0)
    b = family.threshold(family(logits).reparameterize(uniform([n, 3], 1, 1))).numpy()
    p = family(logits).mean()[0].numpy()
    z = (b.mean(axis=0) - p) / np.sqrt(p * (1 - p) / n)
    assert np.abs(z).max() < scipy.stats.norm.isf(FALSE_ALARM / 6)


@pytest.mark.parametrize(("b", "logits"), [((4, 6), (1, 6)), ((4, 2, 3), (2, 3)), ((4, 6), (4, 1)), ((4, 7), (4, 7))])
def test_the_density_of_a_bernoulli_broadcasts_its_logits(b, logits):
    rng = np.random.default_rng(0)
    b, logits = rng.integers(0, 2, size=b).astype(np.float32), rng.normal(size=logits).astype(np.float32) * 5
    terms = b * logits.astype(np.float64) - np.logaddexp(0, logits.astype(np.float64))
    values = Bernoulli(tf.constant(logits)).log_prob(tf.constant(b))
    np.testing.assert_allclose(values, terms.reshape(4, -1).sum(axis=1), rtol=1e-5)


def test_the_threshold_is_strict():
    np.testing.assert_array_equal(Bernoulli.threshold(tf.constant([-1.0, 0.0, 1e-30])), [0.0, 0.0, 1.0])


@pytest.mark.parametrize("family", FAMILIES)
def test_coupled_noise_is_inside_of_the_unit_interval(family):
    """Also where rounding would put it on 0 or 1."""
    edges = np.array([2.0**-126, 0.5, 1 - 2.0**-24], np.float32)
    u, wide = (tf.constant(np.stack([t.ravel()] * 2, axis=1)) for t in np.meshgrid(edges, np.float32([-50.0, 0.0])))
    distribution = family(wide)
    v = distribution.couple(u, distribution.sample(u)).numpy()
    assert v.min() == np.float32(2.0**-126)
    assert v.max() == np.float32(1 - 2.0**-24)


def test_the_density_of_many_units_is_finite():
    """A product of 1,024 factors of 2 is not."""
    value = Bernoulli(tf.zeros([1, 1024])).log_prob(tf.zeros([1, 1024]))
    np.testing.assert_allclose(value, -1024 * np.log(2), rtol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_mixture_has_its_share_of_the_uniform_law(family):
    logits, _, _, _ = draw(family)
    values = 2 if family is Bernoulli else logits.shape[-1]
    expected = 0.9 * np.asarray(family(logits).mean(), np.float64) + 0.1 / values
    np.testing.assert_allclose(family(logits).mixed_with_uniform(0.1).mean(), expected, rtol=1e-5)
