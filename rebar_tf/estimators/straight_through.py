"""The straight-through estimators: hard samples forward, a smooth derivative backward."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from rebar_tf.distributions import Distribution
from rebar_tf.estimators.base import ALL_FAMILIES
from rebar_tf.estimators.local import LocalEstimator, RelaxedEstimator, TemperedEstimator
from rebar_tf.estimators.registry import register
from rebar_tf.estimators.temperature import Temperature


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
    families = ALL_FAMILIES

    def smooth(self, distribution: Distribution, noise: tf.Tensor) -> tf.Tensor:
        return distribution.mean()


@register
class GumbelStraightThrough(RelaxedEstimator):
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


@register
class DecoupledStraightThrough(TemperedEstimator):
    """Decoupled straight-through: hard samples forward, the derivative of a mean of another temperature backward.

        df(b)/db dE[b; l / lambda]/dl,      E[b; l] = sigmoid(l) or softmax(l).

    The published estimator has a forward temperature, too: as it changes the law of the samples, and with it the
    objective, it belongs to the model. Its pair of temperatures is `lambda = backward / forward`, with logits
    divided by the forward one.

    Biased, and for lambda other than 1 for a linear objective, too; 1 evaluation of the objective, which must be
    differentiable in the samples. A local estimator: its layers train in any Keras model, and beside others.

    Args:
        temperature: lambda, > 0, held fixed; `rebar_tf.callbacks.TemperatureScheduler` moves it. Above 1 it spreads the
            gradient over more values than the likely ones.

    Raises:
        ValueError: for a temperature that is not positive.

    Example:
    >>> import rebar_tf as rt
    >>> layer = rt.layers.StochasticBinary(estimator=rt.estimators.DecoupledStraightThrough(temperature=2.0))

    Reference: Shah et al. 2024, "Improving discrete optimisation via decoupled straight-through estimator",
    arXiv:2410.13331.
    """

    estimator_name = "decoupled_straight_through"

    def __init__(self, temperature: float = 2.0, **kwargs: Any):
        super().__init__(Temperature(temperature), **kwargs)

    def smooth(self, distribution: Distribution, noise: tf.Tensor) -> tf.Tensor:
        return type(distribution)(distribution.logits / self.temperature.of_layer(0)).mean()
