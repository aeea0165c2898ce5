"""ARM and DisARM: antithetic pairs of samples."""

from __future__ import annotations

import tensorflow as tf

from rebar_tf.distributions.math import per_unit
from rebar_tf.estimators.base import Estimate, Estimator, Objective, evaluate
from rebar_tf.estimators.registry import register
from rebar_tf.sampling import AntitheticSampler, Site


@register
class Arm(Estimator):
    """ARM: `(f(b) - f(b')) (u - 1/2)`, b' drawn from `1 - u`.

    For layer i of several, the layers before it stay as sampled and those after it are drawn from their own noise,
    given the antithetic sample of layer i.

    Unbiased; `1 + n` evaluations of the objective, which need not be differentiable. Bernoulli units only.

    Example:
    >>> import rebar_tf as rt
    >>> layer = rt.layers.StochasticBinary(estimator="arm")

    Reference: Yin & Zhou 2019, theorem 1.
    """

    estimator_name = "arm"
    evaluations = "1 + n"
    families = ("bernoulli",)

    def estimate(self, objective: Objective, step: tf.Tensor, context: tf.Tensor | None = None) -> Estimate:
        trace, f = self.hard_pass(objective, step)
        plain = []
        for site in trace:
            with AntitheticSampler(trace, site.index) as antithetic:
                f_antithetic = evaluate(objective)
            difference = tf.stop_gradient(f - f_antithetic)
            weight = self.weight(site, antithetic.outputs[site.index])
            plain.append(per_unit(difference, weight) * weight)
        return Estimate(value=f, direct=f, sites=trace.sites, plain=plain)

    def weight(self, site: Site, antithetic: tf.Tensor) -> tf.Tensor:
        """What multiplies the difference of the two objectives, like the logits."""
        return site.noise - 0.5


@register
class DisArm(Arm):
    """DisARM: ARM with the noise integrated out given the pair of samples (Rao-Blackwellised).

        1/2 (f(b) - f(b')) (-1)^b' 1[b != b'] sigmoid(abs(l)).

    Also known as U2G. Unbiased; `1 + n` evaluations of the objective, which need not be differentiable. Bernoulli units
    only. Its variance is never above ARM's.

    Example:
    >>> import rebar_tf as rt
    >>> layer = rt.layers.StochasticBinary(estimator="disarm")

    Reference: Dong, Mnih & Tucker 2020, eq. 8; Yin et al. 2020.
    """

    estimator_name = "disarm"

    def weight(self, site: Site, antithetic: tf.Tensor) -> tf.Tensor:
        # (-1)^b' 1[b != b'] is b - b'.
        return 0.5 * (site.sample - antithetic) * tf.sigmoid(tf.abs(site.logits))
