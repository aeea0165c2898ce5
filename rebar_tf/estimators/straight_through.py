"""The straight-through estimators: hard samples forward, a smooth derivative backward."""

from __future__ import annotations

import tensorflow as tf

from rebar_tf.estimators.base import Estimate, Estimator, Objective, check_trace, evaluate
from rebar_tf.estimators.temperature import RelaxingEstimator
from rebar_tf.sampling import Site, StraightThroughSampler


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
        with StraightThroughSampler(step, self.smooth) as trace:
            f = evaluate(objective)
        check_trace(trace)
        trace.gradients(f)  # refuses an objective without derivative
        return Estimate(value=f, direct=f)

    def smooth(self, site: Site) -> tf.Tensor:
        """What the derivative is that of."""
        return site.family.mean(site.logits)


class GumbelStraightThrough(RelaxingEstimator, StraightThrough):
    """Gumbel straight-through: hard samples forward, the derivative of the relaxed sample backward.

    `df(b)/db d sigma_lambda(z)/dl`. Biased; 1 evaluation of the objective, which must be differentiable in the samples.

    Args:
        temperature: lambda, > 0, held fixed.
        relaxation: `"concrete"` or `"eq7"`.

    Raises:
        ValueError: for a temperature that is not positive, or an unknown relaxation.

    Example:
    >>> import rebar_tf as rt
    >>> layer = rt.layers.StochasticBinary(estimator=rt.estimators.GumbelStraightThrough(temperature=0.5))

    Reference: Jang et al. 2016, section 2.2.
    """

    estimator_name = "gumbel_straight_through"

    def __init__(self, temperature: float = 0.5, relaxation: str = "concrete", **kwargs):
        super().__init__(temperature, relaxation, **kwargs)

    def smooth(self, site: Site) -> tf.Tensor:
        return self.relax(site, site.z, site.logits)
