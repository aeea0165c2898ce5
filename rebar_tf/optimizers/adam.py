"""Adam as the paper uses it, with learning-rate groups."""

from __future__ import annotations

import math
import re
from typing import Any

import keras
import tensorflow as tf

CONTROL_GROUP = r"(^|/)control/"


@keras.saving.register_keras_serializable("rebar_tf")
class Adam(keras.optimizers.Adam):
    """Adam with `beta_2 = 0.99999` and a learning rate for each group of variables.

    The temperature is learned online from single-sample estimates of a variance, whose distribution is heavy-tailed.
    Adam divides by the same gradients that it averages, which biases its steps; a smaller beta_2 makes the bias larger
    (appendix G, footnote 6). Baselines, control-variate scales and temperature learn at ten times the model's rate.

    Args:
        learning_rate: of the model's variables: a number or a schedule.
        beta_1: decay of the first moment.
        beta_2: decay of the second moment.
        epsilon: added to the root of the second moment.
        groups: `{pattern: factor}`; a variable whose `path` matches the regular expression learns at `factor`
            times the rate. The first match counts. By default the estimator's variables have the factor 10.
        **kwargs: those of `keras.optimizers.Adam`. Weight decay and clipping are for the model's variables: they leave
            alone what trains the estimator, where a decay would pull a log-temperature to 0.

    Raises:
        ValueError: for a learning rate that is not positive.

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
        super().__init__(learning_rate, beta_1=beta_1, beta_2=beta_2, epsilon=epsilon, name=name, **kwargs)
        self.groups = {CONTROL_GROUP: 10.0} if groups is None else dict(groups)

    def learning_rate_factor(self, variable: keras.Variable) -> float:
        """The factor of the variable's group; 1 for a variable in no group."""
        for pattern, factor in self.groups.items():
            if re.search(pattern, variable.path):
                return factor
        return 1.0

    def build(self, variables: list[keras.Variable]) -> None:
        # The paths are read here because an update step gets TensorFlow's variables, which have none.
        self._factors = [self.learning_rate_factor(variable) for variable in variables]
        if not self.built:
            chosen, pattern = (getattr(self, f"_exclude_from_weight_decay{end}", None) for end in ("", "_pattern"))
            self.exclude_from_weight_decay(var_list=[v for v in variables if is_control(v)])
            self._exclude_from_weight_decay |= chosen or set()
            self._exclude_from_weight_decay_pattern = pattern
        super().build(variables)

    def apply(self, grads: list[tf.Tensor | None], trainable_variables: list[keras.Variable] | None = None) -> None:
        variables = self._trainable_variables if trainable_variables is None else list(trainable_variables)
        self._clipped = [not is_control(v) for v, g in zip(variables, grads, strict=True) if g is not None]
        super().apply(grads, variables)

    def _clip_gradients(self, grads: list[tf.Tensor]) -> list[tf.Tensor]:
        of_model = iter(super()._clip_gradients([g for g, clip in zip(grads, self._clipped, strict=True) if clip]))
        return [next(of_model) if clip else g for g, clip in zip(grads, self._clipped, strict=True)]

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        index = self._get_variable_index(variable)
        first, second = self._momentums[index], self._velocities[index]
        step = tf.cast(self.iterations + 1, tf.float32)
        rate = tf.cast(learning_rate, tf.float32) * self._factors[index]
        rate *= tf.sqrt(_one_minus_power(self.beta_2, step)) / _one_minus_power(self.beta_1, step)
        new_first = first.value + (1.0 - self.beta_1) * (gradient - first.value)
        new_second = second.value + (1.0 - self.beta_2) * (tf.square(gradient) - second.value)
        first.assign(new_first)
        second.assign(new_second)
        if self.amsgrad:
            largest = self._velocity_hats[index]
            new_second = tf.maximum(largest.value, new_second)
            largest.assign(new_second)
        variable.assign_sub(tf.cast(rate, variable.dtype) * new_first / (tf.sqrt(new_second) + self.epsilon))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "groups": self.groups}


def is_control(variable: keras.Variable) -> bool:
    """Whether a variable is one of an estimator's: temperature, scale, baseline."""
    return re.search(CONTROL_GROUP, variable.path) is not None


def _one_minus_power(beta: float, step: tf.Tensor) -> tf.Tensor:
    """`1 - beta^step`, which float32 would round to nothing for beta near 1 and a small step."""
    return -tf.math.expm1(step * math.log(beta))
