"""The model of the flags, measured by `rebar_tf.diagnostics.compare`."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import numpy as np

from rebar_tf import diagnostics, estimators
from rebar_tf.diagnostics import Measured
from rebar_tf.training import StochasticTraining
from trainers.common import build
from trainers.common.errors import BadInput, one_line
from trainers.common.experiment import DATASET, MODEL, Experiment
from trainers.common.files import write_csv
from trainers.common.tasks import TASKS
from trainers.run.workdir import Workdir


def run(given: dict[str, Any]) -> None:
    """Prints each estimator when it is measured, then the table, and writes compare.csv and compare.png.

    Raises:
        BadInput: for flags that no model can be made of, names of no estimator, and a folder that cannot be written to.
    """
    for name in given["names"] or []:
        if name not in estimators.names():
            raise BadInput(f"flag --names={name}: expected some of {', '.join(estimators.names())}")
    experiment = _experiment(given)
    workdir = pathlib.Path(given["workdir"])
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        (workdir / "compare.csv").touch()
    except OSError as error:
        raise BadInput(f"flag --workdir={workdir}: {one_line(error)}; expected one that can be written to") from error
    dataset = build.load_dataset(experiment)
    model: StochasticTraining = (
        build.build_model(experiment, dataset) if given["run"] is None else Workdir(given["run"]).load_model()
    )
    x, *y = TASKS[experiment.task].examples(dataset.train[: experiment.batch_size].astype(np.float32))
    advice = diagnostics.compare(
        model, x, y[0] if y else None, names=given["names"], seconds=given["seconds"], progress=_print
    )
    print(advice, flush=True)
    write_csv(workdir / "compare.csv", list(advice.rows[0]) if advice.rows else ["estimator"], advice.rows)
    advice.plot(workdir / "compare.png")
    print(json.dumps({"best": advice.best, "table": str(workdir / "compare.csv")}), flush=True)


def _experiment(given: dict[str, Any]) -> Experiment:
    if given["run"] is not None:
        return Experiment.from_flags(Workdir(given["run"]).stored_flags())
    names = (*DATASET, *MODEL, "batch_size", "seed")
    experiment = Experiment.from_flags({name: given[name] for name in names})
    build.check_names(experiment)
    return experiment


def _print(measured: Measured) -> None:
    if measured.reason is None:
        print(f"{measured.estimator}: variance {measured.variance:.3g}, {measured.microseconds:.0f} us", flush=True)
    else:
        print(f"{measured.estimator}: left out, {measured.reason}", flush=True)
