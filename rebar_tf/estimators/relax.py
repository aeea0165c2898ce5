"""RELAX and LAX: REBAR with a learned control variate."""

from __future__ import annotations

from rebar_tf.estimators.base import ControlSpec, Objective
from rebar_tf.estimators.control_network import build_networks, learned_objective
from rebar_tf.estimators.rebar import RelaxedControlVariate, RelaxedObjective
from rebar_tf.estimators.registry import register
from rebar_tf.sampling import HardSampler, Site


@register
class Relax(RelaxedControlVariate):
    """RELAX: REBAR whose control variate has a learned part, `c(z) = f(sigma_lambda(z)) + r(z)`.

    The local form of REBAR with `c` in place of the relaxed objective, one pass a layer (n-pass):

        (f - eta c) dlog p(b)/dl  +  eta dc/dz (dz/dl - dz~/dl).

    r is a network of 100 tanh units for each layer, over the relaxed sample and the means of the layer's units. It
    starts at zero, where RELAX is REBAR, and is trained on the single-sample variance with eta and temperature.

    Unbiased; `1 + n` evaluations of the objective, which must be differentiable in the samples.

    Takes the arguments of `Rebar` but for `group_size`, and raises what `Rebar` does.

    Example:
    >>> import rebar_tf as rt
    >>> layer = rt.layers.StochasticBinary(estimator="relax")

    Reference: Grathwohl et al. 2018, "Backpropagation through the void", section 3.2.
    """

    estimator_name = "relax"
    evaluations = "1 + n"
    needs_derivative = True
    forward_mode = False  # the learned network, too, is trained through the control variate

    def build_variables(self, spec: ControlSpec) -> None:
        super().build_variables(spec)
        self.networks = build_networks(spec, "r")

    def relaxed_objective(self, objective: Objective, trace: HardSampler, group: list[Site]) -> RelaxedObjective:
        f_relaxed, relaxed, (slope,) = self.relaxed_pass(objective, trace, group)
        r, _, (r_slope,) = learned_objective(self.networks, group, self.temperature)
        return f_relaxed + r, relaxed, [slope + r_slope]


@register
class Lax(Relax):
    """LAX for discrete units: the learned control variate alone, `c(z) = r(z)`; the objective is a black box.

        (f - eta r) dlog p(b)/dl  +  eta dr/dz (dz/dl - dz~/dl),

    RELAX without its relaxed objective. LAX proper, `(f(b) - r(b)) dlog p(b)/dl + dr(b)/dl`, is for continuous b; for
    discrete ones the paper conditions r on the sample, as here, and calls that RELAX with any surrogate. Here r sees
    the relaxed sample and the means in place of z, has a scale eta, and shares the noise of `z~` (appendix G.2 of the
    REBAR paper).

    Unbiased; 1 evaluation of the objective, which need not be differentiable. Takes the arguments of `Relax`.

    Example:
    >>> import rebar_tf as rt
    >>> layer = rt.layers.StochasticBinary(estimator="lax")

    Reference: Grathwohl et al. 2018, sections 3.1 and 3.2.
    """

    estimator_name = "lax"
    evaluations = "1"
    needs_derivative = False

    def relaxed_objective(self, objective: Objective, trace: HardSampler, group: list[Site]) -> RelaxedObjective:
        return learned_objective(self.networks, group, self.temperature)
