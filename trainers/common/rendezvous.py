"""The workers of one run find each other, before TensorFlow waits for them: it would for hours, and let no one else."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Mapping
from typing import Any

from trainers.common.errors import BadInput, one_line

_RETRY_S = 0.2
_PATIENCE_S, _LONGEST = 1.0, 100  # with who comes and says nothing, or too much


def meet(addresses: list[str], worker: int, flags: Mapping[str, Any], patience_s: float) -> None:
    """Returns when all workers have met each other, and have the same flags.

    Each listens where TensorFlow will, tells its flags to who comes, and goes to all others until it has theirs.

    Args:
        addresses: `host:port` of each worker.
        worker: the number of this one.
        flags: that all must have.
        patience_s: seconds to wait for the others.

    Raises:
        BadInput: if one does not come in that time, or has other flags, or the address cannot be listened at.
    """
    others = {i: address for i, address in enumerate(addresses) if i != worker}
    deadline = time.monotonic() + patience_s
    with _Server(addresses[worker], worker, flags) as server:
        found: dict[int, dict[str, Any]] = {}
        while len(found) < len(others) or not server.told.issuperset(others):
            for i in others.keys() - found.keys():
                theirs = _ask(others[i], worker)
                if theirs is not None:
                    found[i] = theirs
            if time.monotonic() > deadline:
                missing = others.keys() - (found.keys() & server.told)
                names = ", ".join(f"{i} at {others[i]}" for i in sorted(missing))
                raise BadInput(
                    f"flag --distribution=multi_worker: worker {names} did not come within {patience_s:g} s; expected "
                    "all workers of TF_CONFIG, see --worker_minutes"
                )
            time.sleep(_RETRY_S)
    for i, theirs in sorted(found.items()):
        _check_same(flags, theirs, i)


def _check_same(flags: Mapping[str, Any], theirs: Mapping[str, Any], worker: int) -> None:
    names = [name for name in sorted(flags.keys() | theirs.keys()) if flags.get(name) != theirs.get(name)]
    if names:
        mine, other = (" ".join(f"--{name}={of.get(name)}" for name in names) for of in (flags, theirs))
        raise BadInput(f"flag {mine}: worker {worker} has {other}; expected the same of all workers")


class _Server:
    """Tells who comes the flags of this worker.

    Attributes:
        told: the numbers of those who came.
    """

    def __init__(self, address: str, worker: int, flags: Mapping[str, Any]):
        self.told: set[int] = set()
        self._flags = json.dumps(dict(flags)).encode()
        try:
            self._socket = socket.create_server(("", int(address.rpartition(":")[2])))
        except (OSError, ValueError, OverflowError) as error:
            raise BadInput(
                f"flag --distribution=multi_worker: cannot listen at {address} ({one_line(error)}); expected in "
                f"TF_CONFIG a free port of this machine for worker {worker}"
            ) from error

    def __enter__(self) -> _Server:
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)  # ends the wait for the next who comes
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            connection.settimeout(_PATIENCE_S)
            try:
                with connection, connection.makefile("rwb") as stream:
                    other = int(stream.readline(_LONGEST))
                    stream.write(self._flags)
                self.told.add(other)
            except (OSError, ValueError):  # not a worker, or one that is gone again
                continue


def _ask(address: str, worker: int) -> dict[str, Any] | None:
    """The flags of the worker at an address; None if no one is there yet."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=5.0) as connection:
            connection.sendall(f"{worker}\n".encode())
            with connection.makefile("rb") as stream:
                return json.loads(stream.read())
    except (OSError, ValueError):
        return None
