"""Which code it is that runs."""

from __future__ import annotations

import pathlib
import subprocess

_CHECKOUT = pathlib.Path(__file__).parents[2]


def commit() -> str:
    """The commit of the checkout that the code is in, with `-dirty` if files differ; empty for an installed package."""
    if not (_CHECKOUT / ".git").exists():  # git would take that of a folder further up
        return ""
    command = ["git", "-C", str(_CHECKOUT), "describe", "--always", "--dirty", "--exclude=*", "--abbrev=12"]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
