"""The pathwise gradient of the relaxed objective: Concrete, also known as Gumbel-softmax."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from rebar_tf.estimators.base import ControlSpec, Estimate, Estimator, Objective, derivatives, evaluate
from rebar_tf.estimators.registry import register
from rebar_tf.estimators.temperature import Temperature


@register
class Concrete(Estimator):
    """Concrete: `df(sigma_lambda(z))/dl`, every layer relaxed, for all variables of the model.

    Biased: it is the gradient of a relaxed objective. What is reported is the proper objective at hard samples
    (appendix G.3). 2 evaluations of the objective, which must be differentiable in the samples; the objective keeps its
    own formula for relaxed samples, no Concrete density enters.

    Args:
        temperature: lambda, > 0, held fixed.
        relaxation: `"concrete"` or `"eq7"`.

    Raises:
        ValueError: for a temperature that is not positive, or an unknown relaxation.

    Example:
    >>> import rebar_tf as rt
    >>> layer = rt.layers.StochasticBinary(estimator=rt.estimators.Concrete(temperature=0.1))

    Reference: Maddison et al. 2016; Jang et al. 2016; Tucker et al. 2017, appendix G.3.
    """

    estimator_name = "concrete"
    unbiased = False
    evaluations = "2"
    needs_derivative = True

    def __init__(self, temperature: float = 0.1, relaxation: str = "concrete", **kwargs: Any):
        super().__init__(**kwargs)
        self.temperature = Temperature(temperature, relaxation)

    def build_variables(self, spec: ControlSpec) -> None:
        self.temperature.build(len(spec.layer_shapes))

    def estimate(self, objective: Objective, step: tf.Tensor, context: tf.Tensor | None = None) -> Estimate:
        trace, f = self.hard_pass(objective, step)
        with self.temperature.relaxed_pass(trace) as relaxed:
            f_relaxed = evaluate(objective)
        derivatives(relaxed, trace, f_relaxed)  # refuses an objective without derivative
        return Estimate(value=tf.stop_gradient(f), direct=f_relaxed)

    def diagnostics(self) -> dict[str, tf.Tensor]:
        return self.temperature.diagnostics()

    def get_config(self) -> dict[str, Any]:
        temperature = self.temperature
        return {**super().get_config(), "temperature": temperature.initial, "relaxation": temperature.relaxation}
