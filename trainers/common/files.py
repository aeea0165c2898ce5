"""Files that are replaced as a whole."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives a temporary path to write, which takes the place of `path` unless the block raises an error."""
    temporary = path.with_name(f".{path.name}.partial")  # one name, so that what a killed process left is overwritten
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: pathlib.Path, content: dict[str, Any]) -> None:
    """Writes or replaces a JSON file."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")
