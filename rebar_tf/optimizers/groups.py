"""Learning rates for groups of variables, for any Keras optimizer."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from rebar_tf.estimators.control import is_control
from rebar_tf.validation import is_positive

if TYPE_CHECKING:

    class _MixedInto(keras.optimizers.Optimizer):
        """What the mixin is mixed into."""
else:
    _MixedInto = object

CONTROL_GROUP = r"(^|/)control/"  # stands for the variables of estimators, whatever they are named


class LearningRateGroups(_MixedInto):
    """Gives a Keras optimizer a learning rate for each group of variables: derive from this and from the optimizer.

    A variable learns, and decays, at the factor of its group times the learning rate. Weight decay and clipping are for
    the model's variables: they leave alone what trains the estimator, where a decay would pull a log-temperature to 0.

    Args:
        *args: those of the optimizer.
        groups: `{pattern: factor}`; a variable whose `path` matches the regular expression learns at `factor`
            times the rate. The first match counts. The pattern `r"(^|/)control/"` stands for the estimator's variables,
            whatever they are named; by default they have the factor 10.
        **kwargs: those of the optimizer.

    Raises:
        ValueError: for a factor that is neither a positive number nor 0, a pattern that is no regular expression, and
            one that matches no variable.

    Example:
    >>> import keras, rebar_tf as rt
    >>> class SGD(rt.optimizers.LearningRateGroups, keras.optimizers.SGD): pass
    >>> optimizer = SGD(0.1, momentum=0.9, groups={r"(^|/)control/": 10.0, r"encoder": 0.1})
    """

    _decaying_at = 1.0  # the factor of the variables that a weight decay is applied to
    _nothing: tf.Tensor | None = None  # is added to the learning rate: 0, when an update may be made

    def __init__(self, *args: Any, groups: dict[str, float] | None = None, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.groups = {CONTROL_GROUP: 10.0} if groups is None else dict(groups)
        for pattern, factor in self.groups.items():
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"`groups` must have regular expressions: {error}. Received: {pattern!r}") from error
            if not (is_positive(factor) or factor == 0.0):
                raise ValueError(
                    f"`groups` must give each pattern a finite factor of 0 or more. Received: {pattern!r}: {factor!r}"
                )

    def learning_rate_factor(self, variable: keras.Variable) -> float:
        """The factor of the variable's group; 1 for a variable in no group."""
        for pattern, factor in self.groups.items():
            if is_control(variable) if pattern == CONTROL_GROUP else re.search(pattern, variable.path):
                return float(factor)
        return 1.0

    @contextlib.contextmanager
    def updates_after(self, tensors: Sequence[tf.Tensor]) -> Iterator[None]:
        """A block whose updates of variables wait until `tensors` are there, by a rate that depends on them.

        XLA copies a variable that may be updated before its last reader is done, and its runtime makes an update as
        soon as it can, also where a product that everything waits for could be computed instead. The moments of a
        gradient do not wait.

        Args:
            tensors: float32, which come late in a step.
        """
        self._nothing = zero_after(tensors)
        try:
            yield
        finally:
            self._nothing = None

    def build(self, variables: list[keras.Variable]) -> None:
        if not self.built:
            # The paths are read here because an update step gets TensorFlow's variables, which have none.
            self._factors = [self.learning_rate_factor(variable) for variable in variables]
            self._check_groups([variable.path for variable in variables])
        super().build(variables)

    def _check_groups(self, paths: list[str]) -> None:
        """ValueError for a pattern that stands for no variable."""
        idle = [p for p in self.groups if p != CONTROL_GROUP and not any(re.search(p, path) for path in paths)]
        if idle:
            raise ValueError(
                f"`groups` must have patterns that the paths of trained variables match: {', '.join(paths)}. Received: "
                f"{', '.join(map(repr, idle))}"
            )

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        factor = self._factors[self._get_variable_index(variable)]
        learning_rate = learning_rate if factor == 1.0 else learning_rate * factor
        if self._nothing is not None:
            learning_rate = tf.convert_to_tensor(learning_rate)
            learning_rate += tf.cast(self._nothing, learning_rate.dtype)
        super().update_step(gradient, variable, learning_rate)

    def _backend_apply_gradients(self, grads: list[tf.Tensor], trainable_variables: list[keras.Variable]) -> None:
        self._clipped = [not is_control(variable) for variable in trainable_variables]
        super()._backend_apply_gradients(grads, trainable_variables)

    def _clip_gradients(self, grads: list[tf.Tensor]) -> list[tf.Tensor]:
        of_model = [g for g, clip in zip(grads, self._clipped, strict=True) if clip]
        clipped = iter(super()._clip_gradients(of_model) if of_model else [])
        return [next(clipped) if clip else g for g, clip in zip(grads, self._clipped, strict=True)]

    def _apply_weight_decay(self, variables: list[keras.Variable]) -> None:
        of_model = [variable for variable in variables if not is_control(variable)]
        factors = [self._factors[self._get_variable_index(variable)] for variable in of_model]
        for factor in sorted(set(factors)):
            self._decaying_at = factor
            super()._apply_weight_decay([v for v, f in zip(of_model, factors, strict=True) if f == factor])
        self._decaying_at = 1.0

    def _get_current_learning_rate(self) -> Any:
        rate = super()._get_current_learning_rate()
        return rate if self._decaying_at == 1.0 else rate * self._decaying_at

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "groups": dict(self.groups)}


def zero_after(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    """0, float32, which is there when all of `tensors` are: of the first entry of each, whatever it is, no bit is left.

    A compiler that knew the result would compute it at once; none of them follows bits through two shifts.
    """
    entries = tf.add_n([tf.reduce_sum(tf.reshape(tensor, [-1])[:1]) for tensor in tensors])
    sign = tf.bitwise.right_shift(tf.bitcast(entries, tf.uint32), tf.constant(31, tf.uint32))
    return tf.cast(tf.bitwise.right_shift(sign, tf.constant(1, tf.uint32)), tf.float32)
