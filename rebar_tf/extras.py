"""Packages that only an extra of the installation brings."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def needs_extra(extra: str, what: str) -> Iterator[None]:
    """In this block a package that is not installed is an error that says how to install it.

    Args:
        extra: which brings the package.
        what: needs it.

    Raises:
        ImportError: where a package is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        raise ImportError(f"{what} needs the package {missing}: pip install 'rebar_tf[{extra}]'") from error
