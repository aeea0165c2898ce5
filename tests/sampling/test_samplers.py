"""The sampling context: who decides how a layer samples, and what a replay repeats."""

import threading

import numpy as np
import pytest
import tensorflow as tf

import rebar_tf as rt
from rebar_tf import sampling
from rebar_tf.distributions import Bernoulli, Categorical
from rebar_tf.sampling import (
    CounterfactualSampler,
    ForcedSampler,
    HardSampler,
    MeanSampler,
    NoDerivativeError,
    RelaxedSampler,
    Source,
    uniform,
)

TEMPERATURE = tf.constant(0.5)


def relaxation(name="eq7"):
    """What `RelaxedSampler` takes: the relaxed sample at a fixed temperature."""
    return lambda distribution, z, layer: distribution.relax(z, TEMPERATURE, name)


def two_layers(scale=3.0):
    """A pass of two stochastic layers; the second's logits depend on the first's sample."""
    first = sampling.current().sample(Bernoulli(tf.constant([[0.3, -0.8]])), Source("units", seed=1))
    second = sampling.current().sample(Bernoulli(scale * first - 1.0), Source("units", seed=1))
    return first, second


def test_no_sampler_is_active_by_default():
    assert sampling.current() is None


def test_samplers_nest_and_unwind_on_errors():
    def fail_inside():
        with HardSampler(1) as inner:
            assert sampling.current() is inner
            raise RuntimeError("inside")

    with HardSampler(0) as outer:
        with pytest.raises(RuntimeError, match="inside"):
            fail_inside()
        assert sampling.current() is outer
    assert sampling.current() is None


def test_each_thread_has_its_own_sampler():
    seen = []
    with HardSampler(0):
        thread = threading.Thread(target=lambda: seen.append(sampling.current()))
        thread.start()
        thread.join()
    assert seen == [None]


def test_same_step_same_samples():
    def run(step, stream=0, seed=1):
        with HardSampler(step, stream):
            return sampling.current().sample(Bernoulli(tf.zeros([1, 64])), Source("units", seed=seed)).numpy()

    assert np.array_equal(run(3), run(3))
    for other in (run(4), run(3, stream=1), run(3, seed=2)):
        assert not np.array_equal(run(3), other)


def test_layers_with_one_seed_draw_different_noise():
    with HardSampler(0) as trace:
        for _ in range(2):
            trace.sample(Bernoulli(tf.zeros([1, 64])), Source("units", seed=1))
    assert not np.array_equal(trace.sites[0].noise, trace.sites[1].noise)


@pytest.mark.parametrize("family", [Bernoulli, Categorical])
def test_eager_and_xla_agree_sample_for_sample(family):
    logits = tf.constant(np.random.default_rng(0).normal(size=[50, 4]), tf.float32)

    def run(step):
        with HardSampler(step) as trace:
            sample = trace.sample(family(logits), Source("units", seed=3))
        return sample

    step = tf.constant(5, tf.int64)
    assert np.array_equal(run(step), tf.function(run, jit_compile=True)(step))


def test_trace_records_the_pass():
    with HardSampler(0) as trace:
        first, second = two_layers()
    assert [site.index for site in trace] == [0, 1]
    assert len(trace) == 2
    for site, sample in zip(trace, (first, second), strict=True):
        np.testing.assert_array_equal(site.sample, sample)
        np.testing.assert_array_equal(site.sample, site.distribution.threshold(site.z))
        np.testing.assert_allclose(site.score, sample - tf.sigmoid(site.logits))


def test_relaxed_pass_from_the_first_layer_relaxes_both_with_their_own_noise():
    with HardSampler(0) as trace:
        two_layers()
    with RelaxedSampler(trace, 0, relaxation()):
        first, second = two_layers()
    noise = trace.sites[1].noise
    logits = 3.0 * first - 1.0  # the second layer sees the relaxed first sample, and is not conditioned on its own
    expected = Bernoulli(logits).relax(Bernoulli(logits).reparameterize(noise), TEMPERATURE)
    np.testing.assert_allclose(first, Bernoulli(trace.sites[0].logits).relax(trace.sites[0].z, TEMPERATURE), rtol=1e-6)
    np.testing.assert_allclose(second, expected, rtol=1e-6)


