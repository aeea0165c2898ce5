"""RODEO: RLOO with learned control variates from a discrete Stein operator."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from rebar_tf.distributions.math import per_unit
from rebar_tf.estimators.base import ControlSpec, Estimate, Objective
from rebar_tf.estimators.multi_sample import MultiSampleEstimator, mean_of_others
from rebar_tf.estimators.registry import register
from rebar_tf.initializers import PaperInitializer
from rebar_tf.sampling import Site


@register
class Rodeo(MultiSampleEstimator):
    """RODEO: RLOO with two control variates from a discrete Stein operator, of learned functions.

    The operator of Barker's chain, which flips one of a layer's d units,

        (A h)(b) = 1/d sum_i p(1 - b_i) (h(flip_i b) - h(b)),

    has expectation zero for every h. It is applied to the mean over the other samples of a learned function r of their
    Taylor expansions, `h_{-k}(b) = 1/(K-1) sum_{j != k} r(f_j, df/db_j (b - b_j))`, which has two outputs, h and h~:

        c_k = f_k + alpha (A h_{-k})(b_k),
        1/K sum_k [(f_k - 1/(K-1) sum_{j != k} c_j) dlog p(b_k)/dl  +  beta A(h~_{-k} dlog p/dl)(b_k)].

    r is a network of 100 units for each layer, evaluated at each sample and its d flips, without an evaluation of the
    objective. alpha and beta, one of each for each layer, start at 0, where this is RLOO; all are trained on the
    single-sample variance.

    Unbiased; K evaluations of the objective, which must be differentiable in the samples. Bernoulli units only.

    Args:
        num_samples: K, 2 or more.

    Raises:
        ValueError: for a `num_samples` below 2.

    Example:
    >>> import rebar_tf as rt
    >>> layer = rt.layers.StochasticBinary(estimator="rodeo")

    Reference: Shi et al. 2022, "Gradient estimation with discrete Stein operators", section 4; their alpha, beta and
    network are one for the model.
    """

    estimator_name = "rodeo"
    evaluations = "K"
    needs_derivative = True
    minimizes_variance = True
    families = ("bernoulli",)

    def build_variables(self, spec: ControlSpec) -> None:
        shape = (len(spec.layer_shapes),)
        self.alpha = self.add_weight(shape=shape, initializer="zeros", name="alpha")
        self.beta = self.add_weight(shape=shape, initializer="zeros", name="beta")
        self.networks = [SteinNetwork(spec.seed_of_layer(i), name=f"h_{i}") for i in range(len(spec.layer_shapes))]
        for network in self.networks:
            network.build()

    def estimate(self, objective: Objective, step: tf.Tensor, context: tf.Tensor | None = None) -> Estimate:
        estimate, values, layers = self.differentiated_passes(objective, step)
        for sites, slopes in layers:
            layer = sites[0].layer
            functions = [self.of_others(k, sites, values, slopes) for k in range(self.num_samples)]
            operator = tf.stack(
                [stein(site, h, flipped) for site, ((h, flipped), _) in zip(sites, functions, strict=True)]
            )
            signals = values - mean_of_others(values + self.alpha.value[layer] * operator)
            for k, (site, (_, of_score)) in enumerate(zip(sites, functions, strict=True)):
                second = self.beta.value[layer] * stein_of_score(site, *of_score)
                cotangent = per_unit(signals[k], site.score) * site.score + second
                estimate.sites.append(site)
                estimate.plain.append(cotangent / self.num_samples)
        return estimate

    def of_others(
        self, k: int, sites: tuple[Site, ...], values: tf.Tensor, slopes: tf.Tensor
    ) -> list[tuple[tf.Tensor, tf.Tensor]]:
        """`h_{-k}` and `h~_{-k}`, each at sample k, `[batch]`, and at its flips, like the logits."""
        b, network = sites[k].sample, self.networks[sites[k].layer]
        at_sample, at_flips = [], []
        for j in range(self.num_samples):
            if j != k:
                change = tf.reduce_sum(slopes[j] * (b - sites[j].sample), axis=list(range(1, b.shape.rank)))
                at_sample.append(network(values[j], change))
                changes = per_unit(change, b) + slopes[j] * (1.0 - 2.0 * b)
                at_flips.append(network(per_unit(values[j], b), changes))
        means = [tf.reduce_mean(tf.stack(each), axis=0) for each in (at_sample, at_flips)]
        return [(means[0][..., i], means[1][..., i]) for i in range(2)]


class SteinNetwork(keras.layers.Layer):
    """A function r of two numbers, with two outputs: `r(f, c) = W relu_0.3(u f + v c + w) + a`, of 100 leaky units.

    Args:
        seed: integer for the initial weights; None draws one.
        name: of the layer.
    """

    def __init__(self, seed: int | None = None, name: str | None = None):
        super().__init__(dtype="float32", name=name)
        seeds = [None if seed is None else seed + 100 * i for i in range(3)]
        of_value, of_change, out = (PaperInitializer(each) for each in seeds)
        self.of_value = keras.layers.Dense(100, kernel_initializer=of_value, dtype="float32", name="of_value")
        self.of_change = keras.layers.Dense(
            100, use_bias=False, kernel_initializer=of_change, dtype="float32", name="of_change"
        )
        self.out = keras.layers.Dense(2, kernel_initializer=out, dtype="float32", name="out")

    def build(self, input_shape: Any = None) -> None:
        self.of_value.build((None, 1))
        self.of_change.build((None, 1))
        self.out.build((None, 100))
        self.built = True

    def call(self, value: tf.Tensor, change: tf.Tensor) -> tf.Tensor:
        """`[..., 2]`, of two numbers that broadcast."""
        hidden = self.of_value(value[..., tf.newaxis]) + self.of_change(change[..., tf.newaxis])
        return self.out(tf.nn.leaky_relu(hidden, alpha=0.3))


def probability_of_flip(site: Site) -> tf.Tensor:
    """`p(1 - b_i)`: the probability that each unit changes when it is drawn anew."""
    return tf.sigmoid((1.0 - 2.0 * site.sample) * site.logits)


def stein(site: Site, value: tf.Tensor, flipped: tf.Tensor) -> tf.Tensor:
    """`(A h)(b)`, `[batch]`, of h at b, `[batch]`, and at its flips, like the logits."""
    changes = probability_of_flip(site) * (flipped - per_unit(value, flipped))
    return tf.reduce_mean(changes, axis=list(range(1, changes.shape.rank)))


def stein_of_score(site: Site, value: tf.Tensor, flipped: tf.Tensor) -> tf.Tensor:
    """`A(h dlog p/dl)(b)`, like the logits; the score of a flipped unit changes by `1 - 2 b_i`."""
    size = tf.cast(tf.reduce_prod(tf.shape(flipped)[1:]), tf.float32)
    own = probability_of_flip(site) * flipped * (1.0 - 2.0 * site.sample) / size
    return per_unit(stein(site, value, flipped), own) * site.score + own
