"""Reports in TensorBoard."""

from __future__ import annotations

import math
import os
import pathlib
import time
import types
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from rebar_tf.callbacks.reports import Logs, global_step, report
from rebar_tf.extras import needs_extra
from rebar_tf.sampling import HardSampler
from rebar_tf.training import StochasticTraining
from rebar_tf.training.variables import part_of

if TYPE_CHECKING:
    from rebar_tf.callbacks.event_file import EventFile

_TAGS = {
    "bound": "bound/train",
    "valid_bound": "bound/valid",
    "log_grad_variance": "variance/all",
    "steps_per_second": "speed",
}
_STREAM = 5  # sets the samples of histograms apart from those of training, evaluation and bounds
_LAYOUT = {"bound": ["^bound/"], "log variance of the gradient": ["^variance/[^/]+$"]}  # charts, the tags of each


class TensorBoard(keras.callbacks.Callback):
    """Writes each epoch's report to TensorBoard, at the global step.

    The curves: `bound/train` and `bound/valid`, `variance/all` (the log variance of the gradient over the report),
    `variance/PART` (that of a layer or a group of layers, at the report's end), `temperature`, `speed` (steps per
    second), `eta/VARIABLE` (the scale of the control variate, the mean where a variable has several), and whatever else
    is in the logs, by its own name. The methods of an `EstimatorComparison` are `variance/METHOD`. The page "Custom
    scalars" opens on bound and variance side by side. An epoch that lasts longer than `seconds` has points before its
    end, the means up to there.

    Histograms and pictures follow at the end of an epoch, `seconds` or more after the last ones, and when training
    ends: `etas`, of all variables; `logits/LAYER`, of the stochastic layers at the examples `x`; and what `pictures`
    makes.

    Keras's own TensorBoard callback counts epochs, and starts at 0 again when training resumes. Here points of steps
    that are repeated are removed first, so that each step stands once.

    Args:
        log_dir: folder of the event files, which is made where there is none.
        every: steps of a full report. When training resumes, the point of a shorter last report is removed.
        seconds: see above; 0 or more.
        x: `[examples, ...]`, some inputs, best held out; None leaves the logits out.
        y: their targets, for a model whose objective needs them.
        pictures: from the model to pictures by tag, each `[height, width]` or `[height, width, channels]`, values from
            0, black, to 1; None for none.
        settings: of the run, for the page "HParams" that compares runs: numbers, texts, true or false.

    Raises:
        ImportError: where TensorBoard is not installed, which the extra `trainers` brings.
        ValueError: for `seconds` below 0.

    Example:
    >>> import rebar_tf as rt
    >>> callback = rt.callbacks.TensorBoard("runs/rebar/tensorboard", settings={"estimator": "rebar"})
    """

    def __init__(
        self,
        log_dir: str | os.PathLike,
        every: int = 1,
        seconds: float = 10.0,
        x: Any = None,
        y: Any = None,
        pictures: Callable[[keras.Model], Mapping[str, np.ndarray]] | None = None,
        settings: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        _event_file()  # fails here where TensorBoard is missing, and not at the first epoch
        if not seconds >= 0.0:
            raise ValueError(f"`seconds` must be a number of 0 or more. Received: seconds={seconds!r}")
        self.log_dir, self.every, self.seconds = pathlib.Path(log_dir), every, seconds
        self.x, self.y, self.pictures, self.settings = x, y, pictures, settings
        self._events: EventFile | None = None
        self._last_arrays, self._arrays_of = -np.inf, -1  # when and at which step

    def on_train_begin(self, logs: Logs = None) -> None:
        self.log_dir.mkdir(parents=True, exist_ok=True)
        if self._events is None:
            _event_file().remove_repeated(self.log_dir, global_step(self.model), self.every)
        self._last_point = np.inf  # the first program is compiled first

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        now, steps = time.monotonic(), (self.params or {}).get("steps")
        is_last = steps is not None and batch + 1 >= steps  # the epoch's own point follows
        if logs and now - self._last_point > self.seconds and not is_last:
            self._add(report(logs))
        elif self._last_point == np.inf:
            self._last_point = now

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        with_arrays = time.monotonic() - self._last_arrays >= self.seconds
        self._add(report(logs or {}), self._arrays() if with_arrays else ())

    def on_train_end(self, logs: Logs = None) -> None:
        if self._events is not None and self._arrays_of != global_step(self.model) and any(arrays := self._arrays()):
            self._add({}, arrays)

    def _arrays(self) -> tuple[Mapping[str, np.ndarray], ...]:
        """Histograms and pictures of the model as it is now."""
        self._last_arrays, self._arrays_of = time.monotonic(), global_step(self.model)
        return histograms(self.model, self.x, self.y), self.pictures(self.model) if self.pictures else {}

    def _add(self, values: dict[str, float], arrays: tuple[Mapping[str, np.ndarray], ...] = ()) -> None:
        if self._events is None:
            self._events = _event_file().EventFile(self.log_dir, _LAYOUT, self.settings)
        points = {tag(name): value for name, value in values.items()}
        if values:
            points |= {f"eta/{path}": float(eta.mean()) for path, eta in etas(self.model).items()}
            points |= {f"variance/{part}": value for part, value in variances(self.model).items()}
        self._events.add(global_step(self.model), points, *arrays)
        self._last_point = time.monotonic()


def _event_file() -> types.ModuleType:
    """The module that writes event files, loaded when it is used, as TensorBoard is with it."""
    with needs_extra("trainers", "rt.callbacks.TensorBoard"):
        from rebar_tf.callbacks import event_file
    return event_file


def tag(name: str) -> str:
    """Under which a quantity of a report is drawn: those that belong together have one group."""
    return _TAGS.get(name, name.replace("log_variance/", "variance/"))


def etas(model: keras.Model) -> dict[str, np.ndarray]:
    """The scales of each variable's control variate, of a model whose estimator has them."""
    if not isinstance(model, StochasticTraining):
        return {}
    try:
        found = model.etas
    except NotImplementedError:  # by which an estimator says that it scales none
        return {}
    return {path: np.asarray(eta) for path, eta in found.items()}


def variances(model: keras.Model) -> dict[str, float]:
    """The log variance of the gradient of each part of a model, a layer or a group of them, as it is now."""
    if not isinstance(model, StochasticTraining):
        return {}
    found: dict[str, list[np.ndarray]] = {}
    for variable, values in zip(model.all_model_variables, model.gradient_variance.by_variable(), strict=True):
        found.setdefault(part_of(variable, model), []).append(np.ravel(values))
    means = {part: float(np.concatenate(values).mean()) for part, values in found.items()}
    return {part: math.log(mean) for part, mean in means.items() if mean > 0.0}


def histograms(model: keras.Model, x: Any, y: Any) -> dict[str, np.ndarray]:
    """What is drawn as a histogram: all etas, and the logits of each stochastic layer at some examples."""
    scales = [eta.ravel() for eta in etas(model).values()]
    found = {"etas": np.concatenate(scales)} if scales else {}
    if x is None or not isinstance(model, StochasticTraining):
        return found
    with HardSampler(0, _STREAM, training=False) as trace:
        if model.has_own_objective:
            model.evaluation_objective(x, y)
        else:
            model(x, training=False)
    names = dict.fromkeys(site.source.name for site in trace)
    for name in names:
        logits = [np.ravel(site.logits) for site in trace if site.source.name == name]
        found[f"logits/{name}"] = np.concatenate(logits)
    return found
