"""The base of all samplers, and the stack of those that are active."""

from __future__ import annotations

import dataclasses
import threading
from typing import Any, Protocol

import tensorflow as tf

from rebar_tf.distributions import Distribution
from rebar_tf.sampling.loss_scale import scaled_gradients
from rebar_tf.sampling.noise import SeedOfRun

_active = threading.local()  # replicas of a distribution strategy run in threads of their own


def current() -> Sampler | None:
    """The innermost active sampler of this thread, or None outside of every `with` block."""
    stack = getattr(_active, "stack", None)
    return stack[-1] if stack else None


def active() -> Sampler:
    """The innermost active sampler of this thread.

    Raises:
        RuntimeError: outside of every `with` block.
    """
    sampler = current()
    if sampler is None:
        raise RuntimeError("An objective samples, and must be called under a sampler: `with HardSampler(step): ...`")
    return sampler


def static_or_dynamic_shape(tensor: tf.Tensor) -> tf.TensorShape | tf.Tensor:
    """The shape, as a tensor where the batch size is not known before the run."""
    return tensor.shape if tensor.shape.is_fully_defined() else tf.shape(tensor)


def check_no_vectorized_map(name: str) -> None:
    """ValueError inside of `tf.vectorized_map`, which traces one turn for all: they would have the same noise."""
    if any(scope.startswith("loop_body") for scope in tf.get_current_name_scope().split("/")):  # its only trace
        raise ValueError(
            f"Layer {name!r} is called inside of `tf.vectorized_map`, where it would draw the same noise in every "
            "turn. `TimeDistributed` does so for sequences of unknown length: call the layer on the whole sequence, "
            "`[batch, steps, units]`."
        )


class NoDerivativeError(ValueError):
    """The objective has no derivative with respect to a sample."""


class LocalSample(Protocol):
    """How a layer samples that carries its gradient itself, by a derivative of its sample."""

    def sample(self, distribution: Distribution, noise: tf.Tensor, training: bool) -> tf.Tensor:
        """What the layer outputs in training, or a hard sample; with a derivative."""

    def smooth(self, distribution: Distribution, noise: tf.Tensor) -> tf.Tensor:
        """What the derivative is that of."""


@dataclasses.dataclass(frozen=True)
class Source:
    """Which layer asks for a sample.

    Attributes:
        name: of the layer, for errors.
        seed: of the layer's noise.
        index: of the layer among the model's stochastic layers.
        local: how the layer samples by itself; None for a layer whose gradient an estimator of the model makes.
        shared: whether one sample is for the whole batch.
    """

    name: str
    seed: int | SeedOfRun
    index: int = 0
    local: LocalSample | None = None
    shared: bool = False


class Sampler:
    """Base of the contexts: `with sampler:` makes it the one that stochastic layers ask for their samples.

    A sampler also remembers what it gave out, and `gradients(f)` differentiates a `[batch]` objective with respect to
    it. A layer with a local estimator samples as it would without a sampler, with the noise of the pass: to all other
    estimators it is a part of the objective.

    Attributes:
        outputs: what was given out, but for layers with a local estimator.
        local_outputs: what those got.
        calls: how many samples were given out: the place of the next one in the pass.
        families: the names of their distributions.
        graph: in which it was entered; the same object throughout in eager mode.
    """

    graph: tf.Graph
    leaves_local = True  # whether layers with a local estimator sample by it

    def __init__(self) -> None:
        self.outputs: list[tf.Tensor] = []
        self.local_outputs: list[tf.Tensor] = []
        self.calls = 0
        self.families: set[str] = set()
        self._tape = tf.GradientTape(watch_accessed_variables=False)

    def __enter__(self) -> Any:
        if not hasattr(_active, "stack"):
            _active.stack = []
        _active.stack.append(self)
        self.graph = tf.compat.v1.get_default_graph()
        self._tape.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._tape.__exit__(*exception)
        _active.stack.pop()

    def sample(self, distribution: Distribution, source: Source) -> tf.Tensor:
        """The sample that the calling layer outputs.

        Args:
            distribution: of the layer's units.
            source: the calling layer.

        Returns:
            Like the logits: in {0, 1} or one-hot, or relaxed.

        Raises:
            ValueError: inside of a loop, a branch or a function, whose tensors are not to be had outside of it, and
                which would draw the same noise in every turn.
        """
        if not isinstance(source.seed, SeedOfRun):
            check_no_vectorized_map(source.name)
        if tf.compat.v1.get_default_graph() is not self.graph:
            raise ValueError(
                f"Layer {source.name!r} is called inside of a symbolic loop, a branch or a function of TensorFlow, "
                "where an estimator cannot follow its samples. Build the recurrent layer around it with `unroll=True`, "
                "or call the layer on the whole sequence, `[batch, steps, units]`."
            )
        if self.leaves_local and source.local is not None:
            outputs, output = self.local_outputs, self.draw_local(distribution, source, source.local)
        else:
            outputs, output = self.outputs, self.draw(distribution, source)
        self._tape.watch(output)
        outputs.append(output)
        self.calls += 1
        self.families.add(distribution.name)
        return output

    def draw(self, distribution: Distribution, source: Source) -> tf.Tensor:
        """What a subclass decides: the sample."""
        raise NotImplementedError

    def draw_local(self, distribution: Distribution, source: Source, local: LocalSample) -> tf.Tensor:
        """The sample of a layer with a local estimator."""
        raise NotImplementedError

    def density_logits(self, logits: tf.Tensor) -> tf.Tensor:
        """The logits to use where the objective evaluates a layer's own density, as in `log q(b|x)`."""
        return logits

    def gradients(
        self, objective: tf.Tensor, first: int = 0, last: int | None = None, allow_unseen: bool = False
    ) -> list[tf.Tensor]:
        """`d f / d y` of each example, for the outputs y of the stochastic layers `first` to `last`, exclusive.

        The derivative is the total one: through later layers, too, where their samples are differentiable. In a pass
        all of whose layers have a local estimator it is that by their outputs.

        Args:
            objective: f, `[batch]`.
            first: index of the first output.
            last: index after the last one; None for all that follow.
            allow_unseen: whether the derivative is zero for an output that f sees by way of later samples only, as long
                as f sees some output directly.

        Raises:
            NoDerivativeError: where f does not depend on an output in a differentiable way.
        """
        outputs = (self.outputs or self.local_outputs)[first:last]
        gradients = scaled_gradients(self._tape, objective, outputs)
        unseen = [gradient is None for gradient in gradients]
        if all(unseen) or (any(unseen) and not allow_unseen):
            raise NoDerivativeError(
                "The objective has no derivative with respect to the sample of a stochastic layer: it rounds, compares "
                "or indexes it."
            )
        return [
            tf.zeros_like(y) if gradient is None else gradient for y, gradient in zip(outputs, gradients, strict=True)
        ]
