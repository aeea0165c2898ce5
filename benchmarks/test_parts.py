"""Micro-benchmarks of the parts of a step: `python -m pytest benchmarks --benchmark-only`.

Each runs many times inside one XLA program, so that a call costs next to nothing; the figures are per call of the
program. To see a regression as a ratio, save the figures before a change and compare after it:

  python -m pytest benchmarks --benchmark-save=before
  python -m pytest benchmarks --benchmark-compare --benchmark-group-by=fullname
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

import rebar_tf as rt
from rebar_tf.distributions import Bernoulli, Categorical
from rebar_tf.sampling.noise import uniform

REPEATS = 100
BATCH, UNITS, PIXELS = 24, 200, 784
SAMPLED = [name for name in rt.estimators.names() if not rt.estimators.get(name).enumerates]  # which is for a few units
rng = np.random.default_rng(0)


def repeated(body, start):
    """An XLA program that applies `body` to a tensor again and again."""

    @tf.function(autograph=False, jit_compile=True)
    def program():
        return tf.while_loop(lambda i, _: i < REPEATS, lambda i, value: (i + 1, body(i, value)), [0, start])[1]

    program()  # compiles
    return lambda: program().numpy()


@pytest.mark.parametrize("family", [Bernoulli, Categorical])
def test_sampling(benchmark, family):
    logits = tf.constant(rng.normal(size=[BATCH, UNITS // 10, 10]), tf.float32)

    def draw(step, logits):
        z = family(logits).reparameterize(uniform(logits.shape, step, 1))
        return logits + 1e-6 * family.threshold(z)

    benchmark(repeated(draw, logits))


def test_log_prob_of_an_image(benchmark):
    x = tf.constant(rng.uniform(size=[BATCH, PIXELS]) < 0.13, tf.float32)
    logits = tf.constant(rng.normal(size=[BATCH, PIXELS]), tf.float32)
    benchmark(repeated(lambda _, logits: logits + 1e-9 * Bernoulli(logits).log_prob(x)[:, tf.newaxis], logits))


@pytest.mark.parametrize("estimator", SAMPLED)
def test_step(benchmark, estimator):
    """One hundred training steps of the paper's network."""
    model = rt.models.SigmoidBeliefNetwork(estimator=estimator, seed=0)
    model.compile(optimizer=rt.optimizers.Adam(3e-4), steps_per_execution=REPEATS, jit_compile=True)
    images = (rng.uniform(size=[REPEATS * BATCH, PIXELS]) < 0.13).astype(np.float32)
    batches = rt.datasets.batches(images, BATCH).batch(REPEATS)
    model.fit(rt.datasets.batches(images, BATCH), steps_per_epoch=REPEATS, verbose=0, shuffle=False)
    block = next(iter(batches))
    program = model.train_function.program
    benchmark(lambda: program(block, tf.constant(REPEATS))["loss"].numpy())


def test_adam(benchmark):
    """One hundred updates of the variables of the paper's network."""
    variables = [keras.Variable(tf.zeros(shape)) for shape in ([PIXELS, UNITS], [UNITS, PIXELS], [PIXELS, 100])]
    gradients = [tf.constant(rng.normal(size=variable.shape), tf.float32) for variable in variables]
    optimizer = rt.optimizers.Adam(3e-4)
    optimizer.build(variables)

    @tf.function(autograph=False, jit_compile=True)
    def program():
        def body(i):
            optimizer.apply_gradients(zip(gradients, variables, strict=True))
            return [i + 1]

        return tf.while_loop(lambda i: i < REPEATS, body, [0])

    program()
    benchmark(lambda: program()[0].numpy())
