"""What a run leaves when its training is done: the summary and the pictures."""

from __future__ import annotations

from typing import Any

from rebar_tf import callbacks
from rebar_tf.datasets import Dataset
from rebar_tf.training import StochasticTraining
from trainers.common.experiment import Experiment
from trainers.run import pictures
from trainers.run.summary import summarize
from trainers.run.workdir import Workdir


def finish(
    experiment: Experiment, workdir: Workdir, model: StochasticTraining, dataset: Dataset, held_out: tuple[tuple, tuple]
) -> dict[str, Any]:
    """Draws the pictures of a trained model, writes summary.json and returns it.

    Args:
        experiment: what was trained.
        workdir: of the run.
        model: the trained model.
        dataset: the images.
        held_out: what `model.bound` takes, of the validation and of the test split.
    """
    summary = summarize(experiment, callbacks.read_curve(workdir.curve), model, held_out)
    pictures.write(workdir, model, dataset)
    pictures.write_curve(workdir, experiment.estimator)
    print(f"pictures: {workdir.path}/*.png; curves: tensorboard --logdir={workdir.path}", flush=True)
    workdir.write_summary(summary)
    return summary
