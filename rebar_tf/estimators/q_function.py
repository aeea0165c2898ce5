"""REBAR with a Q-function that is fitted to the objective in place of the relaxed pass."""

from __future__ import annotations

import tensorflow as tf

from rebar_tf.estimators.base import ControlSpec, Estimate, Objective
from rebar_tf.estimators.control_network import build_networks, learned_objective
from rebar_tf.estimators.rebar import RelaxedControlVariate, RelaxedObjective
from rebar_tf.estimators.registry import register
from rebar_tf.sampling import HardSampler, Site


@register
class QFunction(RelaxedControlVariate):
    """The Q-function of appendix F: REBAR with a learned `Q(sigma_lambda(z_i))` in place of the relaxed objective.

    The local form of REBAR, layer by layer,

        (f - eta Q) dlog p(b)/dl  +  eta dQ/dz (dz/dl - dz~/dl).

    Q is a network of 100 tanh units for each layer, over the relaxed sample and the means of the layer's units. It is
    trained by squared error to predict f; eta, temperature and baseline on the single-sample variance.

    Unbiased; 1 evaluation of the objective, which need not be differentiable. Takes the arguments of `Rebar` but for
    `group_size`, and raises what `Rebar` does.

    Example:
    >>> import rebar_tf as rt
    >>> layer = rt.layers.StochasticBinary(estimator="q_function")

    Reference: Tucker et al. 2017, appendix F.
    """

    estimator_name = "q_function"

    def build_variables(self, spec: ControlSpec) -> None:
        super().build_variables(spec)
        self.networks = build_networks(spec, "q")

    def estimate(self, objective: Objective, step: tf.Tensor, context: tf.Tensor | None = None) -> Estimate:
        estimate = super().estimate(objective, step, context)
        estimate.control_loss = tf.add_n([self._squared_error(site, estimate.value) for site in estimate.sites])
        return estimate

    def _squared_error(self, site: Site, f: tf.Tensor) -> tf.Tensor:
        """The mean of `(f(b) - Q(sigma_lambda(z_i)))^2`."""
        relaxed = tf.stop_gradient(self.temperature.relax(site.distribution, site.z, site.layer))
        q = self.networks[site.layer].call(relaxed, site.distribution.mean())
        return tf.reduce_mean(tf.square(tf.stop_gradient(f) - q))

    def relaxed_objective(self, objective: Objective, trace: HardSampler, group: list[Site]) -> RelaxedObjective:
        return learned_objective(self.networks, group, self.temperature, frozen=True)
