"""What a report is: the logs of an epoch, at the step of the optimizer."""

from __future__ import annotations

import keras

Logs = dict[str, float] | None


def global_step(model: keras.Model) -> int:
    """The number of training steps that the model has done, including those of earlier calls of `fit`."""
    return int(model.optimizer.iterations)


def report(logs: dict[str, float]) -> dict[str, float]:
    """An epoch's logs, with the bound in place of the loss."""
    return {
        ("bound" if name == "loss" else name): (-value if name == "loss" else value) for name, value in logs.items()
    }
