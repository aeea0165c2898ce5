"""Training that has diverged: how it is seen, and that it stops."""

from __future__ import annotations

import math
from collections.abc import Iterator

import keras
import numpy as np

from rebar_tf.callbacks.reports import Logs, global_step, report
from rebar_tf.training.metrics import own_value

_WATCHED = ("bound", "valid_bound", "log_grad_variance", "temperature")


class Diverged(ArithmeticError):
    """Training has come to a number that is not finite.

    Attributes:
        step: at which it was seen.
        quantity: what is not finite: a name of the reports, or the path of a variable.
        value: what it is, NaN or infinity.
    """

    def __init__(self, step: int, quantity: str, value: float):
        super().__init__(
            f"training diverged: {quantity} is {value} at step {step}. High learning rates diverge (Tucker et al. "
            "2017, appendix G): try a lower one"
        )
        self.step, self.quantity, self.value = step, quantity, value


class StopOnDivergence(keras.callbacks.Callback):
    """Raises `Diverged` at the end of an epoch in which training came to NaN or infinity.

    Looked at are the reported bound, gradient variance and temperature, and all numbers that training goes on from:
    weights, etas, the optimizer's and the metrics'. Put it before the callbacks that write.

    Example:
    >>> import rebar_tf as rt
    >>> callbacks = [rt.callbacks.StopOnDivergence(), rt.callbacks.Checkpoint("runs/rebar/checkpoint.keras")]
    """

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        for name, value in report(logs or {}).items():
            # A gradient without any variance has the logarithm -inf.
            fine = math.isfinite(value) or (name == "log_grad_variance" and value == -math.inf)
            if name.startswith(_WATCHED) and not fine:
                raise Diverged(global_step(self.model), name, float(value))
        check_finite(self.model)


def check_finite(model: keras.Model) -> None:
    """Raises `Diverged` if a number that training goes on from is NaN or infinite."""
    for variable in _state(model):
        values = own_value(variable)
        finite = np.isfinite(values)
        if not finite.all():
            raise Diverged(global_step(model), variable.path, float(values[~finite].flat[0]))


def _state(model: keras.Model) -> Iterator[keras.Variable]:
    yield from model.variables
    yield from model.optimizer.variables
    for metric in model.metrics:
        yield from metric.variables
