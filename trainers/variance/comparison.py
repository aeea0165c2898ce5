"""Compares, or continues to compare, several methods in the folder of the comparison."""

from __future__ import annotations

import dataclasses
import datetime
import functools
from typing import Any

import rebar_tf as rt
from rebar_tf import callbacks
from trainers.common import build, methods
from trainers.common.errors import BadInput
from trainers.common.methods import Method
from trainers.run import loop, resume
from trainers.run.workdir import Workdir
from trainers.variance import plot, report
from trainers.variance.settings import Settings


def run(settings: Settings) -> None:
    """Does what is left to do of a comparison, and prints its summary."""
    workdir = Workdir.of(settings.flags(), "variance")
    experiment = dataclasses.replace(settings.experiment, workdir=str(workdir.path))
    settings = dataclasses.replace(settings, experiment=experiment)
    resume.run(settings.flags(), workdir, lambda: compare(settings, workdir))


def compare(settings: Settings, workdir: Workdir) -> dict[str, Any]:
    """Trains what is left to train, draws the plots, and returns the summary."""
    compared, experiment = parse_methods(settings), settings.experiment
    dataset = build.load_dataset(experiment)
    batches_from = functools.partial(build.training_batches, experiment, dataset)
    table = workdir.path / "variance.csv"
    origin = f"{settings.command()}, {datetime.date.today().isoformat()}"
    reports = [report.VarianceLine(), report.VarianceCsv(table, experiment.report_every, origin)]
    with resume.training(workdir, settings.flags(), lambda: _model(settings, compared, dataset)) as model:
        step = callbacks.global_step(model)
        print(f"{', '.join(model.models)} on {experiment.dataset} in {workdir.path}, from step {step}", flush=True)
        loop.train(experiment, workdir, model, batches_from, build.held_out(experiment, dataset)[0], reports)
        rows = report.read_rows(table)
        plot.write_plots(workdir.path, rows, settings)
        summary = report.summarize(settings, callbacks.read_curve(workdir.curve), rows)
        workdir.write_summary(summary)
    return summary


def parse_methods(settings: Settings) -> list[Method]:
    """The methods of the settings, each once.

    Raises:
        BadInput: for a method, a followed one, a name or an option that does not exist, or that no method takes.
    """
    compared = methods.parse(settings.methods)
    if settings.follow not in settings.methods:
        names = ", ".join(settings.methods)
        raise BadInput(f"flag --follow={settings.follow}: expected one of --methods, {names}")
    build.check_names(settings.experiment)
    for option, value in settings.experiment.given_options().items():
        takers = methods.takers(option)
        if not any(method.estimator in takers for method in compared):
            raise BadInput(f"flag --{option}={value}: expected where --methods has one of {', '.join(takers)}")
    return compared


def _model(
    settings: Settings, compared: list[Method], dataset: rt.datasets.Dataset
) -> rt.diagnostics.EstimatorComparison:
    """The compiled comparison, at its initial weights.

    Raises:
        BadInput: for values that model or estimators do not take.
    """
    experiment = settings.experiment
    models = {method.name: build.build_network(method.applied_to(experiment), dataset) for method in compared}
    comparison = rt.diagnostics.EstimatorComparison(models, settings.follow)
    build.compile_model(experiment, comparison)
    return comparison
