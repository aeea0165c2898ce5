"""The sampling context: a stochastic layer does not decide how it samples, the innermost sampler does.

A forward pass under `HardSampler` draws the discrete samples and keeps a trace of them. The same forward pass under
`RelaxedSampler(trace, first=i)` replays that trace, hard before layer i and relaxed from layer i on, with the same
noise. An estimator is written in these two words. The effect handlers of Pyro and Edward2 are the model.

Every random number is a function of `(seed of the layer, place of the layer in the pass, stream, step)`: nothing is
drawn from hidden state, so a pass can be repeated, resumed and compiled.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import tensorflow as tf

from rebar_tf.random import uniform

if TYPE_CHECKING:
    from rebar_tf.models.dense import Product

_active = threading.local()  # replicas of a distribution strategy run in threads of their own


def current() -> Sampler | None:
    """The innermost active sampler of this thread, or None outside of every `with` block."""
    stack = getattr(_active, "stack", None)
    return stack[-1] if stack else None


def static_or_dynamic_shape(tensor: tf.Tensor) -> tf.TensorShape | tf.Tensor:
    """The shape, as a tensor where the batch size is not known before the run."""
    return tensor.shape if tensor.shape.is_fully_defined() else tf.shape(tensor)


@dataclasses.dataclass(eq=False)
class Site:
    """What one stochastic layer did in a hard pass.

    Attributes:
        index: the place of the call in the pass, from 0.
        layer: the index of the layer among the model's stochastic layers.
        family: `Bernoulli` or `Categorical`.
        logits: `[batch, ...]` float32, connected to the variables that produced them.
        noise: uniforms of the same shape.
        z: the reparameterised sample `g(noise, logits)`.
        sample: the hard sample `H(z)`, 0/1 or one-hot.
    """

    index: int
    layer: int
    family: type
    logits: tf.Tensor
    noise: tf.Tensor
    z: tf.Tensor
    sample: tf.Tensor

    @property
    def score(self) -> tf.Tensor:
        """`d log p(b) / d logits` at the hard sample."""
        return self.family.score(self.sample, self.logits)


class Sampler:
    """Base of the contexts: `with sampler:` makes it the one that stochastic layers ask for their samples.

    A sampler also remembers what it gave out, and `gradients(f)` differentiates a `[batch]` objective with respect to
    it.
    """

    def __init__(self):
        self.outputs: list[tf.Tensor] = []
        self.families: set[str] = set()  # of the layers that were met
        self.products: list[Product] = []  # of the dense layers that were met
        self._tape = tf.GradientTape(watch_accessed_variables=False)

    def __enter__(self):
        if not hasattr(_active, "stack"):
            _active.stack = []
        _active.stack.append(self)
        self._tape.__enter__()
        return self

    def __exit__(self, *exception) -> None:
        self._tape.__exit__(*exception)
        _active.stack.pop()

    def sample(self, family: type, logits: tf.Tensor, seed: int, layer: int = 0) -> tf.Tensor:
        """The sample that the calling layer outputs.

        Args:
            family: `Bernoulli` or `Categorical`.
            logits: float32 `[batch, ...]`.
            seed: the layer's.
            layer: the layer's index among the model's stochastic layers.

        Returns:
            Like the logits: in {0, 1} or one-hot, or relaxed.
        """
        output = self.draw(family, logits, seed, layer)
        self._tape.watch(output)
        self.outputs.append(output)
        self.families.add(family.name)
        return output

    def draw(self, family: type, logits: tf.Tensor, seed: int, layer: int) -> tf.Tensor:
        """What a subclass decides: the sample."""
        raise NotImplementedError

    def density_logits(self, logits: tf.Tensor) -> tf.Tensor:
        """The logits to use where the objective evaluates a layer's own density, as in `log q(b|x)`."""
        return logits

    def gradients(
        self, objective: tf.Tensor, first: int = 0, last: int | None = None, allow_unseen: bool = False
    ) -> list[tf.Tensor]:
        """`d f / d y` of each example, for the outputs y of the stochastic layers `first` to `last`, exclusive.

        The derivative is the total one: through later layers, too, where their samples are differentiable.

        Args:
            objective: f, `[batch]`.
            first: index of the first output.
            last: index after the last one; None for all that follow.
            allow_unseen: whether the derivative is zero for an output that f sees by way of later samples only, as long
                as f sees some output directly.

        Raises:
            ValueError: where f does not depend on an output in a differentiable way.
        """
        outputs = self.outputs[first:last]
        gradients = self._tape.gradient(objective, outputs)
        unseen = [gradient is None for gradient in gradients]
        if all(unseen) or (any(unseen) and not allow_unseen):
            from rebar_tf import estimators  # the registry, which imports this module

            able = estimators.serving(*self.families, without_derivative=True)
            raise ValueError(
                "The objective has no derivative with respect to the sample of a stochastic layer: it rounds, compares "
                f"or indexes it. Use an estimator that needs none: {', '.join(able)}."
            )
        return [
            tf.zeros_like(y) if gradient is None else gradient for y, gradient in zip(outputs, gradients, strict=True)
        ]


