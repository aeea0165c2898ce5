"""What the steps of a model report: Keras's logs, and beside them what an estimator is watched by."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import keras
import tensorflow as tf

from rebar_tf.training.compiled_objective import CompiledObjective
from rebar_tf.training.keras_loss import batch_size
from rebar_tf.training.metrics import LogGradientVariance, own_value

_LOSS_KEY = "loss_"  # of the running mean's variables among the model's own in a saved file


class TrainingLogs(CompiledObjective):
    """Gives a model its logs. Gradient variance and temperature are in `fit`'s; a list of values is Keras's."""

    estimator: Any = None  # an `Estimator`, from `build_estimator` on
    gradient_variance: LogGradientVariance

    def update_metrics(
        self, loss: tf.Tensor, x: Any, y: Any, y_pred: Any, sample_weight: tf.Tensor | None
    ) -> dict[str, Any]:
        """The logs of a step, whose loss and outputs the metrics take in."""
        if self._compile_loss is not None and self._compile_loss.metrics and not self.has_own_objective:
            self._compile_loss(y, y_pred, sample_weight)  # counts the losses of the single outputs
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss, sample_weight=batch_size(x))
        return self.compute_metrics(x, y, y_pred, sample_weight=sample_weight)

    @property
    def metrics_of_passes(self) -> list[keras.metrics.Metric]:
        """What layers, losses and objectives of the model's own update while they run."""
        compiled = [self._loss_tracker, self._compile_metrics] if self.compiled else []
        of_losses = self._compile_loss.metrics if self.compiled and self._compile_loss is not None else []
        others = [id(metric) for metric in (*compiled, *of_losses, getattr(self, "gradient_variance", None))]
        return [metric for metric in self.metrics if id(metric) not in others]

    def read_logs(self) -> dict[str, tf.Tensor]:
        return {**self.get_metrics_result(), **self.watched_scalars()}

    def watched_scalars(self) -> dict[str, tf.Tensor]:
        """What `fit` reports beside the metrics: the estimator's, and the steps that loss scaling skipped in all."""
        watched = self.estimator.diagnostics()
        if not isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer):
            return watched
        return {**watched, "skipped_steps": tf.convert_to_tensor(self.gradient_variance.overflows.value)}

    def read_test_logs(self) -> dict[str, tf.Tensor]:
        logs = self.get_metrics_result()
        return {name: logs[name] for name in logs if name != self.gradient_variance.name}

    @property
    def metrics_names(self) -> list[str]:
        """Keras's, of the values that `evaluate`, `train_on_batch` and `test_on_batch` return as a list."""
        return [metric.name for metric in self.metrics if metric is not getattr(self, "gradient_variance", None)]

    def _flatten_metrics_in_order(self, logs: dict[str, Any]) -> Any:
        watched = () if self.estimator is None else (self.gradient_variance.name, *self.watched_scalars())
        return super()._flatten_metrics_in_order({name: logs[name] for name in logs if name not in watched})

    def save_own_variables(self, store: MutableMapping[str, Any]) -> None:
        """Saves the running mean of the loss too, which Keras leaves out.

        A report goes on where a checkpoint cut it. Of several machines, of which one saves, it has that one's share.
        """
        super().save_own_variables(store)
        for i, variable in enumerate(self._loss_variables()):
            store[f"{_LOSS_KEY}{i}"] = own_value(variable)

    def load_own_variables(self, store: MutableMapping[str, Any]) -> None:
        keys = list(store.keys())  # Keras's stores have `keys`, but cannot be iterated
        super().load_own_variables({key: store[key] for key in keys if not key.startswith(_LOSS_KEY)})
        for i, variable in enumerate(self._loss_variables()):
            if f"{_LOSS_KEY}{i}" in keys:
                variable.assign(store[f"{_LOSS_KEY}{i}"])

    def _loss_variables(self) -> list[keras.Variable]:
        return self._loss_tracker.variables if self.compiled and self._loss_tracker is not None else []
