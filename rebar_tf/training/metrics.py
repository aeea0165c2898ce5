"""How noisy the gradient is, as a Keras metric."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rebar_tf.validation import check_integer


class SavedMetric(keras.metrics.Metric):
    """A metric whose state is saved with the model: Keras leaves that of others out."""

    def save_own_variables(self, store: MutableMapping[str, Any]) -> None:
        for i, variable in enumerate(self.variables):
            store[str(i)] = variable

    def load_own_variables(self, store: MutableMapping[str, Any]) -> None:
        kept = list(store.keys())  # Keras's stores have `keys`, but cannot be iterated
        for i, variable in enumerate(self.variables):
            if str(i) in kept:  # not of a file from before there was the last one
                variable.assign(store[str(i)])


@keras.saving.register_keras_serializable("rebar_tf")
class LogGradientVariance(SavedMetric):
    """`log mean_k (E[g_k^2] - E[g_k]^2)` over all entries k of the gradient, with moving averages for the expectations.

    The averages start at 0, decay by 0.999 a step and are not debiased, as in the paper's released code. The result is
    the log of the mean since the last reset; a reset keeps the averages.

    Reading and writing the averages at every step costs as much as Adam. They take in the gradient of the first step
    after a reset and of every 10th one from there, and decay for the steps in between. That leaves them as they are but
    for the noise, by which `E[g]^2` is off by `(1 - decay^every) / (1 + decay^every)` of the variance: half a percent.

    Args:
        decay: of the moving averages, for one step.
        every: steps between two gradients that are taken in, 1 or more.
        name: of the metric.

    Raises:
        ValueError: for an `every` below 1.

    Example:
    >>> import tensorflow as tf, rebar_tf as rt
    >>> metric = rt.training.LogGradientVariance()
    >>> metric.build_moments([tf.zeros([3])])
    >>> metric.update_state([tf.ones([3])])
    >>> round(float(metric.result()), 2)
    -6.91

    Reference: Tucker et al. 2017, figures App.1 and App.3.
    """

    def __init__(self, decay: float = 0.999, every: int = 10, name: str = "log_grad_variance", **kwargs: Any):
        super().__init__(name=name, **kwargs)
        check_integer("every", every, least=1)
        self.decay, self.every = decay, every
        self.total = self._add((), "total")
        self.count = self._add((), "count")
        self.skipped = self._add((), "skipped")  # steps since the averages took one in
        self.first: list[keras.Variable] = []
        self.second: list[keras.Variable] = []
        self.overflows: Any = None

    def build_moments(self, variables: list[keras.Variable]) -> None:
        """Creates the moving averages, shaped like `variables`."""
        self.first = [self._add(v.shape, f"first_{i}") for i, v in enumerate(variables)]
        self.second = [self._add(v.shape, f"second_{i}") for i, v in enumerate(variables)]
        self.overflows = self._add((), "overflows")  # steps that a loss-scaling optimizer skipped, all in all

    def _add(self, shape: Sequence[int], name: str) -> keras.Variable:
        """A variable that is the same on all replicas of a strategy, as they take in the same gradients."""
        return self.add_variable(shape, "zeros", "float32", aggregation="only_first_replica", name=name)

    def update_state(self, gradients: Sequence[tf.Tensor | Callable[[], tf.Tensor] | None]) -> None:
        """Takes in one step's gradient.

        Args:
            gradients: aligned with the variables of `build_moments`, tensors or functions that return them and are
                called only in a step that is taken in; None counts as 0.
        """
        steps = self.skipped.value + 1.0
        due = tf.logical_or(steps >= self.every, self.count.value == 0.0)
        self.skipped.assign(steps)
        run_if(due, lambda: self._take_in(gradients, steps))

    def _take_in(self, gradients: Sequence[tf.Tensor | Callable[[], tf.Tensor] | None], steps: tf.Tensor) -> None:
        """Moves the averages as `steps` steps of this gradient would."""
        weight = self.weight(steps)
        variance, size = 0.0, 0
        for gradient, first, second in zip(gradients, self.first, self.second, strict=True):
            size += first.value.shape.num_elements()
            if gradient is None:
                continue
            gradient = gradient() if callable(gradient) else gradient
            new_first, new_second = moved(first.value, second.value, gradient, weight)
            first.assign(new_first)
            second.assign(new_second)
            variance += tf.reduce_sum(new_second - tf.square(new_first))
        self.total.assign_add(variance / size)
        self.count.assign_add(1.0)
        self.skipped.assign(0.0)

    def weight(self, steps: tf.Tensor) -> tf.Tensor:
        """Of a gradient that stands for `steps` steps, in the averages."""
        return 1.0 - tf.pow(self.decay, steps)

    def result(self) -> tf.Tensor:
        return tf.math.log(tf.math.divide_no_nan(self.total.value, self.count.value))

    def by_variable(self) -> list[np.ndarray]:
        """`average(g^2) - average(g)^2` of each entry of each variable, as the averages are now."""
        pairs = zip(self.first, self.second, strict=True)
        return [np.asarray(second) - np.square(np.asarray(first)) for first, second in pairs]

    def reset_state(self) -> None:
        self.total.assign(0.0)
        self.count.assign(0.0)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "decay": self.decay, "every": self.every}


def moved(first: tf.Tensor, second: tf.Tensor, gradient: tf.Tensor, weight: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Averages of g and g^2 that have taken in a gradient with this weight."""
    return first + weight * (gradient - first), second + weight * (tf.square(gradient) - second)


def run_if(condition: tf.Tensor, update: Callable[[], None]) -> None:
    """Runs `update`, which assigns to variables, if the condition holds.

    It is a loop of no turn or one: XLA runs the body of a loop in place, where it copies every variable for a
    conditional.
    """

    def body(_: tf.Tensor) -> list[tf.Tensor]:
        update()
        return [tf.constant(False)]

    tf.while_loop(lambda due: due, body, [condition])


def own_value(variable: keras.Variable) -> np.ndarray:
    """A variable's value as this process alone knows it.

    On several machines the value of a metric's variable is the sum of theirs, which they have to ask for together.
    """
    strategy = getattr(variable.value, "distribute_strategy", None)
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return strategy.experimental_local_results(variable.value)[0].numpy()
    return keras.ops.convert_to_numpy(variable)
