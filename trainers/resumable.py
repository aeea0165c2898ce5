"""A command that trains in a workdir: it does what is left to do, and prints the summary."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from trainers import interruption, quiet
from trainers.errors import BadInput, one_line
from trainers.workdir import Workdir

if TYPE_CHECKING:
    import keras

Settings = dict[str, Any]


def run(settings: Settings, workdir: Workdir, train: Callable[[Settings, Workdir], dict[str, Any]]) -> None:
    """Prints the summary of the run in `workdir`, which `train` makes unless it is finished.

    Args:
        settings: the flags; those of the run become these.
        workdir: its folder.
        train: from settings and workdir to the summary.

    Raises:
        BadInput: if the folder holds another run.
    """
    settings["workdir"] = str(workdir.path)
    workdir.check(settings)
    summary = workdir.finished(settings["num_steps"])
    if summary is None:
        with interruption.exits_on_signals():
            quiet.quiet_logs()
            quiet.import_tensorflow()
            summary = train(settings, workdir)
            workdir.write_summary(summary)
    print(json.dumps(summary), flush=True)


@contextlib.contextmanager
def says_how_to_go_on(workdir: Workdir, model: keras.Model) -> Iterator[None]:
    """In this block a signal ends the program after a checkpoint, and a full disk is bad input; both in one line."""
    from rebar_tf import callbacks

    try:
        yield
    except callbacks.Interrupted as stop:
        sys.exit(interruption.exit_status(stop.signum, f"at step {callbacks.global_step(model)}"))
    except OSError as error:
        raise BadInput(
            f"flag --workdir={workdir.path}: {one_line(error)}; the checkpoint before is whole, and the same "
            "command goes on from it"
        ) from error
