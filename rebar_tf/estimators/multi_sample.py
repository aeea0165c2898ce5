"""The base of the estimators that draw K samples for each example."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from rebar_tf.distributions.math import per_unit
from rebar_tf.estimators.base import Estimate, Estimator, Objective, derivatives
from rebar_tf.sampling import HardSampler, Site, check_same_number
from rebar_tf.validation import is_integer

_FIRST_STREAM = 16  # beyond the streams that evaluation and bounds draw from


class MultiSampleEstimator(Estimator):
    """An estimator of K hard passes.

    Args:
        num_samples: K, 2 or more.
    """

    score_in_density = False

    def __init__(self, num_samples: int = 2, **kwargs: Any):
        super().__init__(**kwargs)
        self.num_samples = check_num_samples(num_samples)

    def hard_passes(self, objective: Objective, step: tf.Tensor) -> tuple[list[HardSampler], list[tf.Tensor]]:
        """K traces, and f at each: `[batch]`, with its direct gradient."""
        return hard_passes(self, objective, step, self.num_samples, self.score_in_density)

    def differentiated_passes(
        self, objective: Objective, step: tf.Tensor
    ) -> tuple[Estimate, tf.Tensor, list[tuple[tuple[Site, ...], tf.Tensor]]]:
        """K hard passes with the derivatives of f at their samples.

        Returns:
            An estimate of the mean of f that has no cotangents yet; f, `[K, batch]`, constant; and for each layer its K
            sites with `df/db`, `[K, batch, ...]`, constant: zero for a layer that f sees by way of later ones only.
        """
        traces, f = self.hard_passes(objective, step)
        by_pass = [derivatives(trace, f_k, allow_unseen=True) for trace, f_k in zip(traces, f, strict=True)]
        slopes = [tf.stop_gradient(tf.stack(of_layer)) for of_layer in zip(*by_pass, strict=True)]
        mean = tf.reduce_mean(tf.stack(f), axis=0)
        layers = list(zip(zip(*traces, strict=True), slopes, strict=True))
        return Estimate(value=mean, direct=mean), tf.stop_gradient(tf.stack(f)), layers

    def scored(self, traces: list[HardSampler], signals: tf.Tensor) -> tuple[list, list]:
        """All sites of all traces, and for each the learning signal `[K, batch]` of its trace times its score."""
        sites = [site for trace in traces for site in trace]
        signal_of = [signals[k] for k, trace in enumerate(traces) for _ in trace]
        return sites, [per_unit(s, site.score) * site.score for s, site in zip(signal_of, sites, strict=True)]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_samples": self.num_samples}


def check_num_samples(num_samples: int) -> int:
    """Returns `num_samples`, or raises ValueError."""
    if not is_integer(num_samples, least=2):
        raise ValueError(
            "`num_samples` must be an integer of 2 or more, as each sample is compared with the others; reinforce, "
            f"nvil and rebar need one only. Received: num_samples={num_samples!r}"
        )
    return int(num_samples)


def hard_passes(
    estimator: Estimator, objective: Objective, step: tf.Tensor, num_samples: int, score_in_density: bool = False
) -> tuple[list[HardSampler], list[tf.Tensor]]:
    """K traces of the same layers, and f at each: `[batch]`, with its direct gradient."""
    streams = [0, *range(_FIRST_STREAM, _FIRST_STREAM + num_samples - 1)]
    passes = [estimator.hard_pass(objective, step, stream, score_in_density) for stream in streams]
    traces = [trace for trace, _ in passes]
    for trace in traces[1:]:
        check_same_number(traces[0], len(trace))
    return traces, [f for _, f in passes]


def mean_of_others(values: tf.Tensor) -> tf.Tensor:
    """For each of K values, along the first axis, the mean of the other K - 1."""
    k = values.shape[0]
    return (tf.reduce_sum(values, axis=0, keepdims=True) - values) / (k - 1)
