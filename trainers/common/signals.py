"""How a command ends when SIGINT or SIGTERM tells it to."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import types
from collections.abc import Iterator

SIGNALS = (signal.SIGINT, signal.SIGTERM)


_OUTSIDE = "outside of training: what is saved is the last checkpoint, if there is one"


def exit_status(signum: int, at: str) -> int:
    """Prints on stderr how to continue; returns the status that a shell shows for a program ended by the signal."""
    print(f"stopped by {signal.Signals(signum).name} {at}; the same command goes on from there", file=sys.stderr)
    sys.stderr.flush()
    return 128 + signum


def exit_at_once() -> None:
    """From here on SIGINT and SIGTERM end the program with one line, and nothing else is run."""

    def leave(signum: int, frame: types.FrameType | None) -> None:
        os._exit(exit_status(signum, _OUTSIDE))

    for signum in SIGNALS:
        signal.signal(signum, leave)


@contextlib.contextmanager
def exits_on_signals(at: str = _OUTSIDE) -> Iterator[None]:
    """In this block SIGINT and SIGTERM end the program with one line, which says `at`, in place of a traceback.

    The first one leaves open blocks as an error would; a second one ends the program at once.
    """
    received = []

    def leave(signum: int, frame: types.FrameType | None) -> None:
        received.append(signum)
        if len(received) > 1:
            os._exit(128 + signum)
        sys.exit(exit_status(signum, at))

    old = {signum: signal.signal(signum, leave) for signum in SIGNALS}
    try:
        yield
    finally:
        for signum, handler in old.items():
            signal.signal(signum, handler)
