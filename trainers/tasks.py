"""What a model is trained to do: which model, and which part of an image it sees and which it predicts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from trainers.errors import BadInput

if TYPE_CHECKING:  # TensorFlow takes seconds: the functions import it when they need it
    import rebar_tf as rt


@dataclasses.dataclass(frozen=True)
class Task:
    """A way to train on images.

    Attributes:
        build: from settings, `rebar_tf.datasets.Dataset` and estimator to the model, not compiled.
        examples: from `[n, 784]` images to `(x,)` or `(x, y)`, what `fit` and `bound` take.
        flags: names of those that no other task takes.
    """

    build: Callable[..., Any]
    examples: Callable[[Any], tuple]
    flags: tuple[str, ...] = ()


def check_flags(settings: dict[str, Any]) -> None:
    """Raises `BadInput` for a flag that was given and that only another task takes."""
    for name, task in TASKS.items():
        for flag in task.flags:
            if settings[flag] is not None and name != settings["task"]:
                raise BadInput(f"flag --{flag}={settings[flag]}: accepted with --task={name} only")


def _generative(
    settings: dict[str, Any], dataset: rt.datasets.Dataset, estimator: rt.estimators.Estimator
) -> rt.training.StochasticTraining:
    import rebar_tf as rt

    return rt.models.SigmoidBeliefNetwork(
        **_architecture(settings), estimator=estimator, visible_units=dataset.train.shape[1], data_mean=dataset.mean
    )


def _structured(
    settings: dict[str, Any], dataset: rt.datasets.Dataset, estimator: rt.estimators.Estimator
) -> rt.training.StochasticTraining:
    import rebar_tf as rt

    input_mean, output_mean = _halves(dataset.mean)
    return rt.models.StructuredPredictionNetwork(
        **_architecture(settings),
        estimator=estimator,
        generator=settings["structured_generator"] or "paper",
        input_units=len(input_mean),
        output_units=len(output_mean),
        input_mean=input_mean,
        output_mean=output_mean,
    )


def _architecture(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: settings[name] for name in ("num_layers", "hidden_units", "nonlinear", "seed")}


def _halves(images: Any) -> tuple:
    """Top and bottom half of one image or several, whose pixels are the last axis, row by row."""
    half = images.shape[-1] // 2
    return images[..., :half], images[..., half:]


TASKS = {
    "generative": Task(build=_generative, examples=lambda images: (images,)),
    "structured": Task(build=_structured, examples=_halves, flags=("structured_generator",)),
}
