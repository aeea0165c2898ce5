"""Whether the objective mixes the examples of a batch: found by trial, before a model is trained.

An estimator that takes the examples one by one gives the samples of each the credit for its own loss alone, which is a
bias where they move another's. No list of layers and losses says which do: the model's own may be anything. So a few
random examples are evaluated with the samples of half of them changed, and what belongs to the others must stay.
"""

from __future__ import annotations

import concurrent.futures
import copy
import itertools
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from rebar_tf.distributions import Distribution
from rebar_tf.sampling import Sampler, Source, static_or_dynamic_shape
from rebar_tf.training.keras_loss import sharing_coupled

if TYPE_CHECKING:
    from rebar_tf.training.compiled_objective import CompiledObjective

_EXAMPLES = 4
_HALVES = tuple(itertools.combinations(range(_EXAMPLES), 2))  # of any two examples some have one, and not the other
_SIZE = 32  # of an axis that the data do not fix, as of steps or of an image
_LATE = 10**6  # steps of the optimizer, after which what is warmed up is there
_found: weakref.WeakKeyDictionary[Any, dict[Any, bool]] = weakref.WeakKeyDictionary()


def mixes_examples(model: CompiledObjective, x: Any, y: Any, training: bool) -> bool:
    """Whether samples of one example move the loss of another, or the probabilities of its units.

    By trial for each kind of data, and once until the model is compiled anew: at random inputs, with the model's state
    as it is and with random ones. Keras variables stay as they are.

    Args:
        model: compiled, or with an `objective` of its own.
        x: a batch of inputs, of which types and shapes count.
        y: a batch of targets likewise.
        training: whether layers run as in training.

    Raises:
        ValueError: where it cannot be tried.
    """
    trainable = tuple(layer.trainable for layer in model._flatten_layers())
    compiled = getattr(model, "_compile_config", None)
    key = training, compiled and weakref.ref(compiled), trainable, *map(kind, keras.tree.flatten((x, y)))
    found = _found.setdefault(model, {})
    if key not in found:
        trial = Trial(model, training)
        with concurrent.futures.ThreadPoolExecutor(1) as free:  # of the graphs, tapes and scopes of this thread
            found[key] = free.submit(trial.shows_mixing, x, y).result()
    return found[key]


def kind(part: Any) -> Any:
    """Type and rank of a part of the data; what is no tensor is its own kind."""
    return (tf.as_dtype(part.dtype).name, tf.TensorShape(part.shape).rank) if hasattr(part, "shape") else part


class _Useless(Exception):
    """An objective that shows nothing."""


