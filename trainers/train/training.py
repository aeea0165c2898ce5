"""Trains, or continues to train, one model in its folder."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from rebar_tf import callbacks
from trainers.common import build, placement
from trainers.common.experiment import Experiment
from trainers.run import loop, pictures, resume
from trainers.run.finish import finish
from trainers.run.workdir import Workdir


def run(experiment: Experiment) -> None:
    """Does what is left to do of an experiment, and prints its summary."""
    workdir = Workdir.of(experiment.flags(), experiment.estimator)
    experiment = dataclasses.replace(experiment, workdir=str(workdir.path))
    resume.run(experiment.flags(), workdir, lambda: train(experiment, workdir))


def train(experiment: Experiment, workdir: Workdir) -> dict[str, Any] | None:
    """Trains what is left to train, and returns the summary; None on a worker that is not the chief."""
    build.check_names(experiment)
    placed = placement.place(experiment)
    dataset = build.load_dataset(experiment)
    held_out = build.held_out(experiment, dataset)
    batches_from = functools.partial(build.training_batches, experiment, dataset)
    with resume.training(workdir, experiment.flags(), lambda: build.build_model(experiment, dataset), placed) as model:
        if not placed.is_chief:
            loop.follow(experiment, model, batches_from)
            placed.part()
            return None
        step = callbacks.global_step(model)
        print(f"{experiment.estimator} on {experiment.dataset} in {workdir.path}, from step {step}", flush=True)
        show = functools.partial(pictures.drawn, dataset=dataset, draws=pictures.FEW_DRAWS)
        loop.train(experiment, workdir, model, batches_from, held_out[0], pictures=show, workers=placed.workers)
        summary = finish(experiment, workdir, model, dataset, held_out)
        placed.part()
    return summary
