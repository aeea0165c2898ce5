"""Many training steps in one compiled program, with Keras's `fit` still in charge between programs.

Keras launches one compiled program for each step, also with `steps_per_execution`: reading and writing every variable
through the runtime costs as much as a small step. Here the batches of an execution are stacked first, and one XLA
program loops over them. A dataset stacks them beside the training where it can; from any other source they are taken
one by one.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import keras
import tensorflow as tf

from rebar_tf.optimizers import LearningRateGroups
from rebar_tf.training.parts import map_parts
from rebar_tf.training.replicated_steps import replicated_function
from rebar_tf.training.stacked_batches import FIT, StackedBatches, stack_fit

if TYPE_CHECKING:
    from rebar_tf.training.step import StepEstimate

    class _MixedInto(keras.Model):
        """What the mixin is mixed into."""

        train_function: Any
        test_function: Any
        _distribute_strategy: tf.distribute.Strategy | None
else:
    _MixedInto = object

_EVALUATE = inspect.signature(keras.Model.evaluate)
Logs = dict[str, tf.Tensor]
Step = TypeVar("Step", bound=Callable[..., Any])


def leaves_its_logs(step: Step) -> Step:
    """Marks a step whose logs are in the model's state: a program of many steps returns none of them."""
    vars(step)["leaves_its_logs"] = True
    return step


def check_weights(given: Mapping[str, Any]) -> None:
    """ValueError for arguments with weights but no targets, where Keras drops the weights."""
    if given.get("y") is None and given.get("sample_weight") is not None:
        raise ValueError(
            "`sample_weight` needs targets, without which Keras drops it: pass `y` too, such as `x` itself for an "
            "`objective` that takes none. Received: y=None"
        )