class Trial:
    """Evaluates a model's objective with other samples for half of the examples.

    To be made where the answer is needed: in a graph it evaluates in one, too.

    Args:
        model: whose objective it is.
        training: whether layers run as in training.
    """

    def __init__(self, model: CompiledObjective, training: bool):
        self.model, self.training = model, training
        self.weights, self.others, self.steps = model.model_variables, model.state_variables, optimizer_steps(model)
        self.size = fixed_batch(model) or _EXAMPLES
        by_autograph = tf.__internal__.autograph.control_status_ctx().status.name == "ENABLED"
        in_graph = not tf.executing_eagerly()
        self.run = tf.function(self.evaluate, autograph=by_autograph) if in_graph else self.evaluate

    def shows_mixing(self, x: Any, y: Any) -> bool:
        """Whether what belongs to the other examples changes in any trial.

        Raises:
            ValueError: where that cannot be said.
        """
        try:
            return self._any_differs(x, y)
        except Exception as error:
            raise ValueError(
                "Whether the loss of one example depends on the samples of others is found by evaluating the objective "
                f"of model {self.model.name!r} on {self.size} random examples (fractions, the integers 0 and 1, the "
                f"text 'a', {_SIZE} for a size that is not known), and that failed: {described(error)} "
                "Set `coupled_batch` of the model to False if no layer or loss of yours mixes the examples of a batch, "
                "and to True otherwise. Received: coupled_batch=None"
            ) from error

    def _any_differs(self, x: Any, y: Any) -> bool:
        anything_finite = False
        for seed in range(len(_HALVES)):
            given = tf.constant(seed, tf.int64), self.data(x, y, seed), list(self.state(seed))
            changed = half(self.size, seed)
            before = self.at(np.zeros_like(changed), *given)
            if not before:
                return False
            finite = all(not np.isnan(part).any() for part in before) and np.isfinite(before[0]).all()
            if finite and not anything_finite and differ(before, self.at(np.zeros_like(changed), *given), changed):
                raise _Useless("it is another one each time, by noise that is not of a Keras seed generator.")
            anything_finite |= finite
            if finite and differ(before, self.at(changed, *given), changed):
                return True
        if not anything_finite:
            raise _Useless("it is not finite.")
        return False

    def evaluate(self, changed: tf.Tensor, seed: tf.Tensor, data: Any, state: list[tf.Tensor]) -> list[tf.Tensor]:
        """The objective and the logits of the units; nothing where the objective is not one of examples.

        Args:
            changed: which examples have other samples, `[examples]`.
            seed: of the samples, integer scalar.
            data: inputs and targets.
            state: of the variables.
        """
        sampler = TrialSampler(seed, changed)
        variables = [*self.weights, *self.others, *self.steps]
        scope = keras.StatelessScope(list(zip(variables, state, strict=True)), collect_losses=True)
        x, y = data
        # What mixes the examples openly, as a loss that returns a scalar, is seen in every step.
        with scope, sharing_coupled(0.0), sampler:
            f, _ = self.model.objective_of_pass(x, y, training=self.training)
        is_of_examples = f.shape.rank == 1 and f.shape[0] in (self.size, None)  # an estimator refuses another one
        return [f, *sampler.logits] if is_of_examples else []

    def at(self, changed: np.ndarray, seed: tf.Tensor, data: Any, state: list[tf.Tensor]) -> list[np.ndarray]:
        """`evaluate`, in NumPy."""
        return [part.numpy() for part in self.run(tf.constant(changed), seed, data, state)]

    def data(self, x: Any, y: Any, seed: int) -> Any:
        """Random inputs and targets; also equal targets, and those of two values, which some losses compare."""
        rng = np.random.default_rng(seed)
        how = (seed + seed // 3) % 3  # with two kinds of state each

        def targets(part: Any) -> Any:
            values = random_like(part, self.size, rng, binary=how == 1)
            return keras.ops.repeat(values[:1], self.size, axis=0) if how == 2 and tf.is_tensor(values) else values

        of_inputs = keras.tree.map_structure(lambda part: random_like(part, self.size, rng), x)
        return of_inputs, keras.tree.map_structure(targets, y)

    def state(self, seed: int) -> Iterator[tf.Tensor]:
        """Values of the variables, in turn: as they are but for jittered weights, all jittered, and random weights."""
        rng, how = np.random.default_rng(seed), seed % 3
        for variable in self.weights:
            value = keras.ops.convert_to_numpy(variable)
            value = rng.normal(scale=0.5, size=value.shape) if how == 2 else jittered(value, rng)
            yield tf.cast(value, variable.dtype)
        generators = {id(each.state) for layer in self.model._flatten_layers() for each in layer._seed_generators}
        for variable in self.others:
            value = keras.ops.convert_to_numpy(variable)
            if id(variable) in generators:
                value = rng.integers(2**31, size=value.shape)
            elif how and tf.as_dtype(variable.dtype).is_floating:
                value = jittered(value, rng)
            yield tf.cast(value, variable.dtype)
        for variable in self.steps:
            yield variable.value + (_LATE if how else 0)


def described(error: Exception) -> str:
    """An error in words."""
    return str(error) if isinstance(error, _Useless) else f"{type(error).__name__}: {error}"


def optimizer_steps(model: keras.Model) -> list[keras.Variable]:
    """The optimizer's count of steps, which an objective may go by."""
    optimizer = getattr(model, "optimizer", None)
    return [] if optimizer is None else [optimizer.iterations]


def fixed_batch(model: keras.Model) -> int | None:
    """The size of the batch that the model's inputs ask for."""
    sizes = [part.shape[0] for part in keras.tree.flatten(getattr(model, "inputs", None) or [])]
    return next((size for size in sizes if size is not None), None)


def half(size: int, seed: int) -> np.ndarray:
    """Which half of the examples a trial changes: `[size]`, boolean."""
    chosen = _HALVES[seed] if size == _EXAMPLES else np.random.default_rng(seed).permutation(size)[: size // 2]
    return np.isin(np.arange(size), chosen)


def differ(before: list[np.ndarray], after: list[np.ndarray], changed: np.ndarray) -> bool:
    """Whether any number of the other examples is another one, by more than rounding."""
    pairs = zip(before, after, strict=False)  # of an objective that may stop early
    return not all(np.allclose(a[~changed], b[~changed], rtol=1e-6, atol=0.0) for a, b in pairs)


def random_like(part: Any, size: int, rng: np.random.Generator, binary: bool = False) -> Any:
    """Random examples like those of a tensor: fractions, or 0 and 1; what is no tensor of examples as it is."""
    if not hasattr(part, "shape"):
        return part
    dtype = tf.as_dtype(part.dtype)
    shape = [size, *(_SIZE if axis is None else axis for axis in part.shape[1:])] if len(part.shape) else []
    if dtype == tf.string:
        values = tf.fill(shape, "a")
    elif dtype.is_floating and not binary:
        values = tf.cast(rng.uniform(size=shape), dtype)
    else:
        values = tf.cast(rng.uniform(size=shape) < 0.75, dtype)  # seldom all 0, which may stand for no step at all
    if isinstance(part, tf.SparseTensor):
        return tf.sparse.from_dense(values)
    if isinstance(part, tf.RaggedTensor):
        return tf.RaggedTensor.from_tensor(values, ragged_rank=part.ragged_rank)
    return values


def jittered(value: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another factor for each entry, and fractions in place of zeros: the signs stay."""
    usable = np.isfinite(value.astype(np.float64)) & (value != 0.0)
    return np.where(usable, value, 0.1) * rng.uniform(0.5, 1.5, size=value.shape)


class TrialSampler(Sampler):
    """Draws units of random logits, which the examples have in common; for some of the examples other ones.

    Args:
        seed: of the noise, integer scalar.
        changed: which examples have other samples than they would have, `[examples]`. Layers with a local estimator
            keep their noise.

    Attributes:
        logits: of each call.
    """

    leaves_local = False

    def __init__(self, seed: tf.Tensor, changed: tf.Tensor):
        super().__init__()
        self.seed, self.changed = seed, changed
        self.logits: list[tf.Tensor] = []

    def draw(self, distribution: Distribution, source: Source) -> tf.Tensor:
        given = distribution.logits
        shape = static_or_dynamic_shape(given)
        noise, other, weights = (
            tf.random.stateless_uniform(shape, [self.seed, 3 * self.calls + part], minval=1e-3, maxval=1.0 - 1e-3)
            for part in range(3)
        )
        if given.shape[0] not in (self.changed.shape[0], None):
            return distribution.sample(noise)
        self.logits.append(given)
        if source.local is None:
            changed = tf.reshape(self.changed, [-1] + [1] * (given.shape.rank - 1))
            logits = 6.0 * weights[:1] - 3.0 + tf.zeros_like(noise)
            logits = tf.where(changed, -logits, logits)
            noise = tf.where(changed, other, noise)
            distribution = copy.copy(distribution)
            distribution.logits = tf.where(tf.math.is_inf(given), given, logits)  # such a unit is certain
        return distribution.sample(noise)
