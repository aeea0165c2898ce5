"""The surrogate loss: how an estimate of a gradient enters automatic differentiation."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from rebar_tf.distributions.math import per_unit


@tf.custom_gradient
def surrogate_loss(
    value: tf.Tensor, logits: tf.Tensor, cotangent: tf.Tensor
) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor, None]]]:
    """A loss whose value is `value` and whose gradient with respect to `logits` is `cotangent`.

    The gradient with respect to `value` is 1, so that whatever gradient `value` has of its own (the direct gradient of
    the objective, the surrogate of another layer) passes through, and surrogates of several layers chain.

    The cotangent gets no gradient at first order: it is an estimate, not a path. Inside a second tape the gradient
    computed here is an ordinary function of `cotangent`, which is how temperatures, control-variate scales and
    baselines are trained on the variance of the estimate.

    Args:
        value: `[batch]`, objective values at the hard samples.
        logits: `[batch, ...]`, a stochastic layer's logits.
        cotangent: like `logits`, the estimate of `d E[f] / d logits` for each example.
            Where the logits are `[1, ...]`, of units that the whole batch shares, that of the batch's sum for each.

    Returns:
        `[batch]`, equal to `value`.

    Example:
    >>> import tensorflow as tf
    >>> from rebar_tf.estimators.surrogate import surrogate_loss
    >>> logits = tf.zeros([1, 2])
    >>> with tf.GradientTape() as tape:
    ...     tape.watch(logits)
    ...     loss = surrogate_loss(tf.constant([3.0]), logits, tf.constant([[0.5, -1.0]]))
    >>> loss.numpy().tolist(), tape.gradient(loss, logits).numpy().tolist()
    ([3.0], [[0.5, -1.0]])
    """

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, None]:
        of_examples = per_unit(upstream, cotangent) * cotangent
        if logits.shape[0] == 1:  # one sample for the whole batch: each example's cotangent is that of all
            of_examples = tf.reduce_mean(of_examples, axis=0, keepdims=True)
        return upstream, of_examples, None

    return tf.identity(value), gradient
