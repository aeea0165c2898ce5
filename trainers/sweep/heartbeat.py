"""How cells on other machines learn that their sweep has ended: by a file in the folder that all share."""

from __future__ import annotations

import contextlib
import os
import pathlib
import socket
import subprocess
import threading
import time
from collections.abc import Iterator

from trainers.common.errors import BadInput, one_line

_BEAT_S = 2.0
_SILENCE_S = 60.0  # after which a sweep that did not say so has ended; clocks of several machines are not compared


@contextlib.contextmanager
def beating(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """In this block the file, whose path it yields, is there and changes; after it the file is gone.

    Raises:
        BadInput: if it cannot be written.
    """
    path = folder / f".sweep-{socket.gethostname()}-{os.getpid()}"
    ended = threading.Event()

    def beat() -> None:
        count = 0
        while not ended.wait(_BEAT_S):
            count += 1
            with contextlib.suppress(OSError):  # a full disk ends no sweep
                path.write_text(str(count))

    try:
        path.write_text("0")
    except OSError as error:
        raise BadInput(f"flag --workdir={folder}: {one_line(error)}; expected one that can be written to") from error
    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield path
    finally:
        ended.set()
        thread.join()
        path.unlink(missing_ok=True)


class Follower:
    """Ends a cell's process, which then saves a checkpoint, when the sweep's file is gone or has stopped to change.

    Args:
        path: of the sweep's file.

    Attributes:
        has_stopped: whether it ended the process.
    """

    def __init__(self, path: pathlib.Path):
        self.path, self.has_stopped = path, False

    @contextlib.contextmanager
    def watch(self, process: subprocess.Popen) -> Iterator[None]:
        """In this block the process is ended with the sweep."""
        done = threading.Event()
        thread = threading.Thread(target=self._follow, args=(process, done), daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _follow(self, process: subprocess.Popen, done: threading.Event) -> None:
        last, since = None, time.monotonic()
        while not done.wait(_BEAT_S):
            beat = self._read()
            if beat is not None and beat != last:
                last, since = beat, time.monotonic()
            if beat is None or time.monotonic() - since > _SILENCE_S:
                self.has_stopped = True
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()
                return

    def _read(self) -> str | None:
        try:
            return self.path.read_text()
        except FileNotFoundError:
            return None
        except OSError:  # of a network, for a while
            return ""
