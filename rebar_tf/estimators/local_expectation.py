"""Local expectation: each unit summed out in turn."""

from __future__ import annotations

import math

import tensorflow as tf

from rebar_tf.distributions import independent
from rebar_tf.distributions.math import per_unit
from rebar_tf.estimators.base import Estimate, Estimator, Objective, evaluate_at
from rebar_tf.estimators.registry import register
from rebar_tf.sampling import HardSampler, Site


@register
class LocalExpectation(Estimator):
    """Local expectation gradient: for each unit the exact sum over its values, the others as sampled.

    With `b_{v=c}` the sample that has unit v at value c,

        sum_v sum_c p(b_v = c) (f(b_{v=c}) - f(b)) dlog p(b_v = c)/dl.

    For layer i of several, the layers before it stay as sampled and those after it are drawn from their own noise,
    given the changed sample. The difference to f(b) changes nothing in exact arithmetic.

    Unbiased. `1 + sum over units of (values - 1)` evaluations of the objective, one after the other: for layers of few
    units, or an objective that costs little. It need not be differentiable, and may not mix the examples of a batch.

    Example:
    >>> import rebar_tf as rt
    >>> layer = rt.layers.StochasticCategorical(10, estimator="local_expectation")

    Reference: Titsias & Lazaro-Gredilla 2015, "Local expectation gradients for black box variational inference".
    IndeCateR (De Smet et al. 2023) sums out the same units, each with a sample of the others of its own.
    """

    estimator_name = "local_expectation"
    evaluations = "1 + units (values - 1)"
    serves_coupled = False

    def estimate(self, objective: Objective, step: tf.Tensor, context: tf.Tensor | None = None) -> Estimate:
        trace, f = self.hard_pass(objective, step)
        plain = [summed_out(objective, trace, tf.stop_gradient(f), site) for site in trace]
        return Estimate(value=f, direct=f, sites=trace.sites, plain=plain)


def summed_out(objective: Objective, trace: HardSampler, f: tf.Tensor, site: Site) -> tf.Tensor:
    """The cotangent of a layer's logits, a loop over its units and the values that they do not have."""
    distribution = independent(site.distribution)
    log_p = distribution.log_prob_of_units(site.sample)
    of_units = log_p.shape[1:] if log_p.shape[1:].is_fully_defined() else tf.shape(log_p)[1:]
    turns = distribution.num_values(tuple(site.logits.shape)) - 1
    # A number where it is known: XLA needs it, as TensorFlow makes the gradient of any loop under a tape.
    known = None if tf.is_tensor(of_units) else turns * math.prod(of_units)
    count = turns * tf.reduce_prod(of_units)

    def add(i: tf.Tensor, total: tf.Tensor) -> list[tf.Tensor]:
        other = distribution.turned(site.sample, 1 + i % turns)
        this_unit = tf.reshape(tf.one_hot(i // turns, count // turns), tf.concat([[1], of_units], axis=0))
        change = evaluate_at(objective, trace, site, site.sample + this_unit * (other - site.sample)) - f
        weight = this_unit * tf.exp(distribution.log_prob_of_units(other)) * distribution.score(other)
        return [i + 1, total + tf.stop_gradient(per_unit(change, weight) * weight)]

    start = [tf.constant(0), tf.zeros_like(per_unit(f, site.sample) * site.sample)]
    return tf.stop_gradient(tf.while_loop(lambda i, _: i < count, add, start, maximum_iterations=known)[1])
