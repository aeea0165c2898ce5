"""REBAR for several layers as in the paper's released code, which is biased; see `benchmarks.released_rule`."""

from __future__ import annotations

import keras
import tensorflow as tf

from rebar_tf.distributions import Distribution
from rebar_tf.estimators import Rebar
from rebar_tf.estimators.base import Estimate, Objective, evaluate
from rebar_tf.sampling import HardSampler, RelaxedSampler, Site


@keras.saving.register_keras_serializable("benchmarks")
class ReleasedRebar(Rebar):
    """REBAR with the later layers of each relaxed pass conditioned on their samples, too, without their score.

    What a later layer j adds is `d sigma'(z_j) (dz_j/dl_j - dz~_j/dl_j)`, whose expectation is 0 with the score only.
    """

    estimator_name = "released_rebar"
    unbiased = False

    def estimate(self, objective: Objective, step: tf.Tensor, context: tf.Tensor | None = None) -> Estimate:
        estimate = super().estimate(objective, step, context)
        trace = HardSampler(step)
        trace.sites = list(estimate.sites)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(self.temperature.log_temperature.value)
            later = [part for first in range(len(trace) - 1) for part in self.later_layers(objective, trace, first)]
            sites, residuals = [site for site, _ in later], [residual for _, residual in later]
        estimate.sites = [*estimate.sites, *sites]
        estimate.plain += [tf.zeros_like(residual) for residual in residuals]
        estimate.variate += self.linear_in_temperature(tape, residuals) if residuals else []
        return estimate

    def later_layers(self, objective: Objective, trace: HardSampler, first: int) -> list[tuple[Site, tf.Tensor]]:
        """For each layer after `first` its site in the pass that is relaxed from there on, and the cotangent of it."""
        passed: list[tuple[tf.Tensor, Distribution]] = []

        def relax(distribution: Distribution, z: tf.Tensor, layer: int) -> tf.Tensor:
            passed.append((z, distribution))
            return self.temperature.relax(distribution, z, layer)

        with RelaxedSampler(trace, first, relax) as relaxed:
            f_relaxed = evaluate(objective)
        slopes = relaxed.gradients(f_relaxed, first + 1)
        after = slice(first + 1, None)
        found = []
        for site, y, slope, (z, units) in zip(
            trace.sites[after], relaxed.outputs[after], slopes, passed[1:], strict=True
        ):
            drawn = units.threshold(z)
            to_z = units.relaxation_vjp(slope, y, self.temperature.of_layer(site.layer))
            residual = units.coupled_residual_vjp(to_z, z, drawn)
            found.append((Site(site.index, site.source, units, site.noise, z, drawn), residual))
        return found
