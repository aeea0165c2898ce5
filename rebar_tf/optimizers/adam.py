"""Adam as the paper uses it."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf

from rebar_tf.optimizers.groups import LearningRateGroups


class _PaperAdam(keras.optimizers.Adam):
    """Keras's Adam with bias corrections that are exact for any `beta_2`."""

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        index = self._get_variable_index(variable)
        first, second = self._momentums[index], self._velocities[index]
        gradient = tf.cast(tf.convert_to_tensor(gradient), variable.dtype)
        step = tf.cast(self.iterations + 1, tf.float32)
        rate = self.corrected(learning_rate, step)
        new_first, new_second = self.new_moments(gradient, first.value, second.value)
        first.assign(new_first)
        second.assign(new_second)
        if self.amsgrad:
            largest = self._velocity_hats[index]
            new_second = tf.maximum(largest.value, new_second)
            largest.assign(new_second)
        variable.assign_sub(self.change(tf.cast(rate, variable.dtype), new_first, new_second))

    def corrected(self, learning_rate: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        """The learning rate of step 1, 2, ..., float32, with the corrections of both moments."""
        rate = tf.cast(learning_rate, tf.float32)
        return rate * (tf.sqrt(_one_minus_power(self.beta_2, step)) / _one_minus_power(self.beta_1, step))

    def new_moments(self, gradient: tf.Tensor, first: tf.Tensor, second: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Both moments with one more gradient."""
        new_first = first + (1.0 - self.beta_1) * (gradient - first)
        return new_first, second + (1.0 - self.beta_2) * (tf.square(gradient) - second)

    def change(self, rate: tf.Tensor, first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
        """What a variable loses in a step."""
        return rate * first / (tf.sqrt(second) + self.epsilon)


@keras.saving.register_keras_serializable("rebar_tf")
class Adam(LearningRateGroups, _PaperAdam):
    """Adam with `beta_2 = 0.99999` and a learning rate for each group of variables.

    The temperature is learned online from single-sample estimates of a variance, whose distribution is heavy-tailed.
    Adam divides by the same gradients that it averages, which biases its steps; a smaller beta_2 makes the bias larger
    (appendix G, footnote 6). Baselines, control-variate scales and temperature learn at ten times the model's rate.

    Args:
        learning_rate: of the model's variables: a number, a schedule or a function without arguments.
        beta_1: decay of the first moment.
        beta_2: decay of the second moment.
        epsilon: added to the root of the second moment.
        groups: `{pattern: factor}`, as of `LearningRateGroups`. By default the estimator's variables have the factor
            10.
        **kwargs: those of `keras.optimizers.Adam`. Weight decay and clipping are for the model's variables.

    Raises:
        ValueError: for a learning rate that is not positive, or a factor that is negative.

    Example:
    >>> import rebar_tf as rt
    >>> optimizer = rt.optimizers.Adam(3e-4, groups={r"(^|/)control/": 10.0, r"encoder": 0.1})

    Reference: Kingma & Ba 2014; Tucker et al. 2017, appendix G.
    """

    def __init__(
        self,
        learning_rate: float | keras.optimizers.schedules.LearningRateSchedule = 3e-4,
        beta_1: float = 0.9,
        beta_2: float = 0.99999,
        epsilon: float = 1e-8,
        groups: dict[str, float] | None = None,
        name: str = "adam",
        **kwargs: Any,
    ):
        if isinstance(learning_rate, (int, float)) and not 0.0 < learning_rate < math.inf:
            raise ValueError(f"`learning_rate` must be a positive number. Received: learning_rate={learning_rate!r}")
        super().__init__(learning_rate, beta_1, beta_2, epsilon, groups=groups, name=name, **kwargs)


def _one_minus_power(beta: float, step: tf.Tensor) -> tf.Tensor:
    """`1 - beta^step`, which float32 would round to nothing for beta near 1 and a small step."""
    return -tf.math.expm1(step * math.log(beta))
