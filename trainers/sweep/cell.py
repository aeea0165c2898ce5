"""Runs `trainers.train` as a cell of a sweep: it stops with a checkpoint when the process that started it ends."""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading


def stop_at_end_of_input() -> None:
    """Sends this process SIGTERM when its standard input ends: no one else has the other end of that pipe."""
    while os.read(sys.stdin.fileno(), 1):  # not `sys.stdin`, whose lock Python cannot take from a thread when it ends
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=stop_at_end_of_input, daemon=True).start()
    runpy.run_module("trainers.train", run_name="__main__", alter_sys=True)
