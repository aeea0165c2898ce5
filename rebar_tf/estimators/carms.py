"""CARMS: several samples of classes that avoid each other."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import tensorflow as tf

from rebar_tf.distributions import Bernoulli, Categorical
from rebar_tf.distributions.math import per_unit
from rebar_tf.estimators.arms import Arms
from rebar_tf.estimators.base import Objective, evaluate_at
from rebar_tf.estimators.registry import register
from rebar_tf.sampling import HardSampler, Site, noise_of

_FIRST_STREAM = 8  # of the order, the place in the first sample's interval, and the copula


@register
class Carms(Arms):
    """CARMS: K samples of each categorical layer that are antithetic in pairs, each pair weighted by its probability.

    The mean over pairs of samples, for each unit,

        2/(K (K-1)) sum_{k<l} 1/2 (f(b_k) - f(b_l)) (b_k - b_l) p(b_k) p(b_l) / P(b_k, b_l),

    with P the probability of the pair under the coupling. A unit's classes lie in the unit interval in an order that is
    drawn among C (C-1) / 2: for each two classes one with the rarer of them first, the other last and the rest as they
    are, so that P is positive for all. The samples are the classes at the points of a Dirichlet copula: with
    `(d_1, ..., d_K)` uniform on the simplex, `w_k = (1 - d_k)^(K-1)` are uniform in (0, 1) each, and two of them are
    below u and v with probability `max(0, u^(1/(K-1)) + v^(1/(K-1)) - 1)^(K-1)`.

    For layer i of several, the layers before it stay as sampled and those after it are drawn from their own noise. The
    first sample is that of the hard pass. With two classes, and for binary units, this is ARMS.

    Unbiased; `1 + n (K - 1)` evaluations of the objective, which need not be differentiable, and some `K^2 C^2` powers
    for each categorical unit.

    Args:
        num_samples: K, 2 or more.

    Raises:
        ValueError: for a `num_samples` below 2.

    Example:
    >>> import rebar_tf as rt
    >>> layer = rt.layers.StochasticCategorical(10, estimator=rt.estimators.Carms(num_samples=4))

    Reference: Dimitriev & Zhou 2021, "CARMS: Categorical-antithetic-REINFORCE multi-sample gradient estimator", the
    form by the inverse distribution function, with the Dirichlet copula.
    """

    estimator_name = "carms"

    def cotangent(self, objective: Objective, trace: HardSampler, f: tf.Tensor, site: Site) -> tf.Tensor:
        if not isinstance(site.distribution, Categorical):
            return super().cotangent(objective, trace, f, site)
        intervals = Intervals(site)
        samples = intervals.coupled(self.num_samples, trace.step)
        values = [f, *(evaluate_at(objective, trace, site, sample) for sample in samples[1:])]
        pairs = list(itertools.combinations(range(self.num_samples), 2))
        total = sum(
            per_unit(values[k] - values[j], weight) * weight * (samples[k] - samples[j])
            for (k, j), weight in zip(pairs, intervals.weights(samples, pairs), strict=True)
        )
        return tf.stop_gradient(total / (2 * len(pairs)))


class Intervals:
    """The classes of a layer's units as intervals of (0, 1), in an order that is drawn for each unit.

    In float64: the probability of a pair is a small difference of large ones.

    Args:
        site: the layer's place in the hard pass.
    """

    def __init__(self, site: Site):
        self.site = site
        self.p = tf.nn.softmax(tf.cast(tf.stop_gradient(site.logits), tf.float64))  # [..., classes]
        self.below = tf.cumsum(self.p, axis=-1, exclusive=True)
        self.orders = Orders.of(self.p)

    def coupled(self, num_samples: int, step: tf.Tensor) -> list[tf.Tensor]:
        """The sample of the hard pass, and others of the copula given it, like it."""
        order_noise, place, *copula = (
            tf.cast(self._noise(step, _FIRST_STREAM + i), tf.float64) for i in range(1 + num_samples)
        )
        order = self.orders.drawn(order_noise)
        classes = tf.range(self.p.shape[-1])
        start = order.start(classes, self.below)
        first = tf.cast(self.site.sample, tf.float64)
        w = tf.reduce_sum(first * (start + place * self.p), axis=-1, keepdims=True)
        power = num_samples - 1
        exponential = [-tf.math.log(u) for u in copula]
        rest = tf.pow(w, 1.0 / power) / sum(exponential)  # 1 - d_1, shared out
        others = [tf.pow(1.0 - rest * each, power) for each in exponential]
        # The class that has the point the furthest inside: also where rounding leaves a gap between two of them.
        inside = [tf.minimum(each - start, start + self.p - each) for each in others]
        return [self.site.sample, *(tf.one_hot(tf.argmax(each, axis=-1), self.p.shape[-1]) for each in inside)]

    def weights(self, samples: list[tf.Tensor], pairs: list[tuple[int, int]]) -> list[tf.Tensor]:
        """`p(b_k) p(b_l) / P(b_k, b_l)` of each unit, `[..., 1]` float32, for pairs of the samples."""
        power = len(samples) - 1
        p = [self._of_class(sample, self.p) for sample in samples]
        starts = [
            self.orders.start(
                tf.argmax(b, axis=-1, output_type=tf.int32)[..., tf.newaxis], self._of_class(b, self.below)
            )
            for b in samples
        ]
        ends = [start + of_class for start, of_class in zip(starts, p, strict=True)]
        starts, ends = ([tf.pow(edge, 1.0 / power) for edge in edges] for edges in (starts, ends))

        def both_below(u: tf.Tensor, v: tf.Tensor) -> tf.Tensor:
            return tf.pow(tf.maximum(u + v - 1.0, 0.0), power)

        weights = []
        for k, j in pairs:
            of_order = (both_below(ends[k], ends[j]) - both_below(starts[k], ends[j])) - (
                both_below(ends[k], starts[j]) - both_below(starts[k], starts[j])
            )
            probability = tf.reduce_mean(of_order, axis=-1, keepdims=True)
            # Of two equal samples the pair counts nothing, and may have probability 0.
            weights.append(
                tf.where(probability > 0.0, p[k] * p[j] / tf.where(probability > 0.0, probability, 1.0), 0.0)
            )
        return [tf.cast(weight, tf.float32) for weight in weights]

    def _noise(self, step: tf.Tensor, stream: int) -> tf.Tensor:
        """A uniform for each unit, `[..., 1]`."""
        return noise_of(Bernoulli(self.site.logits[..., :1]), self.site.source, step, self.site.index, stream)

    @staticmethod
    def _of_class(sample: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
        """The value that the drawn class has, `[..., 1]`."""
        return tf.reduce_sum(tf.cast(sample, tf.float64) * values, axis=-1, keepdims=True)


@dataclasses.dataclass(frozen=True)
class Orders:
    """Orders of the classes, each given by its first and its last class, `[..., orders]`; the rest are as they are.

    Attributes:
        first: the place of the first class among the classes.
        last: that of the last one.
        p_first: probability of the first class.
        p_last: that of the last one.
    """

    first: tf.Tensor
    last: tf.Tensor
    p_first: tf.Tensor
    p_last: tf.Tensor

    @classmethod
    def of(cls, p: tf.Tensor) -> Orders:
        """An order for each two classes, the rarer one first."""
        i, j = (places.astype(np.int32) for places in np.triu_indices(p.shape[-1], k=1))
        p_i, p_j = (tf.gather(p, places, axis=-1) for places in (i, j))
        return cls(tf.where(p_i > p_j, j, i), tf.where(p_i > p_j, i, j), tf.minimum(p_i, p_j), tf.maximum(p_i, p_j))

    def drawn(self, u: tf.Tensor) -> Orders:
        """One of them for each unit, each as likely, by `[..., 1]` uniforms."""
        count = self.first.shape[-1]
        place = tf.one_hot(tf.minimum(tf.cast(u[..., 0] * count, tf.int32), count - 1), count, True, False)
        parts = (self.first, self.last, self.p_first, self.p_last)
        return Orders(*(tf.reduce_sum(tf.where(place, part, 0), axis=-1, keepdims=True) for part in parts))

    def start(self, classes: tf.Tensor, below: tf.Tensor) -> tf.Tensor:
        """Where the interval of a class begins.

        Args:
            classes: their places.
            below: the probability of all classes before each.
        """
        between = (
            below + tf.where(self.first > classes, self.p_first, 0.0) - tf.where(self.last < classes, self.p_last, 0.0)
        )
        of_last = tf.where(self.last == classes, 1.0 - self.p_last, tf.maximum(between, 0.0))
        return tf.where(self.first == classes, tf.zeros_like(of_last), of_last)
