"""What a report is: the logs of an epoch, at the step of the optimizer."""

from __future__ import annotations

import keras

Logs = dict[str, float] | None


def global_step(model: keras.Model) -> int:
    """The number of training steps that the model has done, those of earlier calls of `fit` included."""
    return int(model.optimizer.iterations)


def report(logs: dict[str, float]) -> dict[str, float]:
    """What an epoch's logs say, with the bound in place of the loss."""
    return {
        ("bound" if name == "loss" else name): (-value if name == "loss" else value) for name, value in logs.items()
    }