class MultiStepTraining(_MixedInto):
    """Gives a Keras model that trains under XLA one program for `steps_per_execution` steps.

    Derive from this and `keras.Model`. Programs are compiled where XLA is asked for and there is no distribution
    strategy; under a strategy they are loops, see `replicated_function`; everywhere else, and for a step of a
    subclass's own, Keras's own way is taken.
    """

    def fit(self, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """Keras's `fit`, which reads the data several steps at a time, beside the training, where it can be done.

        It can for arrays, unless `validation_split` or `steps_per_epoch` is given, and for a `tf.data.Dataset` whose
        batches have one fixed size, if `steps_per_epoch` is given and `steps_per_execution` divides it; never with
        `class_weight`.
        """
        check_weights(FIT.bind(self, *args, **kwargs).arguments)
        stacked = stack_fit(self.steps_per_execution, self, *args, **kwargs) if self.runs_many_steps() else None
        return super().fit(*args, **kwargs) if stacked is None else super().fit(**stacked)

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """Keras's `evaluate`; ValueError for weights without targets."""
        check_weights(_EVALUATE.bind(self, *args, **kwargs).arguments)
        return super().evaluate(*args, **kwargs)

    def runs_many_steps(self) -> bool:
        """Whether an execution is one XLA program of several steps."""
        several = self.jit_compile and not self.run_eagerly and self.steps_per_execution > 1
        alone = self._distribute_strategy is None and not tf.distribute.has_strategy()
        return several and alone and self._leaves_its_logs(self.train_step)

    def _leaves_its_logs(self, step: Callable[..., Any]) -> bool:
        """Whether all logs of a step are in the model's state."""
        return hasattr(step, "leaves_its_logs") and type(self).compute_metrics is keras.Model.compute_metrics

    def make_train_function(self, force: bool = False) -> None:
        """Keras's, or one program of `steps_per_execution` steps where XLA is asked for, or under a strategy."""
        if self.train_function is not None and not force:
            return
        self.build_optimizer()
        if self.runs_many_steps():
            program = step_by_step(self.train_step, self.read_logs)
            self.train_function = multi_step_function(program, self.steps_per_execution)
        else:
            super().make_train_function(force)
            self.train_function = self._on_replicas(self.train_function, self.train_step, self.read_logs)

    def make_test_function(self, force: bool = False) -> None:
        """Keras's, or under a strategy one program of `steps_per_execution` steps."""
        if self.test_function is not None and not force:
            return
        super().make_test_function(force)
        self.test_function = self._on_replicas(self.test_function, self.test_step, self.read_test_logs)

    def _on_replicas(self, by_keras: Any, step: Callable[[Any], Logs], read_logs: Callable[[], Logs]) -> Any:
        """Keras's function, or under a strategy another one for what the strategy distributes."""
        if self._distribute_strategy is None or self.run_eagerly:
            return by_keras
        if not self._leaves_its_logs(step):
            if self.steps_per_execution > 1:  # of which Keras's loop fails in TensorFlow
                raise ValueError(
                    f"`steps_per_execution` must be 1 under a distribution strategy where a model has a "
                    f"`{step.__name__}` or `compute_metrics` of its own. Received: "
                    f"steps_per_execution={self.steps_per_execution}"
                )
            return by_keras
        replicated = replicated_function(self._distribute_strategy, step, read_logs, self.steps_per_execution)

        def function(iterator: Any) -> Logs:
            is_distributed = isinstance(iterator, tf.distribute.DistributedIterator)
            return replicated(iterator) if is_distributed else by_keras(iterator)

        return function

    def has_all_variables(self) -> bool:
        """Whether all variables exist that the optimizer will train."""
        return self.built

    def build_optimizer(self) -> None:
        """Creates the optimizer's variables, if it can be done now.

        TensorFlow traces a function twice if variables are created in it, and tracing a step takes about as long as
        compiling it. Where there is a distribution strategy Keras does the same.
        """
        if self.has_all_variables() and not self.optimizer.built and self._distribute_strategy is None:
            self.optimizer.build(self.trainable_variables)

    def updates_after_passes(self, estimates: Iterable[StepEstimate]) -> contextlib.AbstractContextManager[None]:
        """A block in which an optimizer of this library updates no variable before all passes have read it.

        The sources of the gradients are there when the passes are done. The products that make gradients of them are
        not waited for: they can be computed beside the updates.
        """
        sources = [g.source for estimate in estimates for g in estimate.model_gradients if g is not None]
        if sources and self.runs_many_steps() and isinstance(self.optimizer, LearningRateGroups):
            return self.optimizer.updates_after(sources)
        return contextlib.nullcontext()

    def read_logs(self) -> Logs:
        """The logs after a program, computed from the model's state at its end."""
        return self.get_metrics_result()

    def read_test_logs(self) -> Logs:
        """Those of `evaluate`."""
        return self.get_metrics_result()


Program = Callable[[Any, tf.Tensor], Logs]  # of stacked batches and the number of those that count


def step_by_step(train_step: Callable[[Any], Logs], read_logs: Callable[[], Logs]) -> Program:
    """A program that takes steps which update the model's variables.

    Args:
        train_step: one step on one batch; what it returns is left to `read_logs`.
        read_logs: the logs after a step, computed from the model's state.
    """

    def program(batches: Any, count: tf.Tensor) -> Logs:
        def one_step(i: tf.Tensor) -> tuple[tf.Tensor]:
            train_step(map_parts(lambda part: part[i], batches))
            return (i + 1,)

        tf.while_loop(lambda i: i < count, one_step, [tf.constant(0)])
        return read_logs()

    return program


def multi_step_function(program: Program, steps: int) -> Any:
    """What `make_train_function` returns: takes Keras's data iterator, trains up to `steps` steps, returns the logs.

    Args:
        program: what is compiled.
        steps: that it takes at most.

    Returns:
        A function that raises StopIteration when the iterator has no batch left.
    """

    # As in Keras's own train function, AutoGraph rewrites no code: it would take longer than tracing and compiling.
    @tf.function(autograph=False, jit_compile=True)
    def train(batches: Any, count: tf.Tensor) -> Logs:  # by this name it is in profiles
        return program(batches, count)

    @tf.function(autograph=False)
    def gather(iterator: tf.data.Iterator, most: tf.Tensor) -> StackedBatches:
        return _gather(iterator, steps, most)

    def train_one(batch: Any) -> Logs:
        return train(map_parts(lambda part: part[tf.newaxis], batch), tf.constant(1))

    def function(iterator: tf.data.Iterator) -> Logs:
        if not hasattr(iterator, "element_spec"):  # of `train_on_batch`: a generator of one
            return train_one(keras.utils.unpack_x_y_sample_weight(next(iterator)))
        is_stacked = isinstance(iterator.element_spec, StackedBatches)
        taken, logs = 0, None
        while taken < steps:  # one turn, but where batches of several shapes are mixed
            batches, count, rest, has_rest = (
                next(iterator) if is_stacked else gather(iterator, tf.constant(steps - taken))
            )
            if count:
                logs = train(batches, count)
            if has_rest:
                logs = train_one(rest)
            if is_stacked or not has_rest:
                break
            taken += int(count) + 1
        if logs is None:
            raise StopIteration
        return logs

    vars(function)["program"] = train  # for profiles and benchmarks: takes stacked batches and their count
    return function


def _gather(iterator: tf.data.Iterator, steps: int, most: tf.Tensor) -> StackedBatches:
    """Up to `most` batches of the shapes of the first one, stacked, and the one of another shape that follows them."""
    spec = tf.nest.flatten(iterator.element_spec)
    arrays = [tf.TensorArray(part.dtype, steps, element_shape=part.shape, clear_after_read=False) for part in spec]

    def body(i: tf.Tensor, more: tf.Tensor, odd: tf.Tensor, shapes: tf.Tensor, *arrays: tf.TensorArray) -> tuple:
        batch = iterator.get_next_as_optional()

        def take() -> tuple:
            parts = tf.nest.flatten(batch.get_value())
            own = tf.concat([tf.shape(part) for part in parts], axis=0)
            differs = tf.logical_and(i > 0, tf.reduce_any(own != shapes))
            written = [array.write(i, part) for array, part in zip(arrays, parts, strict=True)]
            return i + 1, tf.logical_not(differs), differs, tf.where(i > 0, shapes, own), *written

        def stop() -> tuple:
            return i, tf.constant(False), odd, shapes, *arrays

        return tf.cond(batch.has_value(), take, stop)

    none = tf.zeros([sum(len(part.shape) for part in spec)], tf.int32)
    start = [tf.constant(0), tf.constant(True), tf.constant(False), none, *arrays]
    i, _, odd, _, *arrays = tf.while_loop(
        lambda i, more, *_: tf.logical_and(more, i < most), body, start, parallel_iterations=1
    )
    count = i - tf.cast(odd, tf.int32)
    places = tf.minimum(tf.range(steps), tf.maximum(count - 1, 0))

    def stack() -> tuple:
        return tuple(array.gather(places) for array in arrays), tuple(array.read(i - 1) for array in arrays)

    def nothing() -> tuple:
        empty = tuple(tf.zeros([0] * (len(part.shape) + 1), part.dtype) for part in spec)
        return empty, tuple(tf.zeros([0] * len(part.shape), part.dtype) for part in spec)

    batches, rest = tf.cond(count > 0, stack, nothing)
    batches, rest = (tf.nest.pack_sequence_as(iterator.element_spec, list(parts)) for parts in (batches, rest))
    return StackedBatches(batches, count, rest, odd)
