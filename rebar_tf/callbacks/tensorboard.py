"""Reports in TensorBoard."""

from __future__ import annotations

import os
import pathlib
import types
from typing import TYPE_CHECKING

import keras
import numpy as np

from rebar_tf.callbacks.reports import Logs, global_step, report
from rebar_tf.extras import needs_extra
from rebar_tf.training import StochasticTraining

if TYPE_CHECKING:
    from rebar_tf.callbacks.event_file import EventFile

_TAGS = {
    "bound": "bound/train",
    "valid_bound": "bound/valid",
    "log_grad_variance": "variance/all",
    "steps_per_second": "speed",
}
_LAYOUT = {"bound": ["^bound/"], "log variance of the gradient": ["^variance/[^/]+$"]}  # charts, the tags of each


class TensorBoard(keras.callbacks.Callback):
    """Writes each epoch's report to TensorBoard, at the global step.

    The curves: `bound/train` and `bound/valid`, `variance/all` (the log variance of the gradient), `temperature`,
    `speed` (steps per second), `eta/VARIABLE` (the scale of the control variate, the mean where a variable has
    several), and whatever else is in the logs, by its own name. The methods of an `EstimatorComparison` are
    `variance/METHOD`. The page "Custom scalars" opens on bound and variance side by side.

    Keras's own TensorBoard callback counts epochs, and starts at 0 again when training resumes. Here points of steps
    that are repeated are removed first, so that each step stands once.

    Args:
        log_dir: folder of the event files, which is made where there is none.
        every: steps of a full report. When training resumes, the point of a shorter last report is removed.

    Raises:
        ImportError: where TensorBoard is not installed, which the extra `trainers` brings.

    Example:
    >>> import rebar_tf as rt
    >>> callback = rt.callbacks.TensorBoard("runs/rebar/tensorboard")
    """

    def __init__(self, log_dir: str | os.PathLike, every: int = 1):
        super().__init__()
        _event_file()  # fails here where TensorBoard is missing, and not at the first epoch
        self.log_dir, self.every = pathlib.Path(log_dir), every
        self._events: EventFile | None = None

    def on_train_begin(self, logs: Logs = None) -> None:
        self.log_dir.mkdir(parents=True, exist_ok=True)
        if self._events is None:
            _event_file().remove_repeated(self.log_dir, global_step(self.model), self.every)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        if self._events is None:
            self._events = _event_file().EventFile(self.log_dir, _LAYOUT)
        points = {tag(name): value for name, value in report(logs or {}).items()}
        self._events.add(global_step(self.model), {**points, **etas(self.model)})


def _event_file() -> types.ModuleType:
    """The module that writes event files, loaded when it is used, as TensorBoard is with it."""
    with needs_extra("trainers", "rt.callbacks.TensorBoard"):
        from rebar_tf.callbacks import event_file
    return event_file


def tag(name: str) -> str:
    """Under which a quantity of a report is drawn: those that belong together have one group."""
    return _TAGS.get(name, name.replace("log_variance/", "variance/"))


def etas(model: keras.Model) -> dict[str, float]:
    """`eta/VARIABLE` of each variable of a model whose estimator scales its control variate."""
    if not isinstance(model, StochasticTraining):
        return {}
    try:
        found = model.etas
    except NotImplementedError:  # by which an estimator says that it scales none
        return {}
    return {f"eta/{path}": float(np.mean(eta)) for path, eta in found.items()}
