"""What a model is trained to do: which model, and which part of an image it sees and which it predicts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import rebar_tf as rt
from trainers.common.errors import BadInput
from trainers.common.experiment import Experiment

PRECISIONS = ("float32", "bfloat16", "float16")


@dataclasses.dataclass(frozen=True)
class Task:
    """A way to train on images.

    Attributes:
        build: from experiment, dataset and estimator to the model, not compiled.
        examples: from `[n, 784]` images to `(x,)` or `(x, y)`, what `fit` and `bound` take.
        flags: names of those that no other task takes.
    """

    build: Callable[[Experiment, rt.datasets.Dataset, rt.estimators.Estimator], rt.training.StochasticTraining]
    examples: Callable[[Any], tuple]
    flags: tuple[str, ...] = ()


def check_task(experiment: Experiment) -> None:
    """Raises `BadInput` for a flag that was given and that only another task takes."""
    for name, task in TASKS.items():
        for flag in task.flags:
            value = getattr(experiment, flag)
            if value is not None and name != experiment.task:
                raise BadInput(f"flag --{flag}={value}: expected with --task={name} only")


def _generative(
    experiment: Experiment, dataset: rt.datasets.Dataset, estimator: rt.estimators.Estimator
) -> rt.training.StochasticTraining:
    return rt.models.SigmoidBeliefNetwork(
        **_architecture(experiment), estimator=estimator, visible_units=dataset.train.shape[1], data_mean=dataset.mean
    )


def _structured(
    experiment: Experiment, dataset: rt.datasets.Dataset, estimator: rt.estimators.Estimator
) -> rt.training.StochasticTraining:
    input_mean, output_mean = _halves(dataset.mean)
    return rt.models.StructuredPredictionNetwork(
        **_architecture(experiment),
        estimator=estimator,
        generator=experiment.structured_generator or "paper",
        input_units=len(input_mean),
        output_units=len(output_mean),
        input_mean=input_mean,
        output_mean=output_mean,
    )


def _architecture(experiment: Experiment) -> dict[str, Any]:
    names = ("num_layers", "hidden_units", "nonlinear", "seed")
    precision = experiment.mixed_precision
    dtype = "float32" if precision is None else f"mixed_{precision}"
    return {**{name: getattr(experiment, name) for name in names}, "dtype": dtype}


def _halves(images: Any) -> tuple:
    """Top and bottom half of one image or several, whose pixels are the last axis, row by row."""
    half = images.shape[-1] // 2
    return images[..., :half], images[..., half:]


TASKS = {
    "generative": Task(build=_generative, examples=lambda images: (images,)),
    "structured": Task(build=_structured, examples=_halves, flags=("structured_generator",)),
}
