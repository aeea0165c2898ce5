"""The hard pass, which draws the discrete samples and keeps a trace of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import tensorflow as tf

from rebar_tf.distributions import Distribution
from rebar_tf.sampling.context import LocalSample, Sampler, Source, static_or_dynamic_shape
from rebar_tf.sampling.noise import uniform


@dataclasses.dataclass(eq=False)
class Site:
    """What one stochastic layer did in a hard pass.

    Attributes:
        index: the place of the call in the pass, from 0.
        source: the layer that called.
        distribution: of its units; the logits are connected to the variables that produced them.
        noise: uniforms shaped like the logits.
        z: the reparameterised sample `g(noise, logits)`.
        sample: the hard sample `H(z)`, 0/1 or one-hot.
    """

    index: int
    source: Source
    distribution: Distribution
    noise: tf.Tensor
    z: tf.Tensor
    sample: tf.Tensor

    @property
    def layer(self) -> int:
        """The index of the layer among the model's stochastic layers."""
        return self.source.index

    @property
    def logits(self) -> tf.Tensor:
        """`[batch, ...]` float32."""
        return self.distribution.logits

    @property
    def score(self) -> tf.Tensor:
        """`d log p(b) / d logits` at the hard sample."""
        return self.distribution.score(self.sample)


class HardSampler(Sampler):
    """Draws the discrete samples and keeps the trace.

    Args:
        step: integer scalar; the same step draws the same samples.
        stream: an integer that sets apart several passes of one step.
        score_in_density: whether `log q(b|x)` is differentiated through its own logits. At samples from q this score
            has expectation zero, so it is left out by default, which lowers the variance of the direct gradient. An
            objective that is not linear in `log q`, such as a multi-sample bound, needs it.
        training: whether layers with a local estimator sample by it. False draws their hard samples, with a place in
            the trace, as those of all others.

    Attributes:
        sites: one `Site` a stochastic layer, in the order of the pass. Iterating the sampler iterates them.
    """

    def __init__(self, step: tf.Tensor | int, stream: int = 0, score_in_density: bool = False, training: bool = True):
        super().__init__()
        self.leaves_local = training
        self.step = step
        self.stream = stream
        self.score_in_density = score_in_density
        self.sites: list[Site] = []

    def __iter__(self) -> Iterator[Site]:
        return iter(self.sites)

    def __len__(self) -> int:
        return len(self.sites)

    def draw(self, distribution: Distribution, source: Source) -> tf.Tensor:
        noise = noise_of(distribution, source, self.step, self.calls, self.stream)
        z = distribution.reparameterize(noise)
        sample = tf.stop_gradient(distribution.threshold(z))
        site = Site(len(self.sites), source, distribution, noise, z, sample)
        self.sites.append(site)
        return sample

    def draw_local(self, distribution: Distribution, source: Source, local: LocalSample) -> tf.Tensor:
        noise = noise_of(distribution, source, self.step, self.calls, self.stream)
        return local.sample(distribution, noise, training=True)

    def density_logits(self, logits: tf.Tensor) -> tf.Tensor:
        return logits if self.score_in_density else tf.stop_gradient(logits)


def noise_of(
    distribution: Distribution, source: Source, step: tf.Tensor | int, place: int, stream: int = 0
) -> tf.Tensor:
    """The uniforms of the sample that is drawn at that place of a pass, like the logits."""
    return uniform(static_or_dynamic_shape(distribution.logits), step, source.seed, place, stream)
