"""The counter-based generator: uniform, independent, the same everywhere."""

import hashlib
import itertools
import types

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

import rebar_tf as rt
from rebar_tf.sampling import noise
from rebar_tf.sampling.noise import SeedOfRun, uniform
from rebar_tf.training import bounds, model

FALSE_ALARM = 1e-6


def test_numbers_are_uniform():
    u = uniform([1_000_000], 3, 1).numpy()
    assert 0.0 < u.min() < 1e-5
    assert 1.0 - 1e-5 < u.max() < 1.0
    assert scipy.stats.kstest(u, "uniform").pvalue > FALSE_ALARM


def test_one_minus_u_is_exact_and_symmetric():
    u = uniform([1000], 0, 0).numpy()
    assert np.array_equal(1.0 - (1.0 - u), u)


@pytest.mark.parametrize(
    "other",
    [dict(step=4, key=(1, 0)), dict(step=3, key=(1, 1)), dict(step=3, key=(2, 0)), dict(step=3, key=(0, 1))],
    ids=["step", "second key", "first key", "keys swapped"],
)
def test_streams_are_uncorrelated(other):
    n = 200_000
    u, w = uniform([n], 3, 1, 0).numpy(), uniform([n], other["step"], *other["key"]).numpy()
    bound = scipy.stats.norm.isf(FALSE_ALARM / 2) / np.sqrt(n)
    assert abs(np.corrcoef(u, w)[0, 1]) < bound
    assert abs(np.corrcoef(u[1:], u[:-1])[0, 1]) < bound


def test_pairs_fill_the_square_evenly():
    u = uniform([400_000], 5, 9).numpy().reshape(-1, 2)
    counts, _, _ = np.histogram2d(u[:, 0], u[:, 1], bins=32, range=[[0, 1], [0, 1]])
    assert scipy.stats.chisquare(counts.ravel()).pvalue > FALSE_ALARM


def test_eager_graph_and_xla_draw_the_same_numbers():
    eager = uniform([24, 20], tf.constant(7, tf.int64), 5, 6)
    for jit_compile in (False, True):
        compiled = tf.function(lambda step: uniform([24, 20], step, 5, 6), jit_compile=jit_compile)
        assert np.array_equal(compiled(tf.constant(7, tf.int64)), eager)


def test_shape_may_be_a_tensor():
    assert np.array_equal(uniform(tf.constant([2, 3]), 1, 2), uniform([2, 3], 1, 2))


def squares(counter, key):
    """The 32 bits of Widynski's `squares32`, in Python's integers."""
    x = y = counter * key % 2**64
    z = y + key
    for added in (y, z, y):
        x = (x * x + added) % 2**64
        x = (x >> 32) + (x % 2**32 << 32)
    return (x * x + z) % 2**64 >> 32


def test_numbers_are_the_midpoints_that_the_generator_of_the_paper_draws():
    """From the counter `step 2^32 + i`, so that no two steps share one."""
    key = int.from_bytes(hashlib.blake2b(b"(5, 6)", digest_size=8).digest(), "little") | 1
    expected = [((squares(7 * 2**32 + i, key) >> 9) + 0.5) / 2**23 for i in range(20)]
    np.testing.assert_array_equal(uniform([20], 7, 5, 6), expected)


def test_keys_are_odd_and_each_replica_has_its_own(monkeypatch):
    keys = []
    for replica in range(4):
        context = types.SimpleNamespace(num_replicas_in_sync=4, replica_id_in_sync_group=replica)
        monkeypatch.setattr(tf.distribute, "get_replica_context", lambda context=context: context)
        keys += [int(noise._key((k,))) for k in range(20)]
    assert len(set(keys)) == 80
    assert all(key % 2 for key in keys)


def test_seeds_places_streams_and_replicas_never_share_a_key(monkeypatch):
    """Nor does a layer by itself, whose key is its seed and its index."""
    keys = []
    for replica in range(4):
        context = types.SimpleNamespace(num_replicas_in_sync=4, replica_id_in_sync_group=replica)
        monkeypatch.setattr(tf.distribute, "get_replica_context", lambda context=context: context)
        of_models = itertools.product([*range(12), 121, 1212, 2**31 - 1], range(12), [*range(4), *range(16, 24)])
        of_layers = itertools.product(range(12), range(12))
        keys += [int(noise._key(key)) for key in [*of_models, *of_layers]]
    assert len(set(keys)) == len(keys) > 8_000


def test_training_evaluation_bounds_and_further_samples_have_streams_of_their_own():
    layer = rt.layers.StochasticBinary("rloo")
    traces, _ = rt.estimators.Rloo(num_samples=8).hard_passes(lambda: tf.reduce_sum(layer(tf.zeros([2, 3])), axis=1), 1)
    streams = [trace.stream for trace in traces]
    assert len(set(streams)) == 8
    assert streams[0] == 0
    assert not {model._EVALUATION_STREAM, bounds._BOUND_STREAM} & {*streams}
    assert model._EVALUATION_STREAM != bounds._BOUND_STREAM


def test_the_noise_of_vectorized_runs_is_that_of_each():
    seeds = tuple(range(40))  # of whose keys some do not fit into 63 bits

    @tf.function(autograph=False, jit_compile=True)
    def together(steps):
        def of_run(run_and_step):
            run, step = run_and_step
            return uniform([5], step, SeedOfRun(seeds, run), 1, 9)

        return tf.vectorized_map(of_run, (tf.range(len(seeds)), steps), fallback_to_while_loop=False)

    steps = tf.range(len(seeds)) // 2
    each = [uniform([5], steps[run], seed, 1, 9).numpy() for run, seed in enumerate(seeds)]
    np.testing.assert_array_equal(together(steps).numpy(), each)
