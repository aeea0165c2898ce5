"""The whole model in a file, from which training goes on."""

from __future__ import annotations

import io
import os
import pathlib
import time
import zipfile
from collections.abc import Callable, Iterable

import keras

from rebar_tf.callbacks.divergence import check_finite
from rebar_tf.callbacks.files import replacing, set_aside
from rebar_tf.callbacks.reports import Logs

_MEMBERS = {"config.json", "metadata.json", "model.weights.h5"}  # of every file that Keras saves
_BESIDE = "beside/"


class Checkpoint(keras.callbacks.Callback):
    """Saves the whole model every minute and at the end, so that there are always complete files.

    `keras.models.load_model(last_good(path))` restores weights, estimator, optimizer, step counters and the averages of
    the current report. Training resumes from there bit-exactly if it gets the batches that follow.

    A file is written under another name, synced and renamed; the one before stays as `NAME.previous.keras`. A model
    that is not finite is not saved: `Diverged` is raised, and both files stay.

    Args:
        path: of the file, ending in `.keras`; its folder is made where there is none.
        minutes: between two checkpoints, > 0.
        beside: small files that the checkpoint holds a copy of, where they exist; `copy_beside` reads it.

    Example:
    >>> import rebar_tf as rt
    >>> callback = rt.callbacks.Checkpoint("runs/rebar/checkpoint.keras", minutes=5)
    """

    def __init__(self, path: str | os.PathLike, minutes: float = 1.0, beside: Iterable[pathlib.Path] = ()):
        super().__init__()
        self.path, self.minutes, self.beside = pathlib.Path(path), minutes, tuple(beside)
        self._time = time.monotonic()

    def on_train_begin(self, logs: Logs = None) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._time = time.monotonic()

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        # Between two programs, after all reports so far. At a batch's end the report of an epoch that ends there
        # is not written yet.
        if self.is_due():
            self.save()

    def on_train_end(self, logs: Logs = None) -> None:
        self.save()

    def is_due(self) -> bool:
        """Whether so many minutes have gone by since the last checkpoint."""
        return time.monotonic() - self._time >= 60.0 * self.minutes

    def save(self) -> None:
        """Replaces the checkpoint with the current model; if that fails, the old checkpoints stay."""
        check_finite(self.model)
        with replacing(self.path, keep=previous(self.path)) as temporary:
            self.model.save(temporary)
            with zipfile.ZipFile(temporary, "a") as archive:
                for file in self.beside:
                    if file.exists():
                        archive.write(file, _BESIDE + file.name)
        self._time = time.monotonic()


def previous(path: pathlib.Path) -> pathlib.Path:
    """Where `Checkpoint` keeps the file before the newest one."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def last_good(path: str | os.PathLike, say: Callable[[str], None] = print, move: bool = False) -> pathlib.Path | None:
    """The newest checkpoint that is whole: the sums (CRC-32) in the file agree with all that it holds.

    Args:
        path: of the file, as `Checkpoint` takes it.
        say: called with one line for each damaged file that is passed over.
        move: whether such a file is renamed, so that it is in no one's way.

    Returns:
        `path`, or that of the one before; None if neither exists.

    Raises:
        ValueError: if there are files, and none is whole. Nothing is renamed then.

    Example:
    >>> import rebar_tf as rt
    >>> rt.callbacks.last_good("nowhere/checkpoint.keras") is None
    True
    """
    path = pathlib.Path(path)
    files = [file for file in (path, previous(path)) if file.exists()]
    reasons: dict[pathlib.Path, str] = {}
    for file in files:
        reason = damage(file)
        if reason is None:
            break
        reasons[file] = reason
    else:
        if files:
            raise ValueError("; ".join(f"{file.name} is damaged ({reason})" for file, reason in reasons.items()))
        return None
    for bad, reason in reasons.items():
        kept = f", and kept as {set_aside(bad).name}" if move else ""
        say(f"{bad} is damaged ({reason}){kept}; the one before, {file.name}, is used")
    return file


def damage(path: pathlib.Path) -> str | None:
    """What is wrong with a checkpoint, or None."""
    content = io.BytesIO(path.read_bytes())  # errors of the disk are raised: they are no damage
    try:
        with zipfile.ZipFile(content) as archive:
            wrong, missing = archive.testzip(), _MEMBERS - set(archive.namelist())
    except Exception as error:  # a damaged archive fails in more ways than zipfile documents
        return " ".join(str(error).split()) or type(error).__name__
    if wrong is not None:
        return f"the sum of {wrong} is another"
    return f"{', '.join(sorted(missing))} is missing" if missing else None


def copy_beside(checkpoint: pathlib.Path, name: str) -> bytes | None:
    """The content of a small file as a checkpoint holds it; None if it holds none of this name."""
    with zipfile.ZipFile(checkpoint) as archive:
        return archive.read(_BESIDE + name) if _BESIDE + name in archive.namelist() else None
