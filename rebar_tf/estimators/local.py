"""The base of the estimators that need no objective: the gradient passes through the layer's own sample."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from rebar_tf.distributions import Distribution
from rebar_tf.estimators.base import ControlSpec, Estimate, Estimator, Objective, check_trace, derivatives, evaluate
from rebar_tf.estimators.temperature import Temperature
from rebar_tf.sampling import HardSampler


class LocalEstimator(Estimator):
    """Base of the estimators whose layers are plain layers: a sample with a derivative, in whatever model.

    A subclass says in `smooth` or `differentiated` what the derivative is that of. In a model whose layers all have
    one, the model's estimate is the gradient of the objective by those derivatives.
    """

    local = True
    unbiased = False
    needs_derivative = True
    relaxes: bool = False  # whether the layer's output in training is the smooth sample itself, and not a hard one

    def smooth(self, distribution: Distribution, noise: tf.Tensor) -> tf.Tensor:
        """A differentiable stand-in for the hard sample of that noise.

        Args:
            distribution: of the layer's units.
            noise: uniforms like the logits.
        """
        raise NotImplementedError

    def differentiated(self, distribution: Distribution, noise: tf.Tensor) -> tf.Tensor:
        """What has the derivative of the hard sample; by default the smooth one.

        A subclass has another where that derivative belongs to no function of logits and noise. In the control variate
        of another layer's estimator, which needs one, `smooth` stands for the sample.
        """
        return self.smooth(distribution, noise)

    def sample(self, distribution: Distribution, noise: tf.Tensor, training: bool) -> tf.Tensor:
        """What the layer outputs: the hard sample with the derivative of `differentiated`.

        In training an estimator that `relaxes` has the smooth sample for its value, too.
        """
        if training and self.relaxes:
            return self.smooth(distribution, noise)
        smooth = self.differentiated(distribution, noise)
        nothing = smooth - tf.stop_gradient(smooth)
        # Of infinite logits, whose samples are certain, the smooth sample may be no number.
        return distribution.sample(noise) + tf.where(tf.math.is_nan(nothing), tf.zeros_like(nothing), nothing)

    def estimate(self, objective: Objective, step: tf.Tensor, context: tf.Tensor | None = None) -> Estimate:
        """The derivative of the objective in training; its value at hard samples (appendix G.3)."""
        value = None
        if self.relaxes:
            with HardSampler(step, training=False):
                value = tf.stop_gradient(evaluate(objective))
        with HardSampler(step, score_in_density=True) as trace:
            f = evaluate(objective)
        check_trace(trace)
        derivatives(trace, f)  # refuses an objective without derivative
        return Estimate(value=f if value is None else value, direct=f)


class TemperedEstimator(LocalEstimator):
    """Base of the local estimators that have a temperature, which nothing trains.

    Args:
        temperature: of the layer; `rebar_tf.callbacks.TemperatureScheduler` moves it.
    """

    def __init__(self, temperature: Temperature, **kwargs: Any):
        super().__init__(**kwargs)
        self.temperature = temperature

    def build_variables(self, spec: ControlSpec) -> None:
        self.temperature.build(len(spec.layer_shapes))

    def diagnostics(self) -> dict[str, tf.Tensor]:
        return self.temperature.diagnostics()

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "temperature": self.temperature.initial}


class RelaxedEstimator(TemperedEstimator):
    """Base of the local estimators whose smooth sample is a relaxed one.

    Args:
        temperature: lambda, > 0.
        relaxation: `"concrete"` or `"eq7"`.

    Raises:
        ValueError: for a temperature that is not positive, or an unknown relaxation.
    """

    def __init__(self, temperature: float, relaxation: str = "concrete", **kwargs: Any):
        super().__init__(Temperature(temperature, relaxation), **kwargs)

    def smooth(self, distribution: Distribution, noise: tf.Tensor) -> tf.Tensor:
        return self.temperature.relax(distribution, distribution.reparameterize(noise), layer=0)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "relaxation": self.temperature.relaxation}