class HardSampler(Sampler):
    """Draws the discrete samples and keeps the trace.

    Args:
        step: integer scalar; the same step draws the same samples.
        stream: an integer that sets apart several passes of one step.
        score_in_density: whether `log q(b|x)` is differentiated through its own logits. At samples from q this score
            has expectation zero, so it is left out by default, which lowers the variance of the direct gradient. An
            objective that is not linear in `log q`, such as a multi-sample bound, needs it.

    Attributes:
        sites: one `Site` a stochastic layer, in the order of the pass. Iterating the sampler iterates them.
    """

    def __init__(self, step: tf.Tensor | int, stream: int = 0, score_in_density: bool = False):
        super().__init__()
        self.step = step
        self.stream = stream
        self.score_in_density = score_in_density
        self.sites: list[Site] = []

    def __iter__(self):
        return iter(self.sites)

    def __len__(self) -> int:
        return len(self.sites)

    def draw(self, family: type, logits: tf.Tensor, seed: int, layer: int) -> tf.Tensor:
        noise = uniform(static_or_dynamic_shape(logits), self.step, seed, len(self.sites), self.stream)
        z = family.reparameterize(noise, logits)
        site = Site(len(self.sites), layer, family, logits, noise, z, tf.stop_gradient(family.threshold(z)))
        self.sites.append(site)
        return self.emit(site)

    def emit(self, site: Site) -> tf.Tensor:
        """What the layer outputs: the hard sample."""
        return site.sample

    def density_logits(self, logits: tf.Tensor) -> tf.Tensor:
        return logits if self.score_in_density else tf.stop_gradient(logits)


class StraightThroughSampler(HardSampler):
    """Hard samples with the derivative of something smooth: `b + smooth - stop_gradient(smooth)`.

    Args:
        step: as in `HardSampler`.
        smooth: from a `Site` to a tensor like its sample: the mean, or a relaxed sample.
    """

    def __init__(self, step: tf.Tensor | int, smooth: Callable[[Site], tf.Tensor]):
        super().__init__(step, score_in_density=True)
        self.smooth = smooth

    def emit(self, site: Site) -> tf.Tensor:
        smooth = self.smooth(site)
        return site.sample + (smooth - tf.stop_gradient(smooth))


class MeanSampler(Sampler):
    """The mean-field pass: each layer outputs the mean of its units, and the next one sees it."""

    def draw(self, family: type, logits: tf.Tensor, seed: int, layer: int) -> tf.Tensor:
        return family.mean(logits)


class ReplaySampler(Sampler):
    """Replays a trace as it was sampled before site `first`; a subclass says what happens from there on.

    Args:
        trace: the `HardSampler` of the hard pass.
        first: index of the first site that differs.
    """

    def __init__(self, trace: HardSampler, first: int = 0):
        super().__init__()
        self.trace = trace
        self.first = first

    def draw(self, family: type, logits: tf.Tensor, seed: int, layer: int) -> tf.Tensor:
        if len(self.outputs) >= len(self.trace):
            raise ValueError(
                f"The objective sampled more stochastic layers than in its hard pass ({len(self.trace)}); it must run "
                "the same layers in every pass."
            )
        site = self.trace.sites[len(self.outputs)]
        return site.sample if site.index < self.first else self.redraw(site, logits)

    def redraw(self, site: Site, logits: tf.Tensor) -> tf.Tensor:
        """The sample of a site from `first` on, at the logits that it has in this pass."""
        raise NotImplementedError


class RelaxedSampler(ReplaySampler):
    """Hard before site `first`, relaxed with the noise of the trace from there on.

    Args:
        trace: the `HardSampler` of the hard pass.
        first: index of the first relaxed site.
        relax: `(site, z, logits) -> y`, the relaxed sample.
    """

    def __init__(self, trace: HardSampler, first: int, relax: Callable[[Site, tf.Tensor, tf.Tensor], tf.Tensor]):
        super().__init__(trace, first)
        self.relax = relax

    def redraw(self, site: Site, logits: tf.Tensor) -> tf.Tensor:
        return self.relax(site, site.family.reparameterize(site.noise, logits), logits)


class AntitheticSampler(ReplaySampler):
    """Hard throughout; site `first` is drawn from `1 - u` in place of `u`, later ones from their own noise."""

    def redraw(self, site: Site, logits: tf.Tensor) -> tf.Tensor:
        noise = 1.0 - site.noise if site.index == self.first else site.noise
        return tf.stop_gradient(site.family.threshold(site.family.reparameterize(noise, logits)))

    def density_logits(self, logits: tf.Tensor) -> tf.Tensor:
        return tf.stop_gradient(logits)


class ForcedSampler(Sampler):
    """Outputs given samples and adds up their log-probability: one term of an exact expectation.

    Args:
        samples: called with the index of the call and its float32 logits, returns a sample like the logits.

    Attributes:
        log_prob: `[batch]`, `log p(b_1:n)` of the samples given so far.
    """

    def __init__(self, samples: Callable[[int, tf.Tensor], tf.Tensor]):
        super().__init__()
        self.samples = samples
        self.log_prob: tf.Tensor | float = 0.0

    def draw(self, family: type, logits: tf.Tensor, seed: int, layer: int) -> tf.Tensor:
        sample = self.samples(len(self.outputs), logits)
        self.log_prob += family.log_prob(sample, logits)
        return sample
