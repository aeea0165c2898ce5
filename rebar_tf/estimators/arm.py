"""ARM and DisARM: antithetic pairs of samples."""

from __future__ import annotations

import tensorflow as tf

from rebar_tf.distributions.math import per_unit
from rebar_tf.estimators.base import Estimate, Estimator, Objective, evaluate_at
from rebar_tf.estimators.decisions import Decisions
from rebar_tf.estimators.registry import register


@register
class Arm(Estimator):
    """ARM: `(f(b) - f(b')) (u - 1/2)`, b' drawn from `1 - u`.

    For layer i of several, the layers before it stay as sampled and those after it are drawn from their own noise,
    given the antithetic sample of layer i. A categorical unit is a path of binary decisions through a balanced tree of
    its classes, whose logits get the estimate; its tables grow as the square of the classes, of which it suits some
    hundreds.

    Unbiased; `1 + n` evaluations of the objective, which need not be differentiable.

    Example:
    >>> import rebar_tf as rt
    >>> layer = rt.layers.StochasticBinary(estimator="arm")

    Reference: Yin & Zhou 2019, theorem 1; the tree after Dong, Mnih & Tucker 2021.
    """

    estimator_name = "arm"
    evaluations = "1 + n"

    def estimate(self, objective: Objective, step: tf.Tensor, context: tf.Tensor | None = None) -> Estimate:
        trace, f = self.hard_pass(objective, step)
        plain = []
        for site in trace:
            decisions = Decisions(site, trace.step)
            antithetic = decisions.made(1.0 - decisions.noise)
            difference = tf.stop_gradient(f) - evaluate_at(objective, trace, site, decisions.sample(antithetic))
            weight = self.weight(decisions, antithetic) * decisions.relevant([decisions.drawn, antithetic])
            plain.append(decisions.to_logits(per_unit(difference, weight) * weight))
        return Estimate(value=f, direct=f, sites=trace.sites, plain=plain)

    def weight(self, decisions: Decisions, antithetic: tf.Tensor) -> tf.Tensor:
        """What multiplies the difference of the two objectives, like the decisions' logits."""
        return decisions.noise - 0.5


@register
class DisArm(Arm):
    """DisARM: ARM with the noise integrated out given the pair of samples (Rao-Blackwellised).

        1/2 (f(b) - f(b')) (-1)^b' 1[b != b'] sigmoid(abs(l)).

    Also known as U2G; for categorical units DisARM-Tree. Unbiased; `1 + n` evaluations of the objective, which need
    not be differentiable. Its variance is never above ARM's.

    Example:
    >>> import rebar_tf as rt
    >>> layer = rt.layers.StochasticBinary(estimator="disarm")

    Reference: Dong, Mnih & Tucker 2020, eq. 8; Yin et al. 2020; Dong, Mnih & Tucker 2021 (categorical units).
    """

    estimator_name = "disarm"

    def weight(self, decisions: Decisions, antithetic: tf.Tensor) -> tf.Tensor:
        # (-1)^b' 1[b != b'] is b - b'.
        return 0.5 * (decisions.drawn - antithetic) * tf.sigmoid(tf.abs(decisions.logits))
