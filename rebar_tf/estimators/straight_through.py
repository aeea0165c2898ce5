"""The straight-through estimators: hard samples forward, a smooth derivative backward."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from rebar_tf.distributions import Distribution
from rebar_tf.estimators.local import LocalEstimator, TemperedEstimator
from rebar_tf.estimators.registry import register


@register
class StraightThrough(LocalEstimator):
    """Straight-through: hard samples forward, the derivative of the mean backward, `df(b)/db dE[b]/dl`.

    Biased, except for an objective that is linear in the samples; 1 evaluation of the objective, which must be
    differentiable in the samples. A local estimator: its layers train in any Keras model, and beside others.

    Example:
    >>> import rebar_tf as rt
    >>> layer = rt.layers.StochasticBinary(estimator="straight_through")

    Reference: Bengio et al. 2013.
    """

    estimator_name = "straight_through"

    def smooth(self, distribution: Distribution, noise: tf.Tensor) -> tf.Tensor:
        return distribution.mean()


@register
class GumbelStraightThrough(TemperedEstimator):
    """Gumbel straight-through: hard samples forward, the derivative of the relaxed sample backward.

    `df(b)/db d sigma_lambda(z)/dl`. Biased; 1 evaluation of the objective, which must be differentiable in the samples.
    A local estimator: its layers train in any Keras model, and beside others.

    Args:
        temperature: lambda, > 0, held fixed; `rebar_tf.callbacks.TemperatureScheduler` moves it.
        relaxation: `"concrete"` or `"eq7"`.

    Raises:
        ValueError: for a temperature that is not positive, or an unknown relaxation.

    Example:
    >>> import rebar_tf as rt
    >>> layer = rt.layers.StochasticBinary(estimator=rt.estimators.GumbelStraightThrough(temperature=0.5))

    Reference: Jang et al. 2016, section 2.2.
    """

    estimator_name = "gumbel_straight_through"

    def __init__(self, temperature: float = 0.5, relaxation: str = "concrete", **kwargs: Any):
        super().__init__(temperature, relaxation, **kwargs)