def test_relaxed_pass_from_the_second_layer_keeps_the_first_hard():
    with HardSampler(0) as trace:
        hard, _ = two_layers()
    with RelaxedSampler(trace, 1, relaxation()) as relaxed:
        first, second = two_layers()
        f = tf.reduce_sum(first, 1) + tf.reduce_sum(second**2, 1)
    np.testing.assert_array_equal(first, hard)
    np.testing.assert_allclose(relaxed.gradients(f)[1], 2.0 * second, rtol=1e-6)


def test_gradient_of_the_relaxed_pass_goes_through_later_layers():
    with HardSampler(0) as trace:
        two_layers()
    with RelaxedSampler(trace, 0, relaxation("concrete")) as relaxed:
        _, second = two_layers()
        f = tf.reduce_sum(second, 1)
    expected = second * (1.0 - second) / TEMPERATURE * 3.0
    np.testing.assert_allclose(relaxed.gradients(f)[0], expected, rtol=1e-5)


def test_a_pass_that_samples_more_layers_than_the_trace_is_refused():
    with HardSampler(0) as trace:
        trace.sample(Bernoulli(tf.zeros([1, 2])), Source("units", seed=1))
    with (
        pytest.raises(ValueError, match=r"hard pass took samples 1 times\. Received: another pass that takes 2"),
        RelaxedSampler(trace, 0, relaxation()),
    ):
        two_layers()


def test_an_objective_without_derivative_is_named():
    with HardSampler(0) as trace:
        two_layers()

    def blind_pass():
        with RelaxedSampler(trace, 0, relaxation()) as relaxed:
            first, _ = two_layers()
            return relaxed, tf.reduce_sum(tf.round(tf.stop_gradient(first)), 1)

    relaxed, f = blind_pass()
    with pytest.raises(NoDerivativeError, match="no derivative"):
        relaxed.gradients(f)
    relaxed, f = blind_pass()
    with pytest.raises(ValueError, match=r"no derivative.*nvil.*reinforce, rloo"):
        rt.estimators.derivatives(relaxed, f)


@pytest.mark.parametrize(
    ("distribution", "source", "message"),
    [
        (Bernoulli(tf.zeros([1, 2])), Source("other", seed=1), r"ran 'units' with bernoulli.*Received: 'other' with"),
        (
            Categorical(tf.zeros([1, 2])),
            Source("units", seed=1),
            r"bernoulli units.*Received: 'units' with categorical",
        ),
        (Bernoulli(tf.zeros([1, 3])), Source("units", seed=1), r"shape \(1, 2\) at place 0.*shape \(1, 3\)"),
    ],
)
def test_a_replay_of_another_layer_or_distribution_is_refused_by_name(distribution, source, message):
    with HardSampler(0) as trace:
        two_layers()
    for replay in (RelaxedSampler(trace, 0, relaxation()), CounterfactualSampler(trace, 1, tf.zeros([1, 2]))):
        with pytest.raises(ValueError, match=message), replay:
            replay.sample(distribution, source)


