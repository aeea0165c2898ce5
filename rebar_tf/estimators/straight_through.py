"""The straight-through estimator."""

from __future__ import annotations

import tensorflow as tf

from rebar_tf.estimators.base import Estimate, Estimator, Objective, evaluate
from rebar_tf.sampling import StraightThroughSampler


class StraightThrough(Estimator):
    """Straight-through: hard samples forward, the derivative of the mean backward, `df(b)/db dE[b]/dl`.

    Biased, except for an objective that is linear in the samples; 1 evaluation of the objective, which must be
    differentiable in the samples.

    Example:
    >>> import rebar_tf as rt
    >>> layer = rt.layers.StochasticBinary(estimator="straight_through")

    Reference: Bengio et al. 2013.
    """

    estimator_name = "straight_through"
    unbiased = False
    needs_derivative = True

    def estimate(self, objective: Objective, step: tf.Tensor, context: tf.Tensor | None = None) -> Estimate:
        with StraightThroughSampler(step):
            f = evaluate(objective)
        return Estimate(value=f, direct=f)
