"""The gradient-variance metric against the formula, in NumPy."""

import numpy as np
import pytest
import tensorflow as tf

import rebar_tf as rt


@pytest.mark.parametrize("every", [1, 3])
def test_moving_averages_and_log_of_the_mean(every):
    rng = np.random.default_rng(0)
    metric = rt.training.LogGradientVariance(decay=0.9, every=every)
    metric.build_moments([tf.zeros([3]), tf.zeros([2, 2])])
    first, second, variances, skipped = np.zeros(7), np.zeros(7), [], 0
    for step in range(20):
        if step == 10:
            variances.clear()
            metric.reset_state()
        a, b = rng.normal(size=3), rng.normal(size=(2, 2))
        g = np.concatenate([a, b.ravel()])
        skipped += 1
        if skipped == every or step in (0, 10):
            weight, skipped = 1 - 0.9**skipped, 0
            first, second = first + weight * (g - first), second + weight * (g**2 - second)
            variances.append(np.mean(second - first**2))
        metric.update_state([tf.constant(a, tf.float32), tf.constant(b, tf.float32)])
        assert float(metric.result()) == pytest.approx(np.log(np.mean(variances)), abs=1e-4)


def test_every_tenth_gradient_gives_the_variance_of_all_of_them():
    rng = np.random.default_rng(0)
    gradients = tf.constant(rng.normal(1.0, 2.0, size=[40_000, 50]), tf.float32)
    results = []
    for every in (1, 10):
        metric = rt.training.LogGradientVariance(every=every)
        metric.build_moments([gradients[0]])

        @tf.function
        def update_all(metric=metric):
            for gradient in gradients:
                metric.update_state([gradient])

        update_all()
        metric.reset_state()  # the averages have settled
        update_all()
        results.append(float(metric.result()))
    # log 4 less the variance of the mean; the standard error at every=10 is sqrt(2 / (4,000 * 50)) = 0.003.
    assert results[0] == pytest.approx(np.log(4 * (1 - 0.001 / 1.999)), abs=0.01)
    assert results[1] == pytest.approx(results[0], abs=0.02)


def test_every_below_one_is_refused():
    with pytest.raises(ValueError, match=r"`every` must be an integer of 1 or more. Received: every=0"):
        rt.training.LogGradientVariance(every=0)


def test_missing_gradients_count_as_zero():
    metric = rt.training.LogGradientVariance(decay=0.0)
    metric.build_moments([tf.zeros([1]), tf.zeros([3])])
    metric.decay = 0.5
    metric.update_state([tf.constant([2.0]), None])
    assert float(metric.result()) == pytest.approx(np.log((0.5 * 4 - 1.0) / 4))
