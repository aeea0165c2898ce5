"""Runs estimators on the toy problem, one after the other."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

from rebar_tf import estimators
from trainers.common.errors import BadInput
from trainers.common.methods import estimates_the_expectation
from trainers.run.workdir import Workdir
from trainers.toy import problem, report


def run(given: dict[str, Any]) -> None:
    """Compares the estimators of the flags, and prints the summary.

    Raises:
        BadInput: for estimators or a folder that cannot be used.
    """
    flags = completed(given)
    workdir = _claimed(flags)
    summary = _compare(flags, workdir.path)
    workdir.write_summary(summary)
    print(json.dumps(summary), flush=True)


def completed(given: dict[str, Any]) -> dict[str, Any]:
    """The flags with the estimators and the folder that stand for those that were not given."""
    workdir = given["workdir"]
    if workdir is None:
        workdir = os.path.join("runs", f"toy-{given['target']:g}")
    return {**given, "workdir": workdir, "estimators": _estimators(given["estimators"])}


def _estimators(given: Sequence[str] | None) -> list[str]:
    """The estimators to run, each once."""
    names = estimators.names("bernoulli")
    if given is None:
        return [name for name in names if estimates_the_expectation(name)]
    for name in given:
        if name not in names:
            raise BadInput(f"flag --estimators={','.join(given)}: {name!r} is none; expected {', '.join(names)}")
    if not given:
        raise BadInput(f"flag --estimators=: expected one or more of {', '.join(names)}")
    return list(dict.fromkeys(given))


def _claimed(flags: dict[str, Any]) -> Workdir:
    """The folder of the flags, made and found to take files."""
    workdir = Workdir(flags["workdir"])
    if workdir.path == pathlib.Path():
        raise BadInput("flag --workdir=: expected a folder of its own for the run")
    if workdir.checkpoint.exists():
        raise BadInput(f"flag --workdir={workdir.path}: holds a run of trainers.train; expected another folder")
    workdir.claim(flags)
    return workdir


def _compare(flags: dict[str, Any], folder: pathlib.Path) -> dict[str, Any]:
    """Runs one estimator after the other, and returns the summary."""
    target = flags["target"]
    arguments = {name: flags[name] for name in ("target", "num_steps", "learning_rate", "seed", "baseline")}
    curves, results = {}, {}
    print(report.HEADER, flush=True)
    for name in flags["estimators"]:
        curves[name] = problem.train(name, **arguments)
        results[name] = report.result(curves[name], target)
        print(report.line(name, results[name], target), flush=True)
    report.write_csv(folder / "curve.csv", curves, target)
    report.write_plot(folder / "curve.png", curves, target)
    return report.summary(flags, results)
