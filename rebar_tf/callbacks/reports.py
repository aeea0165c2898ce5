"""What a report is: the logs of an epoch, at the step of the optimizer."""

from __future__ import annotations

import keras
import numpy as np

Logs = dict[str, float] | None


def global_step(model: keras.Model) -> int:
    """The number of training steps that the model has done, including those of earlier calls of `fit`.

    A step that a loss-scaling optimizer skipped, as a gradient overflowed, counts as done.
    """
    steps = int(keras.ops.convert_to_numpy(model.optimizer.iterations))  # of one replica, where there are several
    skips = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    variance = getattr(model, "gradient_variance", None)
    return steps + int(variance.overflows.numpy()) if skips and variance is not None else steps


def report(logs: dict[str, float]) -> dict[str, float]:
    """An epoch's logs that are numbers, and not several as of some metrics, with the bound in place of the loss."""
    numbers = {name: value for name, value in logs.items() if np.ndim(value) == 0}
    return {
        ("bound" if name == "loss" else name): (-value if name == "loss" else value) for name, value in numbers.items()
    }


def stands(step: int, reached: int, every: int) -> bool:
    """Whether the report of a step stands when training goes on.

    Reports of later steps are repeated, and a shorter last one is followed by the full one. At step 0 all begins anew.

    Args:
        step: of the report.
        reached: the model's step.
        every: steps of a full report.
    """
    return reached > 0 and step <= reached and step % every == 0
