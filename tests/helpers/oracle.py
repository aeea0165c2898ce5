"""The exact gradient of what Keras would minimise, by enumeration of the joint samples of a whole batch.

Nothing here knows of estimators or of the library's objective: the loss is the model's own `compute_loss`, and a forced
sample is an ordinary output of a layer.
"""

import itertools

import numpy as np
import tensorflow as tf

from rebar_tf.sampling import ForcedSampler, HardSampler


def states_of(distribution, batch):
    """All joint samples of a batch, one after the other."""
    one = distribution.states(tuple(distribution.logits.shape[1:]))
    return [np.stack(rows) for rows in itertools.product(one, repeat=batch)]


def exact(model, x, y=None, sample_weight=None):
    """`E[loss]`, and its gradient by each of the model's variables."""
    with HardSampler(0, training=False) as trace:
        model(x, training=True)
    batch = len(tf.nest.flatten(x)[0])
    tables = [states_of(site.distribution, batch) for site in trace]
    values = [variable.value for variable in model.model_variables]
    state = [(v, v.numpy()) for v in model.non_trainable_variables]
    with tf.GradientTape() as tape:
        total = 0.0
        for given in itertools.product(*tables):
            for variable, value in state:
                variable.assign(value)
            with ForcedSampler(lambda i, logits, given=given: tf.constant(given[i])) as forced:
                y_pred = model(x, training=True)
            loss = model.compute_loss(x, y, y_pred, sample_weight)
            total += tf.exp(tf.reduce_sum(forced.log_prob)) * loss
    for variable, value in state:
        variable.assign(value)
    gradients = tape.gradient(total, values, unconnected_gradients="zero")
    return float(total), [np.asarray(tf.convert_to_tensor(g), np.float64) for g in gradients]


def estimates(model, x, y=None, sample_weight=None, count=4000):
    """Means of the reported loss and of the gradient of each of the model's variables, with their standard errors."""
    data = [
        part if part is None else tf.nest.map_structure(tf.convert_to_tensor, part) for part in (x, y, sample_weight)
    ]
    variables = model.model_variables

    def add(i, *sums):
        loss, gradients = model.estimate_gradients(*data)
        new = [loss, *gradients[: len(variables)]]
        new = [tf.zeros_like(s) if g is None else tf.cast(g, tf.float64) for g, s in zip(new, sums[::2], strict=True)]
        pairs = zip(new, sums[::2], sums[1::2], strict=True)
        return i + 1, *(part for g, s, q in pairs for part in (s + g, q + g * g))

    @tf.function(jit_compile=False)
    def accumulate():
        shapes = [[], *(v.shape for v in variables)]
        zeros = [tf.zeros(shape, tf.float64) for shape in shapes for _ in range(2)]
        return tf.while_loop(lambda i, *_: i < count, add, [tf.constant(0), *zeros])[1:]

    sums = [np.asarray(part) / count for part in accumulate()]
    means, squares = sums[::2], sums[1::2]
    errors = [np.sqrt(np.maximum(q - m * m, 0) / (count - 1)) for m, q in zip(means, squares, strict=True)]
    return means, errors


def assert_unbiased(model, x, y=None, sample_weight=None, count=4000, power=0.25):
    """The mean loss and gradient are the exact ones: false alarms 1e-5 over all entries, and the power is stated.

    A bias of `power` times the largest entry of a variable's gradient, in every entry, would be seen.
    """
    value, gradients = exact(model, x, y, sample_weight)
    means, errors = estimates(model, x, y, sample_weight, count)
    expected = [np.float64(value), *gradients]
    largest = max(np.abs(g).max() for g in gradients)
    for name, mean, error, target in zip(
        ["loss", *(v.path for v in model.model_variables)], means, errors, expected, strict=True
    ):
        error = np.maximum(error, 2e-5 * (np.abs(target).max() + largest * 0.1))
        z = np.abs(mean - target) / error
        assert z.max() < 5.5, f"{name}: z {z.max():.1f}, mean {mean}, exact {target}"
        if name != "loss":
            assert 5.5 * error.max() < power * max(np.abs(target).max(), 0.3 * largest), f"too little power for {name}"
