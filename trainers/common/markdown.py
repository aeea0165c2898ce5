"""Markdown that commands write: tables, and what stands between markers in a page."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells.

    Example:
    >>> from trainers.common.markdown import table
    >>> print(table(["name", "value"], [["a", "1"]]))
    | name | value |
    | --- | --- |
    | a | 1 |
    """
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (columns, ["---"] * len(columns), *rows))


def between_markers(page: str, name: str) -> str | None:
    """What a page has between the lines `<!-- begin NAME -->` and `<!-- end NAME -->`; None without them.

    The first may say more after the name. An empty line follows it, and another one stands before the second.
    """
    found = _section(name).search(page)
    return found and found[2]


def replace_between_markers(page: str, name: str, text: str) -> str:
    """The page with another text there."""
    return _section(name).sub(lambda found: f"{found[1]}{text}{found[3]}", page)


def _section(name: str) -> re.Pattern:
    return re.compile(rf"(<!-- begin {name}[^>]*-->\n\n)(.*?)(\n\n<!-- end {name} -->)", re.DOTALL)
