"""What a model is trained to do: which model, and which part of an image it sees and which it predicts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # TensorFlow takes seconds: the functions import it when they need it
    import rebar_tf as rt


@dataclasses.dataclass(frozen=True)
class Task:
    """A way to train on images.

    Attributes:
        build: from settings, `rebar_tf.datasets.Dataset` and estimator to the model, not compiled.
        examples: from `[n, 784]` images to `(x,)` or `(x, y)`, what `fit` and `bound` take.
    """

    build: Callable[..., Any]
    examples: Callable[[Any], tuple]


def _generative(
    settings: dict[str, Any], dataset: rt.datasets.Dataset, estimator: rt.estimators.Estimator
) -> rt.models.StochasticTraining:
    import rebar_tf as rt

    return rt.models.SigmoidBeliefNetwork(
        num_layers=settings["num_layers"],
        hidden_units=settings["hidden_units"],
        nonlinear=settings["nonlinear"],
        estimator=estimator,
        visible_units=dataset.train.shape[1],
        data_mean=dataset.mean,
        seed=settings["seed"],
    )


TASKS = {
    "generative": Task(build=_generative, examples=lambda images: (images,)),
}