@pytest.mark.parametrize("name", rt.estimators.names(local=True))
def test_a_layer_with_a_local_estimator_keeps_its_noise_in_every_pass(name):
    """It has no place in the trace; behind a relaxed layer it is what its derivative is that of."""
    estimator = rt.estimators.get(name)
    estimator.build_control(rt.estimators.ControlSpec((), ((2,),), (Bernoulli,), ("units",)))
    logits = tf.constant([[0.3, -0.8]])
    scored, local = Source("scored", seed=1), Source("local", seed=1, local=estimator)

    def run(sampler):
        with sampler:
            return [sampler.sample(Bernoulli(logits), source).numpy() for source in (local, scored, local)]

    hard = HardSampler(3)
    samples = run(hard)
    assert [len(hard), len(hard.outputs), len(hard.local_outputs)] == [1, 1, 2]
    noise = [uniform([1, 2], 3, 1, place, 0) for place in range(3)]
    expected = [estimator.sample(Bernoulli(logits), u, training=True) for u in noise]
    np.testing.assert_array_equal(samples[0], expected[0])
    np.testing.assert_array_equal(samples[2], expected[2])
    np.testing.assert_array_equal(hard.sites[0].noise, noise[1])
    np.testing.assert_array_equal(samples[1], Bernoulli(logits).sample(noise[1]))
    assert not np.array_equal(noise[0], noise[2])
    relaxed = run(RelaxedSampler(hard, 0, relaxation()))
    np.testing.assert_array_equal(relaxed[0], expected[0])
    np.testing.assert_array_equal(relaxed[2], estimator.smooth(Bernoulli(logits), noise[2]))
    for sampler in (
        CounterfactualSampler(hard, 0, tf.zeros([1, 2])),
        ForcedSampler(lambda i, logits: 0.0 * logits, step=3),
    ):
        np.testing.assert_array_equal(run(sampler)[2], expected[2])
    drawn = run(HardSampler(3, training=False))
    np.testing.assert_array_equal(drawn, [Bernoulli(logits).sample(u) for u in noise])


def test_derivatives_of_several_layers_are_total():
    """The first layer's derivative goes through the second one, which is listed too."""
    with HardSampler(0) as trace:
        two_layers()
    with RelaxedSampler(trace, 0, relaxation("concrete")) as relaxed:
        first, second = two_layers()
        f = tf.reduce_sum(first**2, 1) + tf.reduce_sum(second**2, 1)
    by_first, by_second = relaxed.gradients(f)
    np.testing.assert_allclose(by_second, 2.0 * second, rtol=1e-5)
    expected = 2.0 * first + by_second * second * (1.0 - second) / TEMPERATURE * 3.0
    np.testing.assert_allclose(by_first, expected, rtol=1e-5)


def test_mean_pass_outputs_the_means():
    with MeanSampler():
        first, second = two_layers()
    np.testing.assert_allclose(first, tf.sigmoid([[0.3, -0.8]]), rtol=1e-6)
    np.testing.assert_allclose(second, tf.sigmoid(3.0 * first - 1.0), rtol=1e-6)


def test_a_counterfactual_pass_has_another_sample_of_one_layer():
    with HardSampler(0) as trace:
        hard, _ = two_layers()
    other = 1.0 - hard
    with CounterfactualSampler(trace, 0, other):
        first, second = two_layers()
    np.testing.assert_array_equal(first, other)
    later = Bernoulli(3.0 * first - 1.0).reparameterize(trace.sites[1].noise)
    np.testing.assert_array_equal(second, Bernoulli.threshold(later))
    with CounterfactualSampler(trace, 1, other):
        first, second = two_layers()
    np.testing.assert_array_equal(first, hard)
    np.testing.assert_array_equal(second, other)


def test_forced_sampler_adds_up_the_log_probability():
    given = [tf.constant([[1.0, 0.0]]), tf.constant([[0.0, 0.0]])]
    with ForcedSampler(lambda i, logits: given[i]) as forced:
        two_layers()
    expected = Bernoulli(tf.constant([[0.3, -0.8]])).log_prob(given[0]) + Bernoulli(3.0 * given[0] - 1.0).log_prob(
        given[1]
    )
    np.testing.assert_allclose(forced.log_prob, expected, rtol=1e-6)


@pytest.mark.parametrize("score_in_density", [False, True])
def test_the_score_of_a_density_is_left_out_unless_it_is_asked_for(score_in_density):
    logits = tf.constant([[0.3, -0.8]])
    with tf.GradientTape() as tape, HardSampler(0, score_in_density=score_in_density) as sampler:
        tape.watch(logits)
        seen = sampler.density_logits(logits)
    np.testing.assert_array_equal(seen, logits)
    assert (tape.gradient(seen, logits) is not None) == score_in_density
