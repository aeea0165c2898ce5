"""Training as calls of `model.fit` whose epochs are the reports of the run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rebar_tf import callbacks
from rebar_tf.training import MultiStepTraining, StochasticTraining
from trainers.common.experiment import FREE_FLAGS, Experiment
from trainers.run.memory import GiveBackMemory, give_back_freed_memory
from trainers.run.mend import mend
from trainers.run.progress_bar import ProgressBar
from trainers.run.workdir import Workdir

_MOST_STEPS_PER_PROGRAM = 100
_WATCHED_IMAGES = 1000  # of the validation split, in the bound of each report
_HISTOGRAM_IMAGES = 100


class ReportCheckpoint(callbacks.Checkpoint):
    """Saves between two reports only: within one, a worker does not know the averages of the others."""

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        if batch == 0:
            super().on_train_batch_begin(batch, logs)


Pictures = Callable[[keras.Model], Mapping[str, np.ndarray]]


def train(
    experiment: Experiment,
    workdir: Workdir,
    model: StochasticTraining,
    batches_from: Callable[[int], tf.data.Dataset],
    validation: tuple,
    reports: Sequence[keras.callbacks.Callback] = (),
    pictures: Pictures | None = None,
    workers: int = 1,
) -> None:
    """Trains up to `num_steps`, from the step that the model has reached.

    Args:
        experiment: what is trained.
        workdir: where curve, TensorBoard scalars and checkpoint go.
        model: compiled, new or from a checkpoint.
        batches_from: from a step to an infinite dataset that begins with the batch of that step.
        validation: what `model.bound` takes, of the validation split.
        reports: callbacks that write more than the curve; they are called after it.
        pictures: what TensorBoard shows of the model, as of `rebar_tf.callbacks.TensorBoard`.
        workers: processes that train the model together, of which this is the chief.

    Raises:
        rebar_tf.callbacks.Interrupted: on SIGINT and SIGTERM; after a checkpoint, if there is one worker.
    """
    bar = ProgressBar(experiment.num_steps) if sys.stdout.isatty() else None
    saving = callbacks.Checkpoint if workers == 1 else ReportCheckpoint
    used = reporting(experiment, workdir, model, validation, reports, pictures, bar and bar.write, saving)
    checkpoint = used[-1]
    with callbacks.StopOnSignal() as stop:
        try:
            fit_phases(experiment, model, batches_from, [stop, GiveBackMemory(), *used, *([bar] if bar else [])])
        except callbacks.Interrupted:
            if workers == 1:
                checkpoint.save()
            raise
        finally:
            if bar is not None:
                bar.close()


def reporting(
    experiment: Experiment,
    workdir: Workdir,
    model: StochasticTraining,
    validation: tuple,
    reports: Sequence[keras.callbacks.Callback] = (),
    pictures: Pictures | None = None,
    say: Callable[[str], None] | None = None,
    saving: type[callbacks.Checkpoint] = callbacks.Checkpoint,
) -> list[Any]:
    """The callbacks of a run, of which the last one is its checkpoint, after the first line of a run that begins.

    Args:
        experiment: what is trained.
        workdir: where curve, TensorBoard scalars and checkpoint go.
        model: compiled, new or from a checkpoint.
        validation: what `model.bound` takes, of the validation split.
        reports: callbacks that write more than the curve; they are called after it.
        pictures: what TensorBoard shows of the model, as of `rebar_tf.callbacks.TensorBoard`.
        say: prints a line; None for standard output.
        saving: what saves the checkpoint.
    """
    num_steps, every = experiment.num_steps, experiment.report_every
    writing: list[keras.callbacks.Callback] = [callbacks.CurveCsv(workdir.curve, every), *reports]
    tables = [callback for callback in writing if isinstance(callback, callbacks.ReportTable)]
    watched = callbacks.ValidationBound(*(part[:_WATCHED_IMAGES] for part in validation))
    progress = callbacks.ProgressLine(num_steps, say)
    tensorboard = _tensorboard(experiment, workdir, validation, pictures)
    beside = [workdir.flags, *(table.path for table in tables)]
    checkpoint = saving(workdir.checkpoint, experiment.checkpoint_minutes, beside)
    used_here: list[keras.callbacks.Callback] = [watched, progress, checkpoint]
    for callback in used_here:
        callback.set_model(model)
    start = callbacks.global_step(model)
    mend(workdir, tables, start, 1 if start == num_steps else every)
    if start == 0:
        progress.on_epoch_end(0, {"valid_bound": watched.value()})
        give_back_freed_memory()  # before the training step is compiled, which takes the most
    return [
        callbacks.ContinueReport(every),
        callbacks.StepsPerSecond(),
        watched,
        progress,
        callbacks.StopOnDivergence(),
        tensorboard,
        *writing,
        checkpoint,
    ]


def follow(experiment: Experiment, model: StochasticTraining, batches_from: Callable[[int], tf.data.Dataset]) -> None:
    """Trains beside the chief, as a worker that writes nothing.

    Raises:
        rebar_tf.callbacks.Interrupted: on SIGINT and SIGTERM.
    """
    with callbacks.StopOnSignal() as stop:
        used = [stop, callbacks.ContinueReport(experiment.report_every), callbacks.StopOnDivergence()]
        fit_phases(experiment, model, batches_from, used)


def fit_phases(
    experiment: Experiment,
    model: MultiStepTraining,
    batches_from: Callable[[int], tf.data.Dataset],
    reporting: Sequence[keras.callbacks.Callback],
) -> None:
    """The calls of `fit` up to `num_steps`."""
    for steps, epochs in phases(callbacks.global_step(model), experiment.num_steps, experiment.report_every):
        _fit(model, batches_from(callbacks.global_step(model)), steps, epochs, list(reporting))


def _tensorboard(
    experiment: Experiment, workdir: Workdir, validation: tuple, pictures: Pictures | None
) -> callbacks.TensorBoard:
    x, *y = (part[:_HISTOGRAM_IMAGES] for part in validation)
    flags = {name: value for name, value in experiment.flags().items() if name not in FREE_FLAGS}
    return callbacks.TensorBoard(
        workdir.tensorboard,
        experiment.report_every,
        x=x,
        y=y[0] if y else None,
        pictures=pictures,
        settings={name: value for name, value in flags.items() if value is not None},
    )


def phases(start: int, num_steps: int, every: int) -> Iterator[tuple[int, int]]:
    """The calls of `fit` that lead from step `start` to `num_steps`, as `(steps_per_epoch, epochs)`.

    Reports end at the multiples of `every`: the rest of one that was cut, the whole ones, a last shorter one.
    """
    rest = min(-start % every, num_steps - start)
    whole, last = divmod(num_steps - start - rest, every)
    yield from ((steps, epochs) for steps, epochs in ((rest, 1), (every, whole), (last, 1)) if steps and epochs)


def _fit(model: MultiStepTraining, batches: tf.data.Dataset, steps: int, epochs: int, reporting: list) -> None:
    # Several steps in one program, as Keras takes as long between two programs as a step does; no more than a signal
    # can wait for, and a number that divides the steps of an epoch.
    steps_per_execution = next(n for n in range(min(steps, _MOST_STEPS_PER_PROGRAM), 0, -1) if steps % n == 0)
    if steps_per_execution != model.steps_per_execution:
        model.steps_per_execution, model.train_function = steps_per_execution, None
    model.fit(batches, steps_per_epoch=steps, epochs=epochs, callbacks=reporting, verbose=0, shuffle=False)
