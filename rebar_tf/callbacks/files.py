"""Files that are written whole or not at all, and what becomes of damaged ones."""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Iterator


@contextlib.contextmanager
def replacing(path: pathlib.Path, keep: pathlib.Path | None = None) -> Iterator[pathlib.Path]:
    """Gives a temporary path to write to; the file replaces `path` unless the block raises an error.

    File and folder are synced, so that after a loss of power there is the old file or the new one.

    Args:
        path: of the file.
        keep: where the file that is replaced goes; None drops it.
    """
    # Always the same name, so that a killed process's file is overwritten; the same ending, because Keras wants it.
    temporary = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        yield temporary
        _sync(temporary)
        if keep is not None and path.exists():
            os.replace(path, keep)
        os.replace(temporary, path)
        if os.name == "posix":  # elsewhere a folder cannot be opened
            _sync(path.parent)
    finally:
        with contextlib.suppress(OSError):  # the folder may be gone; the error that led here says so
            temporary.unlink()


def _sync(path: pathlib.Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def set_aside(path: pathlib.Path) -> pathlib.Path:
    """Renames a damaged file, to `NAME.damaged.SUFFIX` or, where that is taken, with a number; its new path."""
    names = (f"{path.stem}.damaged{number}{path.suffix}" for number in ("", *map(str, range(2, 1000))))
    aside = next(path.with_name(name) for name in names if not path.with_name(name).exists())
    return path.rename(aside)
