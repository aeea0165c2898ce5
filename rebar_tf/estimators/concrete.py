"""The pathwise gradient of the relaxed objective: Concrete, also known as Gumbel-softmax."""

from __future__ import annotations

from typing import Any

from rebar_tf.estimators.local import RelaxedEstimator
from rebar_tf.estimators.registry import register


@register
class Concrete(RelaxedEstimator):
    """Concrete: `df(sigma_lambda(z))/dl`, every layer relaxed, for all variables of the model.

    Biased: it is the gradient of a relaxed objective. In a model whose layers all have a local estimator what is
    reported is the proper objective at hard samples (appendix G.3). 2 evaluations of the objective, which must be
    differentiable in the samples; the objective keeps its own formula for relaxed samples, no Concrete density enters.
    A local estimator: its layers train in any Keras model, and beside others; they are relaxed in training and hard
    otherwise.

    Args:
        temperature: lambda, > 0, held fixed; `rebar_tf.callbacks.TemperatureScheduler` moves it.
        relaxation: `"concrete"` or `"eq7"`.

    Raises:
        ValueError: for a temperature that is not positive, or an unknown relaxation.

    Example:
    >>> import rebar_tf as rt
    >>> layer = rt.layers.StochasticBinary(estimator=rt.estimators.Concrete(temperature=0.1))

    Reference: Maddison et al. 2016; Jang et al. 2016; Tucker et al. 2017, appendix G.3.
    """

    estimator_name = "concrete"
    evaluations = "2"
    relaxes = True

    def __init__(self, temperature: float = 0.1, relaxation: str = "concrete", **kwargs: Any):
        super().__init__(temperature, relaxation, **kwargs)
