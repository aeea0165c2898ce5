"""The temperature of relaxations by a schedule, in place of a learned one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from rebar_tf.callbacks.reports import Logs, global_step
from rebar_tf.estimators import Temperature
from rebar_tf.validation import is_positive


class TemperatureScheduler(keras.callbacks.Callback):
    """Sets every temperature that is not learned to `schedule(step)`, in any Keras model.

    It acts before the first step and after each batch, or each execution of several (`steps_per_execution`). The step
    is the optimizer's, so that resumed training goes on in the schedule. The logs of an epoch have the `temperature`.

    Args:
        schedule: from the number of steps done to lambda, > 0: any function, or a
            `keras.optimizers.schedules.LearningRateSchedule`.

    Raises:
        ValueError: in `fit`, for a model without a temperature that is not learned, or a value that is not positive.

    Example:
    >>> import keras, rebar_tf as rt
    >>> callback = rt.callbacks.TemperatureScheduler(keras.optimizers.schedules.ExponentialDecay(1.0, 1000, 0.5))

    Reference: Jang et al. 2016, section 4 anneal it so.
    """

    def __init__(self, schedule: Callable[[int], Any]):
        super().__init__()
        self.schedule = schedule

    def on_train_begin(self, logs: Logs = None) -> None:
        layers = [layer for layer in self.model._flatten_layers() if isinstance(layer, Temperature)]
        self.temperatures = [layer for layer in layers if not layer.learn]
        if not self.temperatures:
            raise ValueError(
                f"Model {self.model.name!r} has no temperature to set: use a layer with an estimator such as concrete, "
                "gumbel_straight_through, or rebar with learn_temperature=False"
            )
        self._set()

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        self._set()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        if logs is not None:
            logs["temperature"] = self.value

    def _set(self) -> None:
        step = global_step(self.model)
        self.value = float(self.schedule(step))
        if not is_positive(self.value):
            raise ValueError(f"`schedule` must return a positive number. Received: schedule({step})={self.value!r}")
        for temperature in self.temperatures:
            temperature.assign(self.value)
