"""The gradient-variance metric against the formula, in NumPy."""

import numpy as np
import pytest
import tensorflow as tf

import rebar_tf as rt


def test_moving_averages_and_log_of_the_mean():
    rng = np.random.default_rng(0)
    metric = rt.metrics.LogGradientVariance(decay=0.9)
    metric.build_moments([tf.zeros([3]), tf.zeros([2, 2])])
    first, second, variances = np.zeros(7), np.zeros(7), []
    for step in range(20):
        if step == 10:
            variances.clear()
            metric.reset_state()
        a, b = rng.normal(size=3), rng.normal(size=(2, 2))
        g = np.concatenate([a, b.ravel()])
        first, second = 0.9 * first + 0.1 * g, 0.9 * second + 0.1 * g**2
        variances.append(np.mean(second - first**2))
        metric.update_state([tf.constant(a, tf.float32), tf.constant(b, tf.float32)])
        assert float(metric.result()) == pytest.approx(np.log(np.mean(variances)), abs=1e-4)


def test_missing_gradients_count_as_zero():
    metric = rt.metrics.LogGradientVariance(decay=0.0)
    metric.build_moments([tf.zeros([1]), tf.zeros([3])])
    metric.decay = 0.5
    metric.update_state([tf.constant([2.0]), None])
    assert float(metric.result()) == pytest.approx(np.log((0.5 * 4 - 1.0) / 4))
