"""The straight-through estimators: hard samples forward, a smooth derivative backward."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from rebar_tf.estimators.base import ControlSpec, Estimate, Estimator, Objective, check_trace, derivatives, evaluate
from rebar_tf.estimators.registry import register
from rebar_tf.estimators.temperature import Temperature
from rebar_tf.sampling import Site, StraightThroughSampler


@register
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
        derivatives(trace, trace, f)  # refuses an objective without derivative
        return Estimate(value=f, direct=f)

    def smooth(self, site: Site) -> tf.Tensor:
        """What the derivative is that of."""
        return site.distribution.mean()


@register
class GumbelStraightThrough(StraightThrough):
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

    def __init__(self, temperature: float = 0.5, relaxation: str = "concrete", **kwargs: Any):
        super().__init__(**kwargs)
        self.temperature = Temperature(temperature, relaxation)

    def build_variables(self, spec: ControlSpec) -> None:
        self.temperature.build(len(spec.layer_shapes))

    def smooth(self, site: Site) -> tf.Tensor:
        return self.temperature.relax(site.distribution, site.z, site.layer)

    def diagnostics(self) -> dict[str, tf.Tensor]:
        return self.temperature.diagnostics()

    def get_config(self) -> dict[str, Any]:
        temperature = self.temperature
        return {**super().get_config(), "temperature": temperature.initial, "relaxation": temperature.relaxation}
