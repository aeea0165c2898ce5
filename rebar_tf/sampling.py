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

import tensorflow as tf

from rebar_tf.random import uniform

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
        index: the place of the layer in the pass, from 0.
        family: `Bernoulli` or `Categorical`.
        logits: `[batch, ...]` float32, connected to the variables that produced them.
        noise: uniforms of the same shape.
        z: the reparameterised sample `g(noise, logits)`.
        sample: the hard sample `H(z)`, 0/1 or one-hot.
    """

    index: int
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
    """Base of the contexts: `with sampler:` makes it the one that stochastic layers ask for their samples."""

    def __enter__(self):
        if not hasattr(_active, "stack"):
            _active.stack = []
        _active.stack.append(self)
        return self

    def __exit__(self, *exception) -> None:
        _active.stack.pop()

    def sample(self, family: type, logits: tf.Tensor, seed: int) -> tf.Tensor:
        """The sample that the calling layer outputs. Logits are float32 `[batch, ...]`."""
        raise NotImplementedError

    def density_logits(self, logits: tf.Tensor) -> tf.Tensor:
        """The logits to use where the objective evaluates a layer's own density, as in `log q(b|x)`."""
        return logits


class HardSampler(Sampler):
    """Draws the discrete samples and keeps the trace.

    The gradient of `log q(b|x)` through its own logits has expectation zero at samples from q; it is left out, which
    lowers the variance of the direct gradient.

    Args:
        step: integer scalar; the same step draws the same samples.
        stream: an integer that sets apart several passes of one step.

    Attributes:
        sites: one `Site` a stochastic layer, in the order of the pass. Iterating the sampler iterates them.
    """

    def __init__(self, step: tf.Tensor | int, stream: int = 0):
        self.step = step
        self.stream = stream
        self.sites: list[Site] = []

    def __iter__(self):
        return iter(self.sites)

    def __len__(self) -> int:
        return len(self.sites)

    def sample(self, family: type, logits: tf.Tensor, seed: int) -> tf.Tensor:
        noise = uniform(static_or_dynamic_shape(logits), self.step, seed, len(self.sites), self.stream)
        z = family.reparameterize(noise, logits)
        site = Site(len(self.sites), family, logits, noise, z, tf.stop_gradient(family.threshold(z)))
        self.sites.append(site)
        return self.emit(site)

    def emit(self, site: Site) -> tf.Tensor:
        """What the layer outputs: the hard sample."""
        return site.sample

    def density_logits(self, logits: tf.Tensor) -> tf.Tensor:
        return tf.stop_gradient(logits)


class StraightThroughSampler(HardSampler):
    """Hard samples whose derivative is that of the mean: `b + mean - stop_gradient(mean)`."""

    def emit(self, site: Site) -> tf.Tensor:
        mean = site.family.mean(site.logits)
        return site.sample + (mean - tf.stop_gradient(mean))

    def density_logits(self, logits: tf.Tensor) -> tf.Tensor:
        return logits


class RelaxedSampler(Sampler):
    """Replays a trace: hard before site `first`, relaxed with the same noise from there on.

    `gradient(f)` is then the derivative of a `[batch]` objective with respect to the relaxed sample of site `first`.

    Args:
        trace: the `HardSampler` of the hard pass.
        first: index of the first relaxed site.
        temperature: scalar, lambda.
        relaxation: `"eq7"` (the paper's, whose limit at large lambda is the mean) or `"concrete"`.
    """

    def __init__(self, trace: HardSampler, first: int, temperature: tf.Tensor, relaxation: str = "eq7"):
        self.trace = trace
        self.first = first
        self.temperature = temperature
        self.relaxation = relaxation
        self.relaxed: tf.Tensor | None = None  # the relaxed sample of site `first`
        self._next = 0
        self._tape = tf.GradientTape(watch_accessed_variables=False)

    def __enter__(self):
        self._next = 0
        self._tape.__enter__()
        return super().__enter__()

    def __exit__(self, *exception) -> None:
        super().__exit__(*exception)
        self._tape.__exit__(*exception)

    def sample(self, family: type, logits: tf.Tensor, seed: int) -> tf.Tensor:
        if self._next >= len(self.trace):
            raise ValueError(
                "The objective sampled more stochastic layers in the relaxed pass than in the hard one "
                f"({len(self.trace)}); it must run the same layers in every pass."
            )
        site = self.trace.sites[self._next]
        self._next += 1
        if site.index < self.first:
            return site.sample
        z = family.reparameterize(site.noise, logits)
        relaxed = family.relax(z, logits, self.temperature, self.relaxation)
        if site.index == self.first:
            self._tape.watch(relaxed)
            self.relaxed = relaxed
        return relaxed

    def gradient(self, objective: tf.Tensor) -> tf.Tensor:
        """`d f / d y` of each example, y the relaxed sample of site `first`.

        ValueError where f does not depend on it.
        """
        gradient = self._tape.gradient(objective, self.relaxed)
        if gradient is None:
            raise ValueError(
                "The objective has no derivative with respect to the relaxed sample of a stochastic layer: it rounds, "
                "compares or indexes it. Use an estimator that needs none: reinforce or nvil."
            )
        return gradient


class ForcedSampler(Sampler):
    """Outputs given samples and adds up their log-probability: one term of an exact expectation.

    Args:
        samples: called with the index of the stochastic layer and its float32 logits, returns a sample like the logits.

    Attributes:
        log_prob: `[batch]`, `log p(b_1:n)` of the samples given so far.
    """

    def __init__(self, samples: Callable[[int, tf.Tensor], tf.Tensor]):
        self.samples = samples
        self.log_prob: tf.Tensor | float = 0.0
        self._next = 0

    def sample(self, family: type, logits: tf.Tensor, seed: int) -> tf.Tensor:
        sample = self.samples(self._next, logits)
        self._next += 1
        self.log_prob += family.log_prob(sample, logits)
        return sample
