"""Gumbel-Rao: Gumbel straight-through, averaged over the noise given the sample."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf

from rebar_tf.distributions import Distribution, independent
from rebar_tf.distributions.math import open_interval
from rebar_tf.estimators.local import RelaxedEstimator
from rebar_tf.estimators.registry import register
from rebar_tf.validation import check_integer


@register
class GumbelRao(RelaxedEstimator):
    """Gumbel-Rao: the derivative of Gumbel straight-through, a mean over K draws of the noise that give the sample.

        df(b)/db  1/K sum_k d sigma_lambda(z_k)/dz,        z_k ~ p(z | b).

    Its expectation is that of Gumbel straight-through, whose bias it has; its variance is never above. One evaluation
    of the objective, which must be differentiable in the samples; the K draws cost the layer's units alone. They share
    one uniform number a unit, rotated by multiples of 1/K, so that each has the law of the noise given the sample, and
    together they cover it evenly.

    A local estimator: its layers train in any Keras model, and beside others.

    Args:
        temperature: lambda, > 0, held fixed; `rebar_tf.callbacks.TemperatureScheduler` moves it. A small one has a
            small bias, and here not the variance that usually comes with it.
        num_draws: K, 2 or more.
        relaxation: `"concrete"` or `"eq7"`.

    Raises:
        ValueError: for a temperature that is not positive, an unknown relaxation, or a `num_draws` below 2.

    Example:
    >>> import rebar_tf as rt
    >>> layer = rt.layers.StochasticBinary(estimator=rt.estimators.GumbelRao(temperature=0.1, num_draws=10))

    Reference: Paulus, Maddison & Krause 2021.
    """

    estimator_name = "gumbel_rao"

    def __init__(self, temperature: float = 0.1, num_draws: int = 10, relaxation: str = "concrete", **kwargs: Any):
        super().__init__(temperature, relaxation, **kwargs)
        check_integer("num_draws", num_draws, least=2)
        self.num_draws = int(num_draws)

    def differentiated(self, distribution: Distribution, noise: tf.Tensor) -> tf.Tensor:
        distribution = independent(distribution)
        b = distribution.sample(noise)
        turns = self.rotations(b.shape[-1]).reshape(self.num_draws, *[1] * (b.shape.rank - 1), -1)
        v = open_interval(tf.math.floormod(distribution.couple(noise, b) + turns, 1.0))
        z = tf.stop_gradient(distribution.conditional(v, b))
        # As a function of the logits z is as it was drawn: dz/dl is the identity, up to what a softmax does not see.
        moved = z + (distribution.logits - tf.stop_gradient(distribution.logits))
        return tf.reduce_mean(self.temperature.relax(distribution, moved, layer=0), axis=0)

    def rotations(self, units: int) -> np.ndarray:
        """`[K, units]` multiples of 1/K: in each unit all of them, in an order that neighbours do not share."""
        coprime = [stride for stride in range(1, self.num_draws) if math.gcd(stride, self.num_draws) == 1]
        turns = np.outer(np.arange(self.num_draws), np.resize(coprime, units)) % self.num_draws
        return (turns / self.num_draws).astype(np.float32)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_draws": self.num_draws}
