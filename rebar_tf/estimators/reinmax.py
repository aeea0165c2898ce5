"""ReinMax: straight-through with a derivative that is right to second order."""

from __future__ import annotations

import tensorflow as tf

from rebar_tf.distributions import Distribution, independent
from rebar_tf.estimators.local import LocalEstimator
from rebar_tf.estimators.registry import register


@register
class ReinMax(LocalEstimator):
    """ReinMax: the mean of straight-through and of the score with a linear objective, temperature 1.

    With `g = df(b)/db` and `p = E[b]`, the cotangent of the logits is

        1/2 (dp/dl)^T g  +  1/2 (b - p) (b - p)^T g,

    Heun's rule for `E[f]` as an integral along lines between the samples. The algorithm of the paper,
    `2 J((b + p) / 2) - J(p) / 2` with `J(q) = diag(q) - q q^T`, is the same matrix. So is ZGR, and for binary units
    DARN(1/2), whose factor on g is half the probability of the value that was not drawn.

    Biased, except where f is quadratic in each unit given the others; 1 evaluation of the objective, which must be
    differentiable in the samples. A local estimator: its layers train in any Keras model, and beside others.

    Example:
    >>> import rebar_tf as rt
    >>> layer = rt.layers.StochasticBinary(estimator="reinmax")

    Reference: Liu et al. 2023, algorithm 2; Shekhovtsov 2023 (ZGR); Gregor et al. 2014 (DARN).
    """

    estimator_name = "reinmax"

    def smooth(self, distribution: Distribution, noise: tf.Tensor) -> tf.Tensor:
        return distribution.mean()

    def differentiated(self, distribution: Distribution, noise: tf.Tensor) -> tf.Tensor:
        b = distribution.sample(noise)
        # The derivative of log p(b) is b - p: of each unit's, times a constant b - p, it is the second term.
        along_score = tf.stop_gradient(distribution.score(b)) * independent(distribution).log_prob_of_units(b)
        return 0.5 * (distribution.mean() + along_score)
