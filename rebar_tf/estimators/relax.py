"""RELAX and LAX: REBAR with a learned control variate."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from rebar_tf.estimators.base import ControlSpec, Objective
from rebar_tf.estimators.rebar import Rebar, build_networks, learned_objective
from rebar_tf.sampling import HardSampler, Site


class Relax(Rebar):
    """RELAX: REBAR whose control variate has a learned part, `c(z) = f(sigma_lambda(z)) + r(z)`.

    The local form of REBAR with `c` in place of the relaxed objective, layer by layer (`n_pass`):

        (f - eta c) dlog p(b)/dl  +  eta dc/dz (dz/dl - dz~/dl).

    r is a network of 100 tanh units for each layer, over the relaxed sample and the means of the layer's units. It
    starts at zero, where RELAX is REBAR, and is trained on the single-sample variance with eta and temperature.

    Unbiased; `1 + n` evaluations of the objective, which must be differentiable in the samples.

    Args:
        temperature: lambda at the start, > 0.
        learn_temperature: whether lambda is trained.
        relaxation: `"eq7"` or `"concrete"`.
        temperature_per_layer: whether each stochastic layer has a lambda of its own.
        eta: `"variable"`, `"shared"` or `"unit"`.

    Example:
    >>> import rebar_tf as rt
    >>> layer = rt.layers.StochasticBinary(estimator="relax")

    Reference: Grathwohl et al. 2018, "Backpropagation through the void", section 3.2.
    """

    estimator_name = "relax"
    forward_mode = False

    def __init__(
        self,
        temperature: float = 0.5,
        learn_temperature: bool = True,
        relaxation: str = "eq7",
        temperature_per_layer: bool = False,
        eta: str = "variable",
        **kwargs,
    ):
        super().__init__(
            temperature, learn_temperature, relaxation, temperature_per_layer, rule="n_pass", eta=eta, **kwargs
        )

    def build_variables(self, spec: ControlSpec) -> None:
        super().build_variables(spec)
        self.networks = build_networks(spec, "r")

    def relaxed_objective(
        self, objective: Objective, trace: HardSampler, group: list[Site]
    ) -> tuple[tf.Tensor, list[tf.Tensor], list[tf.Tensor]]:
        f_relaxed, relaxed, (derivative,) = super().relaxed_objective(objective, trace, group)
        r, _, (r_derivative,) = learned_objective(self.networks, group, self.relax)
        return f_relaxed + r, relaxed, [derivative + r_derivative]

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["rule"], config["every"]
        return config


class Lax(Relax):
    """LAX: the learned control variate alone, `c(z) = r(z)`; the objective is a black box.

    RELAX without its relaxed objective. Unbiased; 1 evaluation of the objective, which need not be differentiable.

    Example:
    >>> import rebar_tf as rt
    >>> layer = rt.layers.StochasticBinary(estimator="lax")

    Reference: Grathwohl et al. 2018, sections 3.1 and 3.2.
    """

    estimator_name = "lax"
    evaluations = "1"
    needs_derivative = False

    def relaxed_objective(
        self, objective: Objective, trace: HardSampler, group: list[Site]
    ) -> tuple[tf.Tensor, list[tf.Tensor], list[tf.Tensor]]:
        return learned_objective(self.networks, group, self.relax)
