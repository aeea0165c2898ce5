"""Evaluation and bounds: numbers that training does not draw, and examples that count by their weights."""

import numpy as np
import pytest
import tensorflow as tf

import rebar_tf as rt
from rebar_tf.sampling import HardSampler, hard, uniform
from rebar_tf.training import bounds

X = np.random.default_rng(0).integers(0, 2, (8, 6)).astype(np.float32)


def network(estimator="rloo"):
    model = rt.models.SigmoidBeliefNetwork(2, hidden_units=3, estimator=estimator, visible_units=6, seed=0)
    model.compile(optimizer=rt.optimizers.Adam(1e-3))
    return model


@pytest.fixture
def drawn(monkeypatch):
    """The step and the key of all noise; functions run eagerly."""
    keys = []

    def recorded(shape, step, *key):
        keys.append((int(step), *key))
        return uniform(shape, step, *key)

    monkeypatch.setattr(hard, "uniform", recorded)
    tf.config.run_functions_eagerly(True)
    yield keys
    tf.config.run_functions_eagerly(False)


def test_training_evaluation_and_bounds_draw_numbers_of_their_own(drawn, monkeypatch):
    monkeypatch.setattr(bounds, "_SAMPLES_PER_PROGRAM", 2)
    model = network(rt.estimators.Rloo(num_samples=3))
    for _ in range(3):
        model.estimate_gradients(X)
        model.test_step(X)
    bounds.multi_sample_bound(model, X, num_samples=3, batch_size=2)
    layers, training, evaluation, bound = 2, 3 * 3, 3, 4 * 3
    assert len(drawn) == layers * (training + evaluation + bound)
    assert len(set(drawn)) == len(drawn)


def test_examples_of_an_objective_count_by_their_weights():
    model, weights = network("reinforce"), np.linspace(0.5, 2.0, 8).astype(np.float32)

    def expected(sampler):
        with sampler:
            return np.mean(weights * model.objective(X)[0])

    loss, _ = model.estimate_gradients(X, None, weights)
    assert float(loss) == pytest.approx(expected(HardSampler(1)), rel=1e-5)
    logs = model.test_step((X, None, weights))
    assert float(logs["loss"]) == pytest.approx(expected(HardSampler(1, stream=1, training=False)), rel=1e-5)
