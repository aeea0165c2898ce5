"""A command that trains in a workdir: it does what is left to do, and prints the summary."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import keras

from rebar_tf import callbacks
from rebar_tf.training import StochasticTraining
from trainers.common import signals
from trainers.common.errors import BadInput, RateTooHigh, one_line
from trainers.run.workdir import Workdir


def run(flags: dict[str, Any], workdir: Workdir, train: Callable[[], dict[str, Any]]) -> None:
    """Prints the summary of the run in `workdir`, which `train` makes unless it is finished.

    Args:
        flags: of the run, by name.
        workdir: its folder.
        train: trains what is left to train, writes the summary and returns it.

    Raises:
        BadInput: if the folder holds another run.
    """
    workdir.check(flags)
    summary = workdir.finished(flags["num_steps"])
    if summary is None:
        summary = train()
    print(json.dumps(summary), flush=True)


@contextlib.contextmanager
def training(
    workdir: Workdir, flags: dict[str, Any], new_model: Callable[[], StochasticTraining]
) -> Iterator[StochasticTraining]:
    """In this block the folder is this process's own, and what stops training ends the program in one line.

    Args:
        workdir: the folder, which is made.
        flags: of the run, by name.
        new_model: builds the compiled model of a run that has no checkpoint.

    Yields:
        The model of the last good checkpoint, or a new one.

    Raises:
        BadInput: for what `new_model` does not take, a folder that is in use or cannot be written to, a disk that is
            full, and training that diverges.
    """
    model = None if workdir.has_checkpoint() else new_model()
    with workdir.claimed(flags):
        model = workdir.last_model() or model or new_model()
        with _exits_resumably(workdir, model):
            yield model


@contextlib.contextmanager
def _exits_resumably(workdir: Workdir, model: keras.Model) -> Iterator[None]:
    """In this block a signal ends the program after a checkpoint; a full disk and divergence are bad input."""
    saved = "the checkpoints before are as they were"
    try:
        yield
    except callbacks.Interrupted as stop:
        sys.exit(signals.exit_status(stop.signum, f"at step {callbacks.global_step(model)}"))
    except callbacks.Diverged as error:
        raise RateTooHigh(
            f"flag --learning_rate={float(model.optimizer.learning_rate):g}: {one_line(error)}, in another --workdir; "
            f"{workdir.last_saved()}"
        ) from error
    except OSError as error:
        raise BadInput(
            f"flag --workdir={workdir.path}: {one_line(error)}; {saved}, and the same command goes on from the last one"
        ) from error
