"""Estimators that draw K samples for each example: RLOO, VIMCO, and RLOO with a second control variate."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from rebar_tf.estimators.base import ControlSpec, Estimate, Estimator, Objective
from rebar_tf.reparameterization import per_unit
from rebar_tf.sampling import HardSampler, Site
from rebar_tf.validation import is_integer


class MultiSampleEstimator(Estimator):
    """An estimator of K hard passes.

    Args:
        num_samples: K, 2 or more.
    """

    score_in_density = False

    def __init__(self, num_samples: int = 2, **kwargs):
        super().__init__(**kwargs)
        if not is_integer(num_samples, least=2):
            raise ValueError(
                "`num_samples` must be an integer of 2 or more, as each sample is compared with the others; reinforce, "
                f"nvil and rebar need one only. Received: num_samples={num_samples!r}"
            )
        self.num_samples = int(num_samples)

    def hard_passes(self, objective: Objective, step: tf.Tensor) -> tuple[list[HardSampler], list[tf.Tensor]]:
        """K traces, and f at each: `[batch]`, with its direct gradient."""
        streams = [0, *range(_FIRST_STREAM, _FIRST_STREAM + self.num_samples - 1)]
        passes = [self.hard_pass(objective, step, stream, self.score_in_density) for stream in streams]
        return [trace for trace, _ in passes], [f for _, f in passes]

    def differentiated_passes(
        self, objective: Objective, step: tf.Tensor
    ) -> tuple[Estimate, tf.Tensor, list[tuple[tuple[Site, ...], tf.Tensor]]]:
        """K hard passes with the derivatives of f at their samples.

        Returns:
            An estimate of the mean of f that has no cotangents yet; f, `[K, batch]`, constant; and for each layer its K
            sites with `df/db`, `[K, batch, ...]`, constant: zero for a layer that f sees by way of later ones only.
        """
        traces, f = self.hard_passes(objective, step)
        derivatives = [trace.gradients(f_k, allow_unseen=True) for trace, f_k in zip(traces, f, strict=True)]
        slopes = [tf.stop_gradient(tf.stack(by_sample)) for by_sample in zip(*derivatives, strict=True)]
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


_FIRST_STREAM = 16  # beyond the streams that evaluation and bounds draw from


class Rloo(MultiSampleEstimator):
    """RLOO: REINFORCE of K samples, each with the mean of the others as its baseline.

        1/K sum_k (f(b_k) - 1/(K-1) sum_{j != k} f(b_j)) dlog p(b_k)/dl.

    The reported objective is the mean over the samples. Unbiased; K evaluations of the objective, which need not be
    differentiable.

    Args:
        num_samples: K, 2 or more.

    Raises:
        ValueError: for a `num_samples` below 2.

    Example:
    >>> import rebar_tf as rt
    >>> layer = rt.layers.StochasticBinary(estimator=rt.estimators.Rloo(num_samples=4))

    Reference: Kool et al. 2019; Salimans & Knowles 2014.
    """

    estimator_name = "rloo"
    evaluations = "K"

    def estimate(self, objective: Objective, step: tf.Tensor, context: tf.Tensor | None = None) -> Estimate:
        traces, f = self.hard_passes(objective, step)
        values = tf.stop_gradient(tf.stack(f))
        signals = (values - mean_of_others(values)) / self.num_samples
        sites, plain = self.scored(traces, signals)
        mean = tf.reduce_mean(tf.stack(f), axis=0)
        return Estimate(value=mean, direct=mean, sites=sites, plain=plain)


class Vimco(MultiSampleEstimator):
    """VIMCO: the K-sample bound `L = log 1/K sum_k exp(-f(b_k))`, to maximise.

    The learning signal of sample k is L less the same bound with `-f(b_k)` replaced by the mean of the others (the
    geometric mean of their weights). The objective is `-L`, not the mean of f: it is what is reported, and what the
    estimate is unbiased for. K evaluations of f, which need not be differentiable.

    Args:
        num_samples: K, 2 or more.

    Raises:
        ValueError: for a `num_samples` below 2.

    Example:
    >>> import rebar_tf as rt
    >>> layer = rt.layers.StochasticBinary(estimator=rt.estimators.Vimco(num_samples=5))

    Reference: Mnih & Rezende 2016, eq. 10.
    """

    estimator_name = "vimco"
    evaluations = "K"
    score_in_density = True  # the bound is not linear in log q

    def estimate(self, objective: Objective, step: tf.Tensor, context: tf.Tensor | None = None) -> Estimate:
        traces, f = self.hard_passes(objective, step)
        bound = multi_sample_bound(-tf.stack(f))
        weights = -tf.stop_gradient(tf.stack(f))
        # [K, K, batch]: row k holds all log-weights, its own replaced by the mean of the others.
        own = tf.eye(self.num_samples)[:, :, tf.newaxis]
        replaced = weights[tf.newaxis] * (1.0 - own) + mean_of_others(weights)[:, tf.newaxis] * own
        signals = multi_sample_bound(replaced, axis=1) - tf.stop_gradient(bound)
        sites, plain = self.scored(traces, signals)
        return Estimate(value=-bound, direct=-bound, sites=sites, plain=plain)

    def exact_target(self, f: tf.Tensor, log_p: tf.Tensor) -> tf.Tensor:
        states = np.indices((f.shape[0],) * self.num_samples).reshape(self.num_samples, -1).T
        f, log_p = tf.gather(f, states), tf.gather(log_p, states)  # [states^K, K, batch]
        return tf.reduce_sum(-multi_sample_bound(-f, axis=1) * tf.exp(tf.reduce_sum(log_p, axis=1)), axis=0)


class DoubleCv(MultiSampleEstimator):
    """RLOO with a second, linear control variate from the derivatives of the other samples.

    With `g_k` the mean over the other samples of `df/db`, and mu the mean of the units given the layers before,

        1/K sum_k (f_k - alpha g_k (b_k - mu) - baseline_k) dlog p(b_k)/dl  +  alpha g_k dE[b]/dl,
        baseline_k = 1/(K-1) sum_{j != k} (f_j - alpha df/db_j (b_j - mu_j)).

    Both parts that are subtracted depend on sample k by way of the linear term only, whose expectation is added back.
    `alpha = 2 sigmoid(raw)`, one for each layer, is trained on the single-sample variance.

    Unbiased; K evaluations of the objective, which must be differentiable in the samples.

    Args:
        num_samples: K, 2 or more.

    Raises:
        ValueError: for a `num_samples` below 2.

    Example:
    >>> import rebar_tf as rt
    >>> layer = rt.layers.StochasticBinary(estimator="double_cv")

    Reference: after Titsias & Shi 2022, "Double control variates for gradient estimation in discrete latent variable
    models".
    """

    estimator_name = "double_cv"
    evaluations = "K"
    needs_derivative = True
    minimizes_variance = True

    def build_variables(self, spec: ControlSpec) -> None:
        super().build_variables(spec)
        self.raw_alpha = self.add_weight(shape=(len(spec.layer_shapes),), initializer="zeros", name="raw_alpha")

    def estimate(self, objective: Objective, step: tf.Tensor, context: tf.Tensor | None = None) -> Estimate:
        estimate, values, layers = self.differentiated_passes(objective, step)
        alphas = 2.0 * tf.sigmoid(self.raw_alpha.value)
        for sites, slopes in layers:
            alpha = alphas[sites[0].layer]
            centred = tf.stack([site.sample - site.family.mean(site.logits) for site in sites])
            others = mean_of_others(slopes)
            units = list(range(2, centred.shape.rank))
            linear = tf.reduce_sum(others * centred, axis=units)
            linear_of_own = tf.reduce_sum(slopes * centred, axis=units)
            signals = values - alpha * linear - mean_of_others(values - alpha * linear_of_own)
            for k, site in enumerate(sites):
                correction = alpha * site.family.mean_vjp(others[k], site.logits)
                cotangent = per_unit(signals[k], site.score) * site.score + correction
                estimate.sites.append(site)
                estimate.plain.append(cotangent / self.num_samples)
        return estimate


def mean_of_others(values: tf.Tensor) -> tf.Tensor:
    """For each of K values, along the first axis, the mean of the other K - 1."""
    k = values.shape[0]
    return (tf.reduce_sum(values, axis=0, keepdims=True) - values) / (k - 1)


def multi_sample_bound(log_weights: tf.Tensor, axis: int = 0) -> tf.Tensor:
    """`log 1/K sum_k w_k` over the axis of the samples."""
    return tf.reduce_logsumexp(log_weights, axis=axis) - tf.math.log(tf.cast(log_weights.shape[axis], tf.float32))
