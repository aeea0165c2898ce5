"""REBAR of several samples."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from rebar_tf.distributions.math import per_unit
from rebar_tf.estimators.base import ControlSpec, Estimate, Objective
from rebar_tf.estimators.multi_sample import check_num_samples, hard_passes, mean_of_others
from rebar_tf.estimators.rebar import Rebar, control_variate
from rebar_tf.estimators.registry import register


@register
class MultiSampleRebar(Rebar):
    """REBAR of K samples: the other samples are the baseline, of f and of the control variate.

        1/K sum_k [f(b_k) - mean_{j != k} f(b_j)] dlog p(b_k)/dl  +  eta/K sum_k v_k,

    `v_k` the control variate of `Rebar` at sample k, with `f_r(y_k) - mean_{j != k} f_r(y_j)` for `f_r`. There is no
    baseline network. The reported objective is the mean over the samples.

    Unbiased, for any eta and temperature; `K (1 + n)` evaluations of the objective, which must be differentiable in the
    samples.

    Args:
        num_samples: K, 2 or more.
        **kwargs: the arguments of `Rebar`.

    Raises:
        ValueError: for a `num_samples` below 2, and what `Rebar` raises.

    Example:
    >>> import rebar_tf as rt
    >>> layer = rt.layers.StochasticBinary(estimator=rt.estimators.MultiSampleRebar(num_samples=4))

    Reference: Tucker et al. 2017, eq. 4, with the leave-one-out baseline of Kool et al. 2019.
    """

    estimator_name = "multi_sample_rebar"
    evaluations = "K (1 + n)"

    def __init__(self, num_samples: int = 2, **kwargs: Any):
        super().__init__(**kwargs)
        self.num_samples = check_num_samples(num_samples)

    def build_variables(self, spec: ControlSpec) -> None:
        self.temperature.build(len(spec.layer_shapes))
        self.scale.build(spec.variable_shapes)

    def estimate(self, objective: Objective, step: tf.Tensor, context: tf.Tensor | None = None) -> Estimate:
        traces, f = hard_passes(self, objective, step, self.num_samples)
        mean = tf.reduce_mean(tf.stack(f), axis=0)
        estimate = Estimate(value=mean, direct=mean)
        signals = centred(tf.stop_gradient(tf.stack(f)))
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(self.temperature.log_temperature.value)
            for samples in zip(*(self.relaxed_layers(objective, trace) for trace in traces), strict=True):
                centred_relaxed = centred(tf.stack([f_relaxed for _, f_relaxed, *_ in samples]))
                for k, (site, _, *rest) in enumerate(samples):
                    variate = control_variate(site, centred_relaxed[k], *rest)
                    estimate.sites.append(site)
                    estimate.plain.append(per_unit(signals[k], site.score) * site.score / self.num_samples)
                    estimate.variate.append(variate / self.num_samples)
        estimate.variate = self.linear_in_temperature(tape, estimate.variate)
        return estimate

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_samples": self.num_samples}


def centred(values: tf.Tensor) -> tf.Tensor:
    """Each of K values, along the first axis, less the mean of the others."""
    return values - mean_of_others(values)
