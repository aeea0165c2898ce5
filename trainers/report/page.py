"""The page that a report writes its tables and figures into, between markers."""

from __future__ import annotations

import os
import pathlib

from trainers.common.errors import BadInput, one_line
from trainers.common.markdown import between_markers, replace_between_markers

_PARTS = ("tables", "figures")


class Page:
    """A Markdown file with lines `<!-- begin tables -->`, `<!-- end tables -->`, and the same for figures.

    Args:
        path: of the file.

    Raises:
        BadInput: if it cannot be read or lacks a marker.
    """

    def __init__(self, path: pathlib.Path):
        self.path = path
        try:
            self._text = path.read_text()
        except (OSError, ValueError) as error:
            raise BadInput(f"flag --page={path}: {one_line(error)}; expected a Markdown file") from error
        for name in _PARTS:
            if between_markers(self._text, name) is None:
                raise BadInput(
                    f"flag --page={path}: expected a file with lines <!-- begin {name} --> and <!-- end {name} -->, "
                    "an empty line after the first and before the second"
                )

    def write(self, tables: dict[str, str], figures: dict[str, pathlib.Path], missing: list[str]) -> None:
        """Replaces what is between the markers.

        Args:
            tables: Markdown by the name of the file that it is from.
            figures: files by caption.
            missing: captions of those that were not run.
        """
        parts = [f"### {name}.csv\n\n{text}" for name, text in tables.items()]
        text = replace_between_markers(self._text, "tables", "\n\n".join(parts) or "Not run.")
        pictures = [f"{caption}:\n\n![{caption}]({self._link(path)})" for caption, path in figures.items()]
        pictures += [f"{caption}: not run." for caption in missing]
        self.path.write_text(replace_between_markers(text, "figures", "\n\n".join(pictures)))

    def _link(self, path: pathlib.Path) -> str:
        return pathlib.Path(os.path.relpath(path, self.path.parent)).as_posix()
