"""Trains several cells in one program, each in its folder."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Sequence

import rebar_tf as rt
from rebar_tf import callbacks
from rebar_tf.training.run_group import NotOneGroupError
from trainers.common import build
from trainers.common.errors import BadInput, one_line
from trainers.common.experiment import Experiment
from trainers.run import group, loop, pictures, resume
from trainers.run.finish import finish
from trainers.run.workdir import Workdir
from trainers.sweep.process import LOG


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A cell that is trained.

    Attributes:
        experiment: of the cell.
        workdir: its folder, which this process has claimed.
        model: of its last checkpoint, or new.
    """

    experiment: Experiment
    workdir: Workdir
    model: rt.training.StochasticTraining

    @property
    def step(self) -> int:
        """That the model has reached."""
        return callbacks.global_step(self.model)

    def say(self, line: str) -> None:
        """Adds a line to the log of the cell."""
        with open(self.workdir.path / LOG, "a") as file:
            file.write(f"{line}\n")


def train(experiments: Sequence[Experiment]) -> None:
    """Trains the cells, those together that have reached the same step, and those that have reached the most first.

    A cell that diverged before is at the step of its last good checkpoint: it keeps no other waiting.

    Args:
        experiments: with folders; they differ in seed and learning rate alone.

    Raises:
        BadInput: for what `trainers.train` refuses, and for an estimator that cannot be vectorized.
    """
    dataset = build.load_dataset(experiments[0])
    held_out = build.held_out(experiments[0], dataset)
    with contextlib.ExitStack() as stack:
        runs = [stack.enter_context(_claimed(experiment, dataset)) for experiment in experiments]
        steps = sorted({run.step for run in runs}, reverse=True)
        for together in [[run for run in runs if run.step == step] for step in steps]:
            _train_together(together, dataset, held_out)


@contextlib.contextmanager
def _claimed(experiment: Experiment, dataset: rt.datasets.Dataset) -> Iterator[Run]:
    workdir = Workdir.of(experiment.flags(), experiment.estimator)
    workdir.check(experiment.flags())
    new_model = functools.partial(build.build_model, experiment, dataset)
    with resume.training(workdir, experiment.flags(), new_model) as model:
        yield Run(experiment, workdir, model)


def _train_together(runs: list[Run], dataset: rt.datasets.Dataset, held_out: tuple[tuple, tuple]) -> None:
    show = functools.partial(pictures.drawn, dataset=dataset, draws=pictures.FEW_DRAWS)
    used = [
        loop.reporting(run.experiment, run.workdir, run.model, held_out[0], pictures=show, say=run.say) for run in runs
    ]
    batches_from = [functools.partial(build.training_batches, run.experiment, dataset) for run in runs]
    try:
        diverged = group.train([run.experiment for run in runs], [run.model for run in runs], batches_from, used)
    except NotOneGroupError as error:
        raise BadInput(f"flag --stacked: {one_line(error)}") from error
    for place, run in enumerate(runs):
        if place not in diverged:
            finish(run.experiment, run.workdir, run.model, dataset, held_out)
    for place, reason in diverged.items():  # last, as the first cell's log has what this process prints
        runs[place].say(one_line(reason))
