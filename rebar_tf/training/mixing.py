"""Whether the objective mixes the examples of a batch: found by trial, before a model is trained.

An estimator that takes the examples one by one gives the samples of each the credit for its own loss alone, which is a
bias where they move another's. No list of layers and losses says which do: the model's own may be anything. So a few
random examples are evaluated with the samples of every second one changed, and what belongs to the rest must stay.
"""

from __future__ import annotations

import copy
import weakref
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from rebar_tf.distributions import Distribution
from rebar_tf.sampling import Sampler, Source, static_or_dynamic_shape, uniform
from rebar_tf.training.keras_loss import sharing_coupled

if TYPE_CHECKING:
    from rebar_tf.training.compiled_objective import CompiledObjective

_TRIALS = 5  # a mixing that shows at some samples only, as a maximum over the batch, may be missed by one
_EXAMPLES = 4
_SIZE = 8  # of an axis that the data do not fix, as of steps
_found: weakref.WeakKeyDictionary[Any, dict[Any, bool]] = weakref.WeakKeyDictionary()


def mixes_examples(model: CompiledObjective, x: Any, y: Any, training: bool) -> bool:
    """Whether samples of one example move the loss of another, or the probabilities of its units.

    By trial for each kind of data, and once: at random inputs and weights, where nothing is zero that need not be.
    The model's state stays as it is.

    Args:
        model: compiled, or with an `objective` of its own.
        x: a batch of inputs, of which types and shapes count.
        y: a batch of targets likewise.
        training: whether layers run as in training.

    Raises:
        ValueError: where it cannot be tried.
    """
    trainable = tuple(layer.trainable for layer in model._flatten_layers())
    loss = model._compile_loss and weakref.ref(model._compile_loss)  # which may hold the model
    key = training, loss, trainable, *map(kind, keras.tree.flatten((x, y)))
    found = _found.setdefault(model, {})
    if key not in found:
        trial = Trial(model, training, compiled=not tf.executing_eagerly())
        with tf.init_scope():
            found[key] = any(trial.shows_mixing(x, y, seed) for seed in range(_TRIALS))
    return found[key]


def kind(part: Any) -> Any:
    """Type and shape of an example, None for none."""
    return None if part is None else (tf.as_dtype(part.dtype).name, str(part.shape[1:]))


class Trial:
    """Evaluates a model's objective with other samples for every second example.

    Args:
        model: whose objective it is.
        training: whether layers run as in training.
        compiled: whether as a function of TensorFlow's, like the step that asks.
    """

    def __init__(self, model: CompiledObjective, training: bool, compiled: bool):
        self.model, self.training = model, training
        self.run = tf.function(self.evaluate, autograph=False) if compiled else self.evaluate

    def evaluate(self, seed: tf.Tensor, changed: tf.Tensor, data: Any, weights: list[tf.Tensor]) -> list[tf.Tensor]:
        """What belongs to the examples whose samples stay: the objective, and the logits of the units."""
        sampler = TrialSampler(seed, changed)
        scope = keras.StatelessScope(zip(self.model.trainable_variables, weights, strict=True), collect_losses=True)
        # What mixes the examples openly, as a loss that returns a scalar, is seen in every step.
        x, y = data
        with scope, sharing_coupled(0.0), sampler:
            f, _ = self.model.objective_of_pass(x, y, training=self.training)
        is_of_examples = f.shape.rank == 1 and f.shape[0] in (_EXAMPLES, None)  # or else an estimator refuses it
        return [part[1::2] for part in (f, *sampler.logits)] if is_of_examples else []

    def shows_mixing(self, x: Any, y: Any, seed: int) -> bool:
        """Whether any of it changes with the samples of the other examples.

        Raises:
            ValueError: where that cannot be said.
        """
        rng = np.random.default_rng(seed)
        try:
            data = keras.tree.map_structure(lambda part: random_like(part, rng), (x, y))
            with keras.StatelessScope():  # which hides the values of a scope around it
                weights = [jittered(variable, rng) for variable in self.model.trainable_variables]
            given = tf.constant(seed, tf.int64), data, weights
            before, again, after = (self.at(changed, *given) for changed in (False, False, True))
        except Exception as error:
            raise self.failed(f"{type(error).__name__}: {error}") from error
        if not all(np.isfinite(part).all() for part in before):
            raise self.failed("it is not finite there.")
        if differ(before, again):
            raise self.failed("it is another one each time, by noise that is not of a Keras seed generator.")
        return differ(before, after)

    def at(self, changed: bool, seed: tf.Tensor, data: Any, weights: list[tf.Tensor]) -> list[np.ndarray]:
        """`evaluate`, in NumPy."""
        return [part.numpy() for part in self.run(seed, tf.constant(changed), data, weights)]

    def failed(self, why: str) -> ValueError:
        """The error for an objective that does not serve."""
        return ValueError(
            f"Whether the loss of one example depends on the samples of others is found by evaluating the objective "
            f"of model {self.model.name!r} on {_EXAMPLES} random examples, and that failed: {why} Set `coupled_batch` "
            "of the model to False if no layer or loss of yours mixes the examples of a batch, and to True otherwise. "
            "Received: coupled_batch=None"
        )


