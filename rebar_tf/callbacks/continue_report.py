"""Reports that a checkpoint cut in two."""

from __future__ import annotations

import keras
import numpy as np

from rebar_tf.callbacks.reports import Logs, global_step


class ContinueReport(keras.callbacks.Callback):
    """Continues a report that a checkpoint cut in two, as if training had not stopped.

    `fit` starts every epoch with fresh averages. If training resumes within a report, this restores the averages of
    the checkpoint, so that loss and gradient variance cover all its steps. Metrics that are named in `compile` begin
    anew, as Keras saves no state of them.

    Args:
        every: steps of a report.

    Example:
    >>> import rebar_tf as rt
    >>> callback = rt.callbacks.ContinueReport(every=500)
    """

    def __init__(self, every: int):
        super().__init__()
        self.every = every
        self._averages: list[np.ndarray] = []

    def on_train_begin(self, logs: Logs = None) -> None:
        if global_step(self.model) % self.every:
            self._averages = [v.numpy() for metric in self.model.metrics for v in metric.variables]

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        if self._averages:
            variables = [v for metric in self.model.metrics for v in metric.variables]
            for variable, value in zip(variables, self._averages, strict=True):
                variable.assign(value)
        self._averages = []
