"""Finding the raw files of a dataset, and telling which version they are."""

from __future__ import annotations

import hashlib
import os
import pathlib
from collections.abc import Sequence

PROBE_SECONDS = 10


def find_folder(data_dir: str | os.PathLike | None, subfolder: str, files: Sequence[str]) -> pathlib.Path | None:
    """Find the folder that holds all of `files`.

    Args:
        data_dir: The folder to look in, first in its `subfolder`; None means that there are no files.
        subfolder: The folder of the dataset.
        files: The names of its files.

    Returns:
        The folder; None if none of the files is there.

    Raises:
        ValueError: If some of the files are there without the others.

    Example:
        >>> find_folder(None, "mnist", ["images"]) is None
        True
    """
    if data_dir is None:
        return None
    for folder in (pathlib.Path(data_dir) / subfolder, pathlib.Path(data_dir)):
        missing = [file for file in files if not (folder / file).is_file()]
        if not missing:
            return folder
        if len(missing) < len(files):
            raise ValueError(
                f"data_dir must hold {' and '.join(files)}, all of them. "
                f"Received: data_dir={str(data_dir)!r}, where {folder} lacks {' and '.join(missing)}"
            )
    return None


def checksum(*paths: pathlib.Path) -> str:
    """The MD5 of the files' bytes, one file after the other, in hexadecimal, to tell versions of the files apart."""
    digest = hashlib.md5(usedforsecurity=False)
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def check_sum(path: pathlib.Path, what: str, found: str, published: str) -> None:
    """Raise an error if a file is not the published one.

    Args:
        path: The file.
        what: Which sum of what of it.
        found: The sum, in hexadecimal.
        published: What it should be.

    Raises:
        ValueError: If they differ.

    Example:
        >>> check_sum(pathlib.Path("a.mat"), "MD5", "21ec", "21ec")
    """
    if found != published:
        raise ValueError(
            f"{path} does not hold the published data: its {what} is {found}, not {published}. To take it all the "
            "same: --noverify_data, verify=False of rebar_tf.datasets.load"
        )


def probe(url: str) -> None:
    """Raise an error at once if `url` cannot be reached; tensorflow-datasets itself would retry for minutes."""
    import requests

    requests.head(url, timeout=PROBE_SECONDS, allow_redirects=True).raise_for_status()
