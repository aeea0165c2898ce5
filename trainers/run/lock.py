"""One process at a time in a folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import socket
from collections.abc import Iterator

from trainers.common.errors import InUse

_NAME = ".lock"


@contextlib.contextmanager
def locked(folder: pathlib.Path) -> Iterator[None]:
    """In this block no other process is in such a block for this folder.

    The file stays, the lock does not: the system frees it when the process ends, however it ends.

    Args:
        folder: an existing one.

    Raises:
        InUse: if another process has the lock; names it.
    """
    descriptor = os.open(folder / _NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(descriptor, 1000).decode(errors="replace").strip() or "another process"
            raise InUse(
                f"flag --workdir={folder}: in use by {holder}; expected a folder of its own for each process, or wait "
                "for that one to end"
            ) from error
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        yield
    finally:
        os.close(descriptor)
