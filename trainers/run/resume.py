"""A command that trains in a workdir: it does what is left to do, and prints the summary."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import keras

from rebar_tf import callbacks
from trainers.common import signals
from trainers.common.errors import BadInput, one_line
from trainers.run.workdir import Workdir


def run(flags: dict[str, Any], workdir: Workdir, train: Callable[[], dict[str, Any]]) -> None:
    """Prints the summary of the run in `workdir`, which `train` makes unless it is finished.

    Args:
        flags: of the run, by name.
        workdir: its folder.
        train: trains what is left to train, and returns the summary.

    Raises:
        BadInput: if the folder holds another run.
    """
    workdir.check(flags)
    summary = workdir.finished(flags["num_steps"])
    if summary is None:
        summary = train()
        workdir.write_summary(summary)
    print(json.dumps(summary), flush=True)


@contextlib.contextmanager
def exits_resumably(workdir: Workdir, model: keras.Model) -> Iterator[None]:
    """In this block a signal ends the program after a checkpoint, and a full disk is bad input; both in one line."""
    try:
        yield
    except callbacks.Interrupted as stop:
        sys.exit(signals.exit_status(stop.signum, f"at step {callbacks.global_step(model)}"))
    except OSError as error:
        raise BadInput(
            f"flag --workdir={workdir.path}: {one_line(error)}; the checkpoint before is whole, and the same "
            "command goes on from it"
        ) from error
