"""Files that are replaced as a whole."""

from __future__ import annotations

import csv
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rebar_tf.callbacks import replacing


def write_csv(
    path: pathlib.Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]], comment: str | None = None
) -> None:
    """Writes or replaces a CSV file of these columns, with a first line after a `#` if there is a comment."""
    with replacing(path) as temporary, open(temporary, "w", newline="") as file:
        if comment is not None:
            file.write(f"# {comment}\n")
        writer = csv.DictWriter(file, columns, restval="", extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_json(path: pathlib.Path, content: dict[str, Any]) -> None:
    """Writes or replaces a JSON file."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")
