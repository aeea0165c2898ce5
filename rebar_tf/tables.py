"""Tables for notebooks and data frames."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def html_table(columns: Sequence[str], rows: Iterable[Mapping[str, Any]], caption: str = "") -> str:
    """Rows of values by column as HTML; numbers have four digits."""
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(_cell(row[column]) for column in columns)}</tr>" for row in rows)
    return f"<table><caption>{html.escape(caption)}</caption><tr>{head}</tr>{body}</table>"


def data_frame(rows: Sequence[Mapping[str, Any]], index: str) -> pd.DataFrame:
    """Rows of values by column as a data frame; ImportError where pandas is not installed."""
    import pandas as pd  # no dependency: who asks for a data frame has it

    return pd.DataFrame(rows).set_index(index)


def _cell(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return f"<td>{html.escape(text)}</td>"
