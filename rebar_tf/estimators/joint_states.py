"""A layer of few units as one variable, whose values are its joint states."""

from __future__ import annotations

import tensorflow as tf

from rebar_tf.estimators.exact import state_tables
from rebar_tf.sampling import Site, uniform

_STREAM = 8  # of the noise of `draw`, which no pass draws from


class JointStates:
    """All joint states of a layer of the hard pass, with their probabilities.

    Args:
        site: the layer's place in the hard pass.
        step: integer scalar, of the hard pass.

    Attributes:
        num_states: how many.
        table: `[states, ...]`, each a sample of one example.
        log_p: `[batch, states]`.

    Raises:
        ValueError: for a layer of more than 4,096 states, or without a fixed number of units.
    """

    def __init__(self, site: Site, step: tf.Tensor):
        self._site, self._step = site, step
        (self.table,) = state_tables([site])
        self.num_states = int(self.table.shape[0])
        self.log_p = tf.stop_gradient(site.distribution.log_prob_of_states(self.table))

    def sample(self, places: tf.Tensor) -> tf.Tensor:
        """The states at these places of the table, `[batch]`, as samples of the layer."""
        return tf.gather(self.table, places)

    def place_of(self, sample: tf.Tensor) -> tf.Tensor:
        """The place of each example's sample in the table, `[batch]`."""
        units = list(range(2, self.table.shape.rank + 1))
        differs = tf.reduce_max(tf.abs(sample[:, tf.newaxis] - self.table), axis=units)
        return tf.argmin(differs, axis=1, output_type=tf.int32)

    def is_among(self, places: tf.Tensor) -> tf.Tensor:
        """`[batch, states]`, 1 for the states at these places, `[batch, count]`."""
        return tf.reduce_max(tf.one_hot(places, self.num_states), axis=1)

    def log_p_at(self, places: tf.Tensor) -> tf.Tensor:
        """Their log-probabilities, `[batch, count]`."""
        return tf.gather(self.log_p, places, batch_dims=1)

    def log_p_without(self, places: tf.Tensor) -> tf.Tensor:
        """The log-probability of all states but those at these places, `[batch]`."""
        return tf.reduce_logsumexp(tf.where(self.is_among(places) > 0.0, -float("inf"), self.log_p), axis=1)

    def draw(self, count: int, without: tf.Tensor) -> tf.Tensor:
        """Places of distinct states, `[batch, count]`, drawn one after the other without replacement.

        Args:
            count: how many.
            without: `[batch, count]`, places of the states that may not be drawn.
        """
        noise = uniform(tf.shape(self.log_p), self._step, self._site.source.seed, self._site.index, _STREAM)
        gumbel = self.log_p - tf.math.log(-tf.math.log(noise))
        return tf.math.top_k(tf.where(self.is_among(without) > 0.0, -float("inf"), gumbel), count).indices
