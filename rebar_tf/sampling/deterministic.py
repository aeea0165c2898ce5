"""Passes in which nothing is drawn: the means of the units, and given states."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from rebar_tf.distributions import Distribution
from rebar_tf.sampling.context import LocalSample, Sampler, Source
from rebar_tf.sampling.hard import noise_of


class MeanSampler(Sampler):
    """The mean-field pass: each layer outputs the mean of its units, and the next one sees it."""

    def draw_local(self, distribution: Distribution, source: Source, local: LocalSample) -> tf.Tensor:
        return distribution.mean()

    def draw(self, distribution: Distribution, source: Source) -> tf.Tensor:
        return distribution.mean()


class ForcedSampler(Sampler):
    """Outputs given samples and adds up their log-probability: one term of an exact expectation.

    Args:
        samples: called with the index of the call and its float32 logits, returns a sample like the logits.
        step: integer scalar from which layers with a local estimator draw; None to give them samples, too.
        score_in_density: as in `HardSampler`, but by default the whole derivative.

    Attributes:
        log_probs: `log p` of each sample given so far, `[rows]`.
    """

    def __init__(
        self,
        samples: Callable[[int, tf.Tensor], tf.Tensor],
        step: tf.Tensor | int | None = None,
        score_in_density: bool = True,
    ):
        super().__init__()
        self.score_in_density = score_in_density
        self.samples = samples
        self.step = 0 if step is None else step
        self.leaves_local = step is not None
        self.log_probs: list[tf.Tensor] = []

    @property
    def log_prob(self) -> tf.Tensor:
        """Of all samples given so far the log-probability, `[batch]`."""
        return sum(self.log_probs)

    def draw(self, distribution: Distribution, source: Source) -> tf.Tensor:
        sample = self.samples(len(self.outputs), distribution.logits)
        self.log_probs.append(distribution.log_prob(sample))
        return sample

    def draw_local(self, distribution: Distribution, source: Source, local: LocalSample) -> tf.Tensor:
        return local.sample(distribution, noise_of(distribution, source, self.step, self.calls), training=True)

    def density_logits(self, logits: tf.Tensor) -> tf.Tensor:
        return logits if self.score_in_density else tf.stop_gradient(logits)
