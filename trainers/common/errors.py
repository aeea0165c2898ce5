"""Bad input of the user: how it is raised, and how a command reports it."""

from __future__ import annotations

import errno
import functools
import os
import sys
from collections.abc import Callable, Sequence

DIVERGED_STATUS = 3
IN_USE_STATUS = 4
INTERRUPTED_STATUS = 130


class BadInput(Exception):
    """Bad input of the user: shown as one line, without a traceback.

    The message names the flag, its value, and what is expected.

    Attributes:
        status: with which the command ends.
    """

    status = 2


class RateTooHigh(BadInput):
    """A training run that diverged."""

    status = DIVERGED_STATUS


class InUse(BadInput):
    """A folder in which another process works."""

    status = IN_USE_STATUS


def one_line(error: Exception) -> str:
    """The message of an error on a single line."""
    return " ".join(str(error).split())


_YELLOW, _RED = "33", "31"
# What a disk or a folder may say that is no fault of the program.
_OF_A_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EEXIST, errno.ENOTDIR, errno.EISDIR)


def warn(line: str) -> None:
    """Prints a line on stderr."""
    _print(line, _YELLOW)


def print_error(command: str, error: Exception) -> None:
    """Prints an error of a command as one line on stderr."""
    _print(f"{command}.py: error: {one_line(error)}", _RED)


def _print(line: str, colour: str) -> None:
    """On stderr; in colour on a terminal that has colours and a user who wants them (https://no-color.org)."""
    has_colours = sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("NO_COLOR")
    print(f"\033[{colour}m{line}\033[0m" if has_colours else line, file=sys.stderr, flush=True)


Main = Callable[[Sequence[str]], int]


def reports_bad_input(command: str) -> Callable[[Main], Callable[..., int]]:
    """A decorator for the main function of a command: bad input and Ctrl-C become one line on stderr and a status.

    So does an error of a file, as of a disk that is full.
    The function then takes the process's arguments where it is given none, as an entry point is called.
    """

    def decorate(main: Main) -> Callable[..., int]:
        @functools.wraps(main)
        def guarded(argv: Sequence[str] | None = None) -> int:
            try:
                return main(sys.argv if argv is None else argv)
            except BadInput as error:
                print_error(command, error)
                return error.status
            except OSError as error:
                if error.errno not in _OF_A_DISK:
                    raise
                print_error(command, error)
                return BadInput.status
            except KeyboardInterrupt:
                print("stopped by SIGINT; the same command starts anew", file=sys.stderr, flush=True)
                return INTERRUPTED_STATUS

        return guarded

    return decorate
