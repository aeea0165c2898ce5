"""The exact gradient, by enumeration."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import tensorflow as tf

from rebar_tf.estimators.base import ALL_FAMILIES, Estimate, Estimator, Objective, evaluate
from rebar_tf.estimators.registry import register
from rebar_tf.sampling import ForcedSampler, Site

MAX_STATES = 2**12


@register
class Exact(Estimator):
    """The exact expectation `sum_b p(b) f(b)` and its gradient, by enumeration of all joint states.

    No variance, and no samples in the reported objective. One evaluation of the objective for each state, at most 4,096
    of them (12 binary units); the objective need not be differentiable.

    The states are a loop, and TensorFlow differentiates a loop by stacking what its passes computed, shapes too. Under
    XLA, in a function that was traced for batches of any size, an objective whose derivative needs such a shape
    (`tf.tile(b, [1, tf.shape(b)[1]])`, say) therefore does not compile: "must be a compile-time constant". Trace with
    the batch size: `tf.ensure_shape(logits, [24, 10])`, an input signature that has it, or `drop_remainder=True` where
    the data are batched.

    Raises:
        ValueError: for more than 4,096 states, at the first step.

    Example:
    >>> import rebar_tf as rt
    >>> layer = rt.layers.StochasticBinary(estimator="exact")
    """

    estimator_name = "exact"
    families = ALL_FAMILIES
    evaluations = "all states"
    enumerates = True
    serves_coupled = False

    def estimate(self, objective: Objective, step: tf.Tensor, context: tf.Tensor | None = None) -> Estimate:
        trace, f_sampled = self.hard_pass(objective, step)
        tables = state_tables(trace)
        count = math.prod(table.shape[0] for table in tables)

        def add_state(i: tf.Tensor, total: tf.Tensor) -> list[tf.Tensor]:
            with ForcedSampler(joint_state(tables, i), step) as forced:
                f = evaluate(objective)
            return [i + 1, total + tf.exp(forced.log_prob) * f]

        start = [tf.constant(0), tf.zeros_like(f_sampled)]
        total = tf.while_loop(lambda i, _: i < count, add_state, start, maximum_iterations=count)[1]
        return Estimate(value=total, direct=total)


def state_tables(sites: Iterable[Site]) -> list[tf.Tensor]:
    """For each site of a hard pass all joint samples of its units, `[states, ...]`.

    Raises:
        ValueError: if the sites together have more than 4,096 states, or one has a number of units that is not fixed.
    """
    shapes = [tuple(site.logits.shape[1:]) for site in sites]
    for site, shape in zip(sites, shapes, strict=True):
        if None in shape:
            raise ValueError(
                "Enumeration takes layers with a fixed number of units. Give the sequences one length, or use rloo or "
                f"another estimator that samples. Received: layer {site.source.name!r} with logits of shape "
                f"{(None, *shape)}"
            )
    sizes = [site.distribution.num_states(shape) for site, shape in zip(sites, shapes, strict=True)]
    if math.prod(sizes) > MAX_STATES:
        raise ValueError(
            f"Enumeration takes at most {MAX_STATES} joint states of the stochastic units (12 binary ones). "
            f"Received: {math.prod(sizes)}. Use rebar or another estimator that samples"
        )
    return [tf.constant(site.distribution.states(shape)) for site, shape in zip(sites, shapes, strict=True)]


def joint_state(tables: list[tf.Tensor], number: tf.Tensor) -> Callable[[int, tf.Tensor], tf.Tensor]:
    """The samples of the joint state of that number, as `ForcedSampler` takes them."""
    strides = [math.prod(table.shape[0] for table in tables[:i]) for i in range(len(tables))]

    def sample(i: int, logits: tf.Tensor) -> tf.Tensor:
        row = tf.gather(tables[i], number // strides[i] % tables[i].shape[0])
        return tf.zeros_like(logits) + row

    return sample
