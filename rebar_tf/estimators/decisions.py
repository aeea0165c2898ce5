"""A sample as independent binary decisions, so that what serves binary units serves all."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from rebar_tf.distributions import Bernoulli, independent
from rebar_tf.distributions.math import open_interval
from rebar_tf.sampling import Site, noise_of

_STREAM = 8  # of the noise of decisions, which no other pass draws from


class Decisions:
    """The binary decisions behind the hard sample of a layer.

    Of binary units they are the units themselves. Of categorical ones they lead through a tree of the classes; those
    that the sample does not depend on are drawn, too.

    Args:
        site: the layer's place in the hard pass.
        step: integer scalar, of the hard pass.

    Attributes:
        logits: `[batch, ..., decisions]`, a function of the layer's.
        noise: uniforms like the logits, with `1[u > 1 - sigmoid(logits)]` the decisions that were made.
        drawn: these, in {0, 1}.
    """

    def __init__(self, site: Site, step: tf.Tensor):
        self._site, self._step, self._units = site, step, independent(site.distribution)
        with tf.GradientTape(watch_accessed_variables=False) as self._tape:
            self._tape.watch(site.logits)
            self.logits = self._units.decision_logits()
        self.noise, self.drawn = self._noise_given_sample()

    def _noise_given_sample(self) -> tuple[tf.Tensor, tf.Tensor]:
        site = self._site
        if isinstance(site.distribution, Bernoulli):
            return site.noise, site.sample
        drawn, known = self._units.decisions(site.sample)
        v, p = self.uniform(_STREAM), tf.sigmoid(self.logits)
        given = tf.where(drawn > 0.0, 1.0 - p * v, (1.0 - p) * v)  # uniform above 1 - p, or below it
        noise = open_interval(tf.where(known > 0.0, given, v))
        return noise, tf.where(known > 0.0, drawn, self.made(noise))

    def uniform(self, stream: int) -> tf.Tensor:
        """Uniforms like the logits, others for each stream."""
        return noise_of(Bernoulli(self.logits), self._site.source, self._step, self._site.index, stream)

    def made(self, noise: tf.Tensor) -> tf.Tensor:
        """The decisions of uniform noise, in {0, 1}."""
        return Bernoulli(self.logits).sample(noise)

    def sample(self, decisions: tf.Tensor) -> tf.Tensor:
        """The layer's sample of some decisions."""
        return self._units.decide(decisions)

    def relevant(self, several: Sequence[tf.Tensor]) -> tf.Tensor:
        """1 for the decisions that one of several samples depends on, else 0.

        Given the others, f does not depend on the rest, whose part of an estimate has expectation zero.
        """
        reached = [self._units.decisions(self.sample(each))[1] for each in several]
        return tf.reduce_max(tf.stack(reached), axis=0)

    def to_logits(self, cotangent: tf.Tensor) -> tf.Tensor:
        """The cotangent of the layer's logits, from that of the decisions'."""
        if self.logits.shape[0] == 1:  # units that the batch shares: the mean of the examples', as in `surrogate_loss`
            cotangent = tf.reduce_mean(cotangent, axis=0, keepdims=True)
        return tf.stop_gradient(self._tape.gradient(self.logits, self._site.logits, output_gradients=cotangent))