def differ(before: list[np.ndarray], after: list[np.ndarray]) -> bool:
    """Whether any number is another one, by more than rounding, or there are more or fewer."""
    if len(before) != len(after):
        return True
    return not all(np.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(before, after, strict=True))


def random_like(part: Any, rng: np.random.Generator) -> Any:
    """A few random examples like those of a tensor: fractions, or the integers 0 and 1; texts are empty."""
    if part is None:
        return None
    dtype = tf.as_dtype(part.dtype)
    shape = [_EXAMPLES, *(_SIZE if size is None else size for size in part.shape[1:])]
    if dtype == tf.string:
        values = tf.fill(shape, "")
    elif dtype.is_floating:
        values = tf.cast(rng.uniform(size=shape), dtype)
    else:
        values = tf.cast(rng.integers(2, size=shape), dtype)
    if isinstance(part, tf.SparseTensor):
        return tf.sparse.from_dense(values)
    return tf.RaggedTensor.from_tensor(values) if isinstance(part, tf.RaggedTensor) else values


def jittered(variable: keras.Variable, rng: np.random.Generator) -> tf.Tensor:
    """A variable's value with another factor for each entry, and fractions in place of zeros: the signs stay."""
    value = np.asarray(keras.ops.convert_to_numpy(variable), np.float64)
    fractions = rng.uniform(0.5, 1.5, size=value.shape)
    usable = np.isfinite(value) & (value != 0.0)
    return tf.cast(np.where(usable, value, 0.1) * fractions, variable.dtype)


class TrialSampler(Sampler):
    """Draws units of random logits, which the examples have in common; on request other ones for every second example.

    Args:
        seed: of the noise, integer scalar.
        changed: whether every second example has other samples, boolean scalar. Layers with a local estimator keep
            their noise.

    Attributes:
        logits: of each call.
    """

    leaves_local = False

    def __init__(self, seed: tf.Tensor, changed: tf.Tensor):
        super().__init__()
        self.seed, self.changed = seed, changed
        self.logits: list[tf.Tensor] = []

    def draw(self, distribution: Distribution, source: Source) -> tf.Tensor:
        shape = static_or_dynamic_shape(distribution.logits)
        noise, other, weights = (uniform(shape, self.seed, self.calls, part) for part in range(3))
        if source.local is None and distribution.logits.shape[0] in (_EXAMPLES, None):
            self.logits.append(distribution.logits)
            every_second = np.arange(_EXAMPLES).reshape([-1] + [1] * (distribution.logits.shape.rank - 1)) % 2 == 0
            moved = tf.logical_and(self.changed, every_second)
            logits = 6.0 * weights[:1] - 3.0 + tf.zeros_like(noise)
            distribution = copy.copy(distribution)
            distribution.logits = tf.where(moved, -logits, logits)
            noise = tf.where(moved, other, noise)
        return distribution.sample(noise)
