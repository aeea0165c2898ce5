"""Passes that replay the trace of a hard pass, up to the layer from which on they differ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from rebar_tf.distributions import Distribution
from rebar_tf.sampling.context import LocalSample, Sampler, Source
from rebar_tf.sampling.hard import HardSampler, Site, noise_of


class ReplaySampler(Sampler):
    """Replays a trace as it was sampled before site `first`; a subclass says what happens from there on.

    Args:
        trace: the `HardSampler` of the hard pass.
        first: index of the first site that differs.

    Raises:
        ValueError: within a pass that does not run the layers of the trace in their order, or at its end if it ran
            fewer.
    """

    def __init__(self, trace: HardSampler, first: int = 0):
        super().__init__()
        self.trace = trace
        self.first = first

    def draw(self, distribution: Distribution, source: Source) -> tf.Tensor:
        if len(self.outputs) >= len(self.trace):
            check_same_number(self.trace, len(self.outputs) + 1)
        site = self.trace.sites[len(self.outputs)]
        check_same(site, distribution, source)
        return site.sample if site.index < self.first else self.redraw(site, distribution)

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        if exception[0] is None:
            check_same_number(self.trace, len(self.outputs))

    def redraw(self, site: Site, distribution: Distribution) -> tf.Tensor:
        """The sample of a site from `first` on, from the distribution that it has in this pass."""
        raise NotImplementedError

    def draw_local(self, distribution: Distribution, source: Source, local: LocalSample) -> tf.Tensor:
        return local.sample(distribution, self._noise(distribution, source), training=True)

    def _noise(self, distribution: Distribution, source: Source) -> tf.Tensor:
        """What a layer with a local estimator saw in the hard pass at this place."""
        return noise_of(distribution, source, self.trace.step, self.calls, self.trace.stream)


def check_same_number(trace: HardSampler, number: int) -> None:
    """ValueError unless a pass sampled as often as the hard one."""
    if number != len(trace):
        raise ValueError(
            "The objective must run the same stochastic layers in every pass. Its hard pass took samples "
            f"{len(trace)} times. Received: another pass that takes {number}"
        )


def check_same(site: Site, distribution: Distribution, source: Source) -> None:
    """ValueError unless a pass meets the layer and the kind of units that the trace holds at this place."""
    before, now = (
        f"{layer.name!r} with {units.name} units of shape {units.logits.shape}"
        for layer, units in ((site.source, site.distribution), (source, distribution))
    )
    same_layer = source == site.source and type(distribution) is type(site.distribution)
    if not (same_layer and distribution.logits.shape.is_compatible_with(site.logits.shape)):
        raise ValueError(
            f"The objective must run the same stochastic layers in the same order in every pass. Its hard pass ran "
            f"{before} at place {site.index}. Received: {now}"
        )


class RelaxedSampler(ReplaySampler):
    """Hard before site `first`, relaxed with the noise of the trace from there on.

    After site `first` a layer with a local estimator is what its derivative is that of: a control variate has
    expectation zero if its derivative is its own.

    Args:
        trace: the `HardSampler` of the hard pass.
        first: index of the first relaxed site.
        relax: `(distribution, z, layer) -> y`, the relaxed sample.
    """

    def __init__(self, trace: HardSampler, first: int, relax: Callable[[Distribution, tf.Tensor, int], tf.Tensor]):
        super().__init__(trace, first)
        self.relax = relax

    def redraw(self, site: Site, distribution: Distribution) -> tf.Tensor:
        return self.relax(distribution, distribution.reparameterize(site.noise), site.layer)

    def draw_local(self, distribution: Distribution, source: Source, local: LocalSample) -> tf.Tensor:
        if len(self.outputs) <= self.first:
            return super().draw_local(distribution, source, local)
        return local.smooth(distribution, self._noise(distribution, source))


class CounterfactualSampler(ReplaySampler):
    """Hard throughout, with another sample at site `first`; later ones are drawn from their own noise, given it.

    Args:
        trace: the `HardSampler` of the hard pass.
        first: index of the site.
        sample: what it outputs, like the logits.
    """

    def __init__(self, trace: HardSampler, first: int, sample: tf.Tensor):
        super().__init__(trace, first)
        self.sample_of_first = sample

    def redraw(self, site: Site, distribution: Distribution) -> tf.Tensor:
        return self.sample_of_first if site.index == self.first else distribution.sample(site.noise)

    def density_logits(self, logits: tf.Tensor) -> tf.Tensor:
        return tf.stop_gradient(logits)
