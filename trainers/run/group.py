"""Several runs trained in one program, each in its own folder with its own reports, as if it was alone."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from rebar_tf import callbacks
from rebar_tf.training import RunGroup, StochasticTraining
from trainers.common.experiment import Experiment
from trainers.run.loop import fit_phases
from trainers.run.memory import GiveBackMemory

BatchesFrom = Callable[[int], tf.data.Dataset]


class AllDiverged(Exception):
    """No run is left to train."""


class EachRun(keras.callbacks.Callback):
    """Calls the callbacks of each run, with that run's model and logs. A run that diverges is left out from then on.

    Args:
        models: of the runs.
        used: callbacks of each, of which the last one is its checkpoint.

    Attributes:
        diverged: why a run did, by its place.
    """

    def __init__(self, models: Sequence[StochasticTraining], used: Sequence[Sequence[Any]]):
        super().__init__()
        self.models, self.used = list(models), [list(of_run) for of_run in used]
        self.diverged: dict[int, callbacks.Diverged] = {}
        for model, of_run in zip(self.models, self.used, strict=True):
            for callback in of_run:
                callback.set_model(model)

    def set_params(self, params: dict) -> None:
        super().set_params(params)
        for of_run in self.used:
            for callback in of_run:
                callback.set_params(params)

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._call("on_train_begin")

    def on_train_end(self, logs: dict | None = None) -> None:
        self._call("on_train_end")

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._call("on_epoch_begin", epoch)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        logs_of_runs = {run: _numbers(self.models[run].read_logs()) for run in self._left()}
        self._call("on_epoch_end", epoch, logs_of_runs=logs_of_runs)
        if not self._left():
            raise AllDiverged

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        """As each run's, but for the checkpoints: all are saved when one is due, so that all are of one step."""
        self._call("on_train_batch_begin", batch, but=callbacks.Checkpoint)
        if any(self.used[run][-1].is_due() for run in self._left()):
            self.save()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self._call("on_train_batch_end", batch)  # without logs, which take as long as the steps

    def save(self) -> None:
        """Saves the checkpoints of all runs."""
        for run in self._left():
            with self._noting_divergence(run):
                self.used[run][-1].save()

    def _call(
        self, hook: str, *arguments: Any, logs_of_runs: Mapping[int, dict] | None = None, but: type | tuple = ()
    ) -> None:
        """Calls a method of all callbacks, but for those of some class, of the runs that are left."""
        for of_one_kind in zip(*self.used, strict=True):  # speeds are measured before all else
            for run in self._left():
                if not isinstance(of_one_kind[run], but):
                    with self._noting_divergence(run):
                        getattr(of_one_kind[run], hook)(*arguments, (logs_of_runs or {}).get(run))

    def _left(self) -> list[int]:
        """The places of the runs that have not diverged."""
        return [run for run in range(len(self.models)) if run not in self.diverged]

    @contextlib.contextmanager
    def _noting_divergence(self, run: int) -> Iterator[None]:
        try:
            yield
        except callbacks.Diverged as error:
            self.diverged[run] = error


def _numbers(logs: dict[str, tf.Tensor]) -> dict[str, float]:
    return {name: float(value) for name, value in logs.items()}


def train(
    experiments: Sequence[Experiment],
    models: Sequence[StochasticTraining],
    batches_from: Sequence[BatchesFrom],
    used: Sequence[Sequence[Any]],
) -> dict[int, callbacks.Diverged]:
    """Trains the runs up to their `num_steps`, from the step that all have reached.

    Args:
        experiments: of the runs, which differ in seed, learning rate and folder.
        models: compiled.
        batches_from: from a step to an infinite dataset that begins with the batch of that step, of each run.
        used: the callbacks of each run, as `trainers.run.loop.reporting` makes them.

    Returns:
        Why runs diverged, by their places.

    Raises:
        rebar_tf.callbacks.Interrupted: on SIGINT and SIGTERM, after the checkpoints.
        ValueError: if these models cannot be trained in one program.
    """
    group, each = RunGroup(models), EachRun(models, used)

    def stack(*batches: Any) -> Any:
        return tf.nest.map_structure(lambda *of_runs: tf.stack(of_runs), *batches)

    def stacked(step: int) -> tf.data.Dataset:
        return tf.data.Dataset.zip(tuple(of_run(step) for of_run in batches_from)).map(stack)

    with callbacks.StopOnSignal() as stop:
        try:
            fit_phases(experiments[0], group, stacked, [stop, GiveBackMemory(), each])
        except callbacks.Interrupted:
            each.save()
            raise
        except AllDiverged:
            pass
    return each.diverged
