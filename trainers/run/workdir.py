"""The folder of a run: flags.json, checkpoint.keras, curve.csv, tensorboard/, summary.json."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import zipfile
from typing import Any

import keras

from rebar_tf.training import StochasticTraining
from trainers.common.errors import BadInput, one_line
from trainers.common.experiment import FREE_FLAGS
from trainers.common.files import write_json

_MAY_CHANGE = (*FREE_FLAGS, "num_steps")


class Workdir:
    """Paths and small files of one run. Nothing is written before `claim`.

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
        if not self.flags.exists():
            if self.checkpoint.exists():
                raise BadInput(
                    f"flag --workdir={self.path}: has checkpoint.keras but no flags.json; give another folder"
                )
            return
        stored = self._stored_flags()
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

    def _stored_flags(self) -> dict[str, Any]:
        try:
            stored = json.loads(self.flags.read_text())
            stored["num_steps"] >= 0  # noqa: B015  the one flag that is read without a default
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadInput(
                f"flag --workdir={self.path}: cannot read flags.json ({one_line(error)}); give another folder"
            ) from error
        return stored

    def claim(self, flags: dict[str, Any]) -> None:
        """Makes the folder and writes flags.json."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            write_json(self.flags, flags)
        except OSError as error:
            raise BadInput(
                f"flag --workdir={self.path}: {one_line(error)}; expected a folder that can be written to"
            ) from error

    def finished(self, num_steps: int) -> dict[str, Any] | None:
        """The summary of a run that has done its `num_steps`, or None."""
        try:
            summary = json.loads(self.summary.read_text())
        except (OSError, ValueError):
            return None
        return summary if summary.get("steps") == num_steps else None

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Writes summary.json."""
        write_json(self.summary, summary)

    def load_model(self) -> StochasticTraining:
        """The compiled model of the checkpoint, with all state that training continues from.

        Raises:
            BadInput: if the checkpoint is missing or damaged.
        """
        try:
            return keras.models.load_model(self.checkpoint)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise BadInput(
                f"flag --workdir={self.path}: cannot load checkpoint.keras ({one_line(error)}); expected "
                "the folder of a run"
            ) from error


def load_model(workdir: str | os.PathLike) -> StochasticTraining:
    """The trained model of a run, from its folder alone.

    Args:
        workdir: the `--workdir` of a run of `trainers.train`.

    Returns:
        The compiled Keras model, ready for `bound`, `predict` and `fit`.

    Raises:
        BadInput: if there is no checkpoint, or it is damaged.

    Example:
        model = trainers.run.workdir.load_model("runs/rebar")
        model.bound(rebar_tf.datasets.load("mnist_5k").test).mean()
    """
    return Workdir(workdir).load_model()


def _text(value: Any) -> str:
    return "unset" if value is None else json.dumps(value).strip('"')
