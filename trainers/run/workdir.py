"""The folder of a run: flags.json, checkpoint.keras and the one before, curve.csv, tensorboard/, summary.json."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import keras

from rebar_tf import callbacks
from rebar_tf.training import StochasticTraining
from trainers.common.errors import BadInput, one_line, warn
from trainers.common.experiment import FREE_FLAGS
from trainers.common.files import write_json
from trainers.run.lock import locked

_OTHER = "expected the folder of a run, or give another folder"
_MAY_CHANGE = (*FREE_FLAGS, "num_steps")


class Workdir:
    """Paths and small files of one run. Nothing is written before `claimed`.

    Args:
        path: the folder; need not exist.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = pathlib.Path(path)
        self.flags = self.path / "flags.json"
        self.checkpoint = self.path / "checkpoint.keras"
        self.curve = self.path / "curve.csv"
        self.tensorboard = self.path / "tensorboard"
        self.summary = self.path / "summary.json"
        self._said: set[str] = set()

    @classmethod
    def of(cls, flags: dict[str, Any], kind: str) -> Workdir:
        """The folder that `--workdir` names, or one below runs/ that is named after the kind of run and its flags.

        Flags that are not given have no part in the name, so that a new option of an estimator renames no folder.
        """
        if flags["workdir"] is not None:
            return cls(flags["workdir"])
        fixed = {name: value for name, value in flags.items() if name not in _MAY_CHANGE and value is not None}
        digest = hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()[:6]
        return cls(pathlib.Path("runs", f"{flags['dataset']}-{kind}-{digest}"))

    def check(self, flags: dict[str, Any]) -> None:
        """Raises `BadInput` unless a run with these flags can be started or continued here."""
        self._check_writable()
        if not self.flags.exists() and not self.has_checkpoint():
            return
        stored = self.stored_flags()
        if self.summary.exists() and not self.has_checkpoint():
            raise BadInput(f"flag --workdir={self.path}: holds a finished run without its checkpoint; {_OTHER}")
        self.check_continues(stored, flags)

    def check_continues(self, stored: dict[str, Any], flags: dict[str, Any]) -> None:
        """Raises `BadInput` unless a run with these flags continues the one whose flags are stored."""
        others = [
            f"--{name} was {_text(stored.get(name))} and is now {_text(flags.get(name))}"
            for name in sorted(stored.keys() | flags.keys())
            if name not in _MAY_CHANGE and stored.get(name) != flags.get(name)
        ]
        if others:
            raise BadInput(
                f"flag --workdir={self.path}: holds a run with other flags: {'; '.join(others)}; expected "
                "another folder, or the flags of that run"
            )
        if flags["num_steps"] < stored["num_steps"]:
            raise BadInput(
                f"flag --num_steps={flags['num_steps']}: expected for --workdir={self.path} "
                f"{stored['num_steps']} or more, as its run was started for that many"
            )

    def _check_writable(self) -> None:
        if self.path == pathlib.Path():
            raise BadInput("flag --workdir=: expected a folder of its own for the run")
        existing = next(path for path in (self.path, *self.path.absolute().parents) if path.exists())
        if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
            reason = "cannot be written to" if existing.is_dir() else "is not a folder"
            raise BadInput(f"flag --workdir={self.path}: {existing} {reason}; expected one that can be written to")

    def stored_flags(self) -> dict[str, Any]:
        """The flags of the run: those of flags.json or, if that is damaged, of the checkpoint.

        Raises:
            BadInput: if neither can be read.
        """
        try:
            return _flags(self.flags.read_bytes())
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = one_line(error)
        try:
            checkpoint = callbacks.last_good(self.checkpoint, self._warn)
        except (OSError, ValueError) as error:
            checkpoint, reason = None, f"{reason}; {one_line(error)}"
        kept = None if checkpoint is None else callbacks.copy_beside(checkpoint, self.flags.name)
        if checkpoint is None or kept is None:
            raise BadInput(f"flag --workdir={self.path}: cannot read flags.json ({reason}); {_OTHER}")
        self._warn(f"{self.flags} cannot be read ({reason}); the flags in {checkpoint.name} are used")
        return _flags(kept)

    def claim(self, flags: dict[str, Any]) -> None:
        """Makes the folder and writes flags.json.

        Raises:
            BadInput: if that fails.
        """
        with self._writable():
            self.path.mkdir(parents=True, exist_ok=True)
            write_json(self.flags, flags)

    @contextlib.contextmanager
    def claimed(self, flags: dict[str, Any]) -> Iterator[None]:
        """Makes the folder and writes flags.json; in this block no other process works here.

        Raises:
            BadInput: if the folder is in use, cannot be written to, or holds another run by now.
        """
        with self._writable():
            self.path.mkdir(parents=True, exist_ok=True)
            with locked(self.path):
                self.check(flags)
                write_json(self.flags, flags)
                yield

    @contextlib.contextmanager
    def _writable(self) -> Iterator[None]:
        """In this block an error of the disk is bad input."""
        try:
            yield
        except OSError as error:
            raise BadInput(
                f"flag --workdir={self.path}: {one_line(error)}; expected a folder that can be written to"
            ) from error

    def finished(self, num_steps: int) -> dict[str, Any] | None:
        """The summary of a run that has done its `num_steps`, or None. A damaged one is as none, and named."""
        try:
            summary = json.loads(self.summary.read_bytes())
            return summary if summary["steps"] == num_steps else None
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            self._warn(f"{self.summary} cannot be read ({one_line(error)}); the command of the run makes it anew")
            return None

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Writes summary.json."""
        write_json(self.summary, summary)

    def has_checkpoint(self) -> bool:
        """Whether there is a checkpoint, whole or not."""
        return any(path.exists() for path in (self.checkpoint, callbacks.previous(self.checkpoint)))

    def last_saved(self) -> str:
        """What is saved, in words."""
        return f"the last good checkpoint is {self.last_good()}" if self.has_checkpoint() else "no checkpoint was saved"

    def last_good(self, move: bool = False) -> pathlib.Path | None:
        """The path of the newest checkpoint that is whole, None if there is none; see `rebar_tf.callbacks.last_good`.

        Raises:
            BadInput: if all are damaged.
        """
        try:
            return callbacks.last_good(self.checkpoint, self._warn, move)
        except (OSError, ValueError) as error:
            raise BadInput(f"flag --workdir={self.path}: {one_line(error)}; {_OTHER}") from error

    def last_checkpoint(self) -> pathlib.Path | None:
        """The last good checkpoint, None if there is none; damaged ones are set aside."""
        checkpoint = self.last_good(move=True)
        if checkpoint is None and self.curve.exists():
            self._warn(f"{self.path}: no checkpoint was saved before; all steps of {self.curve.name} are done again")
        return checkpoint

    def load(self, checkpoint: pathlib.Path) -> StochasticTraining:
        """The compiled model of a checkpoint.

        Raises:
            BadInput: if it cannot be read.
        """
        try:
            return keras.models.load_model(checkpoint)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadInput(
                f"flag --workdir={self.path}: cannot load {checkpoint.name} ({one_line(error)}); {_OTHER}"
            ) from error

    def load_model(self) -> StochasticTraining:
        """The compiled model of the last good checkpoint, with all state that training continues from.

        Raises:
            BadInput: if there is none.
        """
        checkpoint = self.last_good()
        if checkpoint is None:
            raise BadInput(f"flag --workdir={self.path}: has no checkpoint.keras; expected the folder of a run")
        return self.load(checkpoint)

    def check_is_of_train(self, flag: str = "workdir") -> None:
        """Raises `BadInput`, which names the flag, unless this is the folder of a run of `trainers.train`."""
        if "estimator" not in self.stored_flags():
            raise BadInput(f"flag --{flag}={self.path}: holds no run of trainers.train; expected the folder of one")

    def _warn(self, line: str) -> None:
        """Says each line once."""
        if line not in self._said:
            self._said.add(line)
            warn(line)


def _flags(content: bytes) -> dict[str, Any]:
    """The flags in a file's content."""
    flags = json.loads(content)
    flags["num_steps"] >= 0  # noqa: B015  the one flag that is read without a default
    return flags


def load_model(workdir: str | os.PathLike) -> StochasticTraining:
    """The trained model of a run, from its folder alone.

    Args:
        workdir: the `--workdir` of a run of `trainers.train`.

    Returns:
        The compiled Keras model, ready for `bound`, `predict` and `fit`.

    Raises:
        BadInput: if there is no checkpoint, it is damaged, or the run is another program's.

    Example:
        model = trainers.run.workdir.load_model("runs/rebar")
        model.bound(rebar_tf.datasets.load("mnist_5k").test).mean()
    """
    run = Workdir(workdir)
    model = run.load_model()
    run.check_is_of_train()
    return model


def _text(value: Any) -> str:
    return "unset" if value is None else json.dumps(value).strip('"')
