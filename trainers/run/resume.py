"""A command that trains in a workdir: it does what is left to do, and prints the summary."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from rebar_tf import callbacks
from rebar_tf.training import StochasticTraining
from trainers.common import signals
from trainers.common.errors import BadInput, RateTooHigh, one_line
from trainers.common.placement import ONE_DEVICE, Placement
from trainers.run.workdir import Workdir

_LOST = (  # what a collective operation of several workers ends with when one of them does
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
)


def run(flags: dict[str, Any], workdir: Workdir, train: Callable[[], dict[str, Any] | None]) -> None:
    """Prints the summary of the run in `workdir`, which `train` makes unless it is finished.

    Args:
        flags: of the run, by name.
        workdir: its folder.
        train: trains what is left to train, writes the summary and returns it; None where another process does.

    Raises:
        BadInput: if the folder holds another run.
    """
    workdir.check(flags)
    summary = workdir.finished(flags["num_steps"])
    if summary is None:
        summary = train()
    if summary is not None:
        print(json.dumps(summary), flush=True)


@contextlib.contextmanager
def training(
    workdir: Workdir,
    flags: dict[str, Any],
    new_model: Callable[[], StochasticTraining],
    placement: Placement = ONE_DEVICE,
) -> Iterator[StochasticTraining]:
    """In this block the folder is this process's own, and what stops training ends the program in one line.

    Of several workers the folder is the chief's, and the others load the chief's checkpoint.

    Args:
        workdir: the folder, which is made.
        flags: of the run, by name.
        new_model: builds the compiled model of a run that has no checkpoint.
        placement: the devices.

    Yields:
        The model of the last good checkpoint, or a new one.

    Raises:
        BadInput: for what `new_model` does not take, a folder that is in use or cannot be written to, a disk that is
            full, and training that diverges.
    """
    built = None if workdir.has_checkpoint() or placement.workers > 1 else _new(new_model, placement)
    with workdir.claimed(flags) if placement.is_chief else contextlib.nullcontext():
        checkpoint = placement.agree_on_checkpoint(workdir.last_checkpoint() if placement.is_chief else None)
        with placement.scope():
            model = built or new_model() if checkpoint is None else workdir.load(checkpoint)
        with _exits_resumably(workdir, model, placement):
            yield model


def _new(new_model: Callable[[], StochasticTraining], placement: Placement) -> StochasticTraining:
    with placement.scope():
        return new_model()


@contextlib.contextmanager
def _exits_resumably(workdir: Workdir, model: keras.Model, placement: Placement) -> Iterator[None]:
    """In this block a signal ends the program after a checkpoint; a full disk and divergence are bad input.

    So is a worker that is gone.
    """
    saved = "the checkpoints before are as they were"
    try:
        yield
    except callbacks.Interrupted as stop:
        step = callbacks.global_step(model)
        where = f"at step {step}" if placement.workers == 1 else "with the checkpoint of the last report"
        sys.exit(signals.exit_status(stop.signum, where))
    except callbacks.Diverged as error:
        raise RateTooHigh(
            f"flag --learning_rate={float(model.optimizer.learning_rate):g}: {one_line(error)}, in another --workdir; "
            f"{workdir.last_saved()}"
        ) from error
    except _LOST as error:
        if placement.workers == 1:
            raise
        raise BadInput(
            f"flag --distribution=multi_worker: a worker is gone ({type(error).__name__}); {workdir.last_saved()}, and "
            "the same commands on all workers go on from it"
        ) from error
    except OSError as error:
        raise BadInput(
            f"flag --workdir={workdir.path}: {one_line(error)}; {saved}, and the same command goes on from the last one"
        ) from error
