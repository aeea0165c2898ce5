"""The model of the flags, measured by `rebar_tf.diagnostics`: one estimator after the other, each kept."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import zipfile
from typing import Any

import numpy as np

from rebar_tf import estimators
from rebar_tf.callbacks import global_step, replacing
from rebar_tf.callbacks.event_file import EventFile
from rebar_tf.diagnostics import Advice, Measured
from rebar_tf.diagnostics.adviser import Adviser, Finding, Means, conclude
from rebar_tf.training import StochasticTraining
from trainers.common import build
from trainers.common.errors import BadInput, one_line
from trainers.common.experiment import DATASET, MODEL, Experiment
from trainers.common.files import write_csv, write_json
from trainers.common.tasks import TASKS
from trainers.run.workdir import Workdir

_QUANTITIES = ("variance", "microseconds", "megabytes", "cost", "bias")
_FREE = ("workdir", "names")  # flags that change no more of a measurement than how long it takes


def run(given: dict[str, Any]) -> None:
    """Measures what WORKDIR does not hold yet, prints the table, and writes compare.csv, compare.png and TensorBoard's.

    Raises:
        BadInput: for flags that no model can be made of, names of no estimator, and a folder that cannot be written to
            or holds another comparison.
    """
    names = given["names"] or estimators.names()
    for name in names:
        if name not in estimators.names():
            raise BadInput(f"flag --names={name}: expected some of {', '.join(estimators.names())}")
    trained = None if given["run"] is None else _trained(Workdir(given["run"]))
    workdir, asked = pathlib.Path(given["workdir"]) / "measured", _asked(given, trained)
    findings = {name: _load(workdir / f"{name}.npz") for name in names}
    missing = [name for name, found in findings.items() if found is None]
    if missing:
        adviser = _adviser(given, trained)
    _claim(workdir, asked)
    for place, name in enumerate(missing, start=1):
        finding = findings[name] = adviser.measure(name, given["seconds"] / len(names))
        _save(workdir / f"{name}.npz", finding)
        print(f"{place} of {len(missing)}: {_line(finding.measured)}", flush=True)
    advice = conclude([found for found in findings.values() if found is not None])
    print(advice, flush=True)
    _write(workdir.parent, advice)
    print(json.dumps({"best": advice.best, "table": str(workdir.parent / "compare.csv")}), flush=True)


def _trained(run: Workdir) -> StochasticTraining:
    model = run.load_model()
    run.check_is_of_train("run")
    return model


def _asked(given: dict[str, Any], trained: StochasticTraining | None) -> dict[str, Any]:
    """What a comparison is of; `BadInput` if its folder holds another one."""
    asked = {name: value for name, value in given.items() if name not in _FREE}
    if trained is not None:  # a run that has trained on since is another model
        asked["run_step"] = global_step(trained)
    flags = pathlib.Path(given["workdir"]) / "flags.json"
    if flags.exists() and _json(flags) != asked:
        raise BadInput(
            f"flag --workdir={flags.parent}: holds a comparison with other flags, or of another step of the run; "
            "expected another folder, or those flags"
        )
    return asked


def _claim(measured: pathlib.Path, asked: dict[str, Any]) -> None:
    """Makes the folder of what is measured, and says beside it what that is of."""
    try:
        measured.mkdir(parents=True, exist_ok=True)
        write_json(measured.parent / "flags.json", asked)
    except OSError as error:
        raise BadInput(
            f"flag --workdir={measured.parent}: {one_line(error)}; expected one that can be written to"
        ) from error


def _json(path: pathlib.Path) -> Any:
    """What a file holds; None for what is no JSON."""
    try:
        return json.loads(path.read_text())
    except ValueError:
        return None


def _adviser(given: dict[str, Any], trained: StochasticTraining | None) -> Adviser:
    # With the fixed draw of a dynamic binarization: the images themselves are grey.
    experiment = dataclasses.replace(_experiment(given), binarization="fixed")
    dataset = build.load_dataset(experiment)
    model = build.build_model(experiment, dataset) if trained is None else trained
    x, *y = TASKS[experiment.task].examples(dataset.train.astype(np.float32))
    return Adviser(model, x, y[0] if y else None, experiment.batch_size, given["steps"])


def _experiment(given: dict[str, Any]) -> Experiment:
    if given["run"] is not None:
        return Experiment.from_flags(Workdir(given["run"]).stored_flags())
    names = (*DATASET, *MODEL, "batch_size", "seed")
    experiment = Experiment.from_flags({name: given[name] for name in names})
    build.check_names(experiment)
    return experiment


def _save(path: pathlib.Path, finding: Finding) -> None:
    """Writes a finding, whole or not at all."""
    arrays = {} if finding.means is None else dataclasses.asdict(finding.means)
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, measured=json.dumps(dataclasses.asdict(finding.measured)), **arrays)


def _load(path: pathlib.Path) -> Finding | None:
    """What was measured before; None for nothing, a file that cannot be read, or one with less in it than is asked."""
    fields = [field.name for field in dataclasses.fields(Measured)]
    try:
        with open(path, "rb") as file, np.load(file) as kept:
            found = json.loads(str(kept["measured"]))
            measured = Measured(**{name: found[name] for name in fields})
            return Finding(measured, Means(kept["mean"], kept["variance"]) if "mean" in kept else None)
    except (OSError, EOFError, zipfile.BadZipFile, ValueError, KeyError, TypeError):
        return None


def _write(workdir: pathlib.Path, advice: Advice) -> None:
    """The table, the picture, and a run of TensorBoard's for each estimator, for the page HParams."""
    write_csv(workdir / "compare.csv", list(advice.rows[0]) if advice.rows else ["estimator"], advice.rows)
    advice.plot(workdir / "compare.png")
    for row in advice.rows:
        folder = workdir / "tensorboard" / row["estimator"]
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
        settings = {name: row[name] for name in ("estimator", "unbiased")}
        values = {name: row[name] for name in _QUANTITIES if np.isfinite(row[name])}
        EventFile(folder, settings=settings).add(0, values)


def _line(measured: Measured) -> str:
    if measured.reason is not None:
        return f"{measured.estimator}: left out, {measured.reason}"
    cost = f"{measured.microseconds:.0f} us, {measured.megabytes:.3g} MB"
    return f"{measured.estimator}: variance {measured.variance:.3g}, {cost}"
