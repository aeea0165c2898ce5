"""OVIS: VIMCO's bound with the control variate of least variance."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from rebar_tf.estimators.registry import register
from rebar_tf.estimators.vimco import Vimco
from rebar_tf.validation import is_fraction


@register
class Ovis(Vimco):
    """OVIS~: the K-sample bound L, each sample's learning signal less the asymptotically optimal control variate.

    With `v_k` the normalised weight of sample k, and `L_{-k}` the bound of the other samples, the score of sample k has
    the factor

        L - v_k - c_k,      c_k = L_{-k} - gamma v_k + (1 - gamma) log(1 - 1/K),

    of which `-v_k` comes by way of the density `log q(b_k|x)` within f, and is not there for an f without one. gamma is
    0 where one sample outweighs the others, and 1 where all count alike. Unbiased for the gradient of `-L` at gamma 0;
    any other makes `c_k` depend on sample k, a bias that vanishes as K grows. K evaluations of f, which need not be
    differentiable.

    Args:
        num_samples: K, 2 or more.
        gamma: in [0, 1].

    Raises:
        ValueError: for a `num_samples` below 2, or a gamma outside of [0, 1].

    Example:
    >>> import rebar_tf as rt
    >>> layer = rt.layers.StochasticBinary(estimator=rt.estimators.Ovis(num_samples=5))

    Reference: Lievin et al. 2020, "Optimal variance control of the score-function gradient estimator for
    importance-weighted bounds", eq. 17.
    """

    estimator_name = "ovis"

    def __init__(self, num_samples: int = 2, gamma: float = 0.0, **kwargs: Any):
        super().__init__(num_samples, **kwargs)
        if isinstance(gamma, bool) or not (is_fraction(gamma) or gamma == 1):
            raise ValueError(f"`gamma` must be a number in [0, 1]. Received: gamma={gamma!r}")
        self.gamma = float(gamma)
        self.unbiased = self.gamma == 0.0

    def signals(self, weights: tf.Tensor, bound: tf.Tensor) -> tf.Tensor:
        # The score of the density, in the direct gradient of the bound, has the factor -v_k already.
        share = tf.nn.softmax(weights, axis=0)
        of_one_less = math.log(1.0 - 1.0 / self.num_samples)
        less_others = of_one_less - log_one_less_share(weights)  # L - L_{-k}
        return less_others + self.gamma * share - (1.0 - self.gamma) * of_one_less

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "gamma": self.gamma}


def log_one_less_share(weights: tf.Tensor) -> tf.Tensor:
    """`log(1 - v_k)`, from the log-weights of the others, `[K, batch]`: no cancellation where `v_k` is near 1."""
    own = tf.eye(weights.shape[0])[:, :, tf.newaxis] > 0.0
    others = tf.reduce_logsumexp(tf.where(own, -float("inf"), weights[tf.newaxis]), axis=1)
    return others - tf.reduce_logsumexp(weights, axis=0)
