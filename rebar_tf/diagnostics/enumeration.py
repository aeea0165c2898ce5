"""The exact gradient of an expectation over few discrete units, by enumeration of their states.

Of a compiled model it is that of Keras's own loss: the model's `compute_loss` at forced samples, which are ordinary
outputs of its layers. Nothing of the objective that the estimators evaluate is in it.
"""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rebar_tf.estimators.base import check_trace
from rebar_tf.estimators.exact import MAX_STATES, joint_state, state_tables
from rebar_tf.sampling import ForcedSampler, HardSampler
from rebar_tf.training import StochasticTraining
from rebar_tf.training.keras_loss import refusing_coupled
from rebar_tf.training.objective import BatchObjective, add_losses
from rebar_tf.training.parts import map_parts

_NUM_TRIALS = 8  # random joint samples at which a loss must be a sum over the examples


def exact_gradients(model: StochasticTraining, x: Any, y: Any = None, sample_weight: Any = None) -> list[np.ndarray]:
    """Gradient of the exact expected objective, for each of `model.model_variables`, by enumeration of all states.

    Of a compiled model the objective is the loss that Keras's `fit` would minimise. A model that overrides `objective`
    has that one; and the expectation is the estimator's own, which for a multi-sample bound is not the mean of f.

    Args:
        model: a model with at most 4,096 joint states of the stochastic units of one example.
        x: a batch of inputs.
        y: targets.
        sample_weight: as Keras takes it, or None.

    Raises:
        ValueError: for more than 4,096 states, of an example or, where the loss mixes examples, of the batch; and for a
            mixed batch in a bound or in an `objective` of the model's own.
    """
    return exact_loss_and_gradients(model, x, y, sample_weight)[1]


def exact_loss_and_gradients(
    model: StochasticTraining, x: Any, y: Any = None, sample_weight: Any = None
) -> tuple[float, list[np.ndarray]]:
    """The exact expected objective, and its gradient as of `exact_gradients`."""
    model._build_from(x)
    if not minimizes_keras_loss(model):
        return _stacked_expectation(model, x, y, sample_weight)
    loss = ForcedLoss(model, x, y, sample_weight)
    if loss.num_joint_states > MAX_STATES and not loss.is_separable():
        raise ValueError(
            f"The loss of model {model.name!r} mixes the examples of the batch, so that the joint states of the whole "
            f"batch must be enumerated, at most {MAX_STATES}: use a smaller batch. Received: "
            f"{loss.num_joint_states} joint states of {loss.num_examples} examples"
        )
    return _expectation(loss)


def minimizes_keras_loss(model: StochasticTraining) -> bool:
    """Whether the estimate is that of the mean of Keras's loss."""
    return not model.has_own_objective and model.estimator.objective == "expectation"


class ForcedLoss:
    """The loss of a batch that Keras would minimise, at given states of the stochastic units.

    Every evaluation starts from the model's state as it is, and leaves it so.

    Args:
        model: a compiled model.
        x: a batch of inputs.
        y: targets.
        sample_weight: as Keras takes it, or None.

    Attributes:
        tables: for each call of a stochastic layer all samples of one of its rows, `[states, ...]`.
        rows: of each call: as many as examples, or one, of units that the whole batch shares.
    """

    def __init__(self, model: StochasticTraining, x: Any, y: Any, sample_weight: Any):
        self.model = model
        self.x, self.y, self.sample_weight = (map_parts(tf.identity, data) for data in (x, y, sample_weight))
        with self._scope(), HardSampler(step=0, training=False) as trace:
            model(self.x, training=True)
        check_trace(trace)
        self.tables = state_tables(trace)
        self.rows = [site.logits.shape[0] for site in trace]
        self.num_examples = max(self.rows)
        self.num_states = math.prod(len(table) for table in self.tables)
        self.num_joint_states = math.prod(len(t) ** rows for t, rows in zip(self.tables, self.rows, strict=True))

    def __call__(self, states: list[Any]) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """`(loss, log_p)`: a scalar, and for each call `log p` of its rows, `[rows]`.

        Args:
            states: for each call the number of each row's state, `[rows]`.
        """

        def sample(i: int, logits: tf.Tensor) -> tf.Tensor:
            return tf.zeros_like(logits) + tf.gather(self.tables[i], states[i])

        with self._scope(), ForcedSampler(sample) as forced:
            y_pred = self.model(self.x, training=True)
            loss = self.model._compute_loss(self.x, self.y, y_pred, self.sample_weight, training=True)
        return tf.cast(loss, tf.float32), forced.log_probs

    def _scope(self) -> keras.StatelessScope:
        variables = [(v, v.value) for v in self.model.trainable_variables]  # regularisers read what is given only
        return keras.StatelessScope(variables, collect_losses=True)

    def joint_states(self, number: tf.Tensor) -> list[tf.Tensor]:
        """The states of all rows, of a number below `num_joint_states`."""
        states = []
        for table, rows in zip(self.tables, self.rows, strict=True):
            states.append(number // len(table) ** np.arange(rows) % len(table))
            number = number // len(table) ** rows
        return states

    def states_of_examples(self, numbers: Any) -> list[Any]:
        """The states of all rows, of one number below `num_states` for each example, `[examples]`."""
        states = []
        for table in self.tables:
            states.append(numbers % len(table))
            numbers = numbers // len(table)
        return states

    def is_separable(self) -> bool:
        """Whether the loss is a sum of functions of single examples, by trial at random samples.

        Then `L(b) = L(0) + sum_i (L(0 but for b_i) - L(0))`, and an example's probabilities are its own as well.
        """
        if min(self.rows) < self.num_examples:
            return False
        own = np.eye(self.num_examples, dtype=np.int64)
        reference, _ = self(self.states_of_examples(0 * own[0]))
        for numbers in self.random_numbers():
            loss, log_p = self(self.states_of_examples(numbers))
            alone = [self(self.states_of_examples(row * numbers)) for row in own]
            changes = np.array([float(each - reference) for each, _ in alone])
            own_log_p = np.stack([np.stack(p)[:, i] for i, (_, p) in enumerate(alone)], axis=1)
            size = abs(float(reference)) + np.abs(changes).sum()
            if abs(float(loss - reference) - changes.sum()) > 1e-5 * size:
                return False
            if not np.allclose(np.stack(log_p), own_log_p, rtol=1e-4, atol=1e-4):
                return False
        return True

    def random_numbers(self) -> np.ndarray:
        """States to try, one number for each example: `[trials, examples]`."""
        return np.random.default_rng(0).integers(self.num_states, size=[_NUM_TRIALS, self.num_examples])


def check_repeatable(
    model: StochasticTraining, once: tuple[Any, Any, Any], repeated: tuple[Any, Any, Any], repeats: int
) -> None:
    """ValueError unless the loss of a batch in which each example stands several times has the same expectation.

    Args:
        model: whose loss it is.
        once: `(x, y, sample_weight)`.
        repeated: the same with each row `repeats` times.
        repeats: 2 or more.
    """
    if not minimizes_keras_loss(model):
        return
    loss, of_repeated = ForcedLoss(model, *once), ForcedLoss(model, *repeated)
    pairs = (
        (
            loss(loss.states_of_examples(numbers))[0],
            of_repeated(loss.states_of_examples(np.repeat(numbers, repeats)))[0],
        )
        for numbers in loss.random_numbers()
    )
    if not (loss.is_separable() and all(np.allclose(*pair, rtol=1e-4) for pair in pairs)):
        raise ValueError(
            f"`repeats` must be 1 where the loss is not a mean over the examples of functions of each: that of model "
            f"{model.name!r} mixes them, sums over them, or has other noise in a larger batch. Received: "
            f"repeats={repeats}"
        )


def _expectation(loss: ForcedLoss) -> tuple[float, list[np.ndarray]]:
    """`E[L]` and its gradient, over the joint states of the batch or, where those are too many, of each example.

    Of a loss that is a sum of functions of single examples,

        E[L] = L(0) + sum_i sum_s p_i(s) (L(0 but for b_i = s) - L(0)).
    """
    examples, variables = loss.num_examples, [variable.value for variable in loss.model.model_variables]
    jointly = loss.num_joint_states <= MAX_STATES
    count = loss.num_joint_states if jointly else examples * loss.num_states + 1

    def joint_term(n: tf.Tensor) -> tf.Tensor:
        value, log_p = loss(loss.joint_states(n))
        return tf.exp(tf.add_n([tf.reduce_sum(part) for part in log_p])) * value

    def single_term(n: tf.Tensor) -> tf.Tensor:
        own = tf.one_hot(n // loss.num_states, examples, dtype=tf.int64)  # the last term is that of L(0): no example's
        value, log_p = loss(loss.states_of_examples(own * (n % loss.num_states)))
        p = tf.exp(tf.reduce_sum(tf.cast(own, tf.float32) * tf.add_n(log_p)))
        return tf.where(n < count - 1, p, 1.0 - examples) * value

    def add_term(n: tf.Tensor, *sums: tf.Tensor) -> tuple[tf.Tensor, ...]:
        with tf.GradientTape() as tape:
            term = joint_term(n) if jointly else single_term(n)
        gradients = tape.gradient(term, variables, unconnected_gradients="zero")
        new = [tf.cast(tf.convert_to_tensor(part), tf.float64) for part in (term, *gradients)]
        return n + 1, *(total + part for total, part in zip(sums, new, strict=True))

    @tf.function(autograph=False)
    def accumulate() -> list[tf.Tensor]:
        zeros = [tf.zeros(shape, tf.float64) for shape in ([], *(variable.shape for variable in variables))]
        return tf.while_loop(lambda n, *_: n < count, add_term, [tf.constant(0, tf.int64), *zeros])[1:]

    value, *gradients = accumulate()
    return float(value), [np.asarray(gradient) for gradient in gradients]


def _stacked_expectation(
    model: StochasticTraining, x: Any, y: Any, sample_weight: Any
) -> tuple[float, list[np.ndarray]]:
    """The expectation that the estimator is unbiased for, of an objective that takes the examples one by one.

    The states are stacked on the batch axis: one evaluation of the objective at `states * batch` rows.
    """
    variables = [variable.value for variable in model.model_variables]
    with tf.GradientTape() as tape:
        objective = BatchObjective(model, x, y, sample_weight)
        with HardSampler(step=0, training=False) as trace, refusing_coupled("Enumeration"):
            batch = objective().shape[0]
        tables = state_tables(trace)
        number = tf.range(math.prod(table.shape[0] for table in tables))

        def stack(part: tf.Tensor) -> tf.Tensor:
            return tf.tile(part, [len(number), *(1 for _ in part.shape[1:])])

        stacked = BatchObjective(model, *(map_parts(stack, data) for data in (x, y, sample_weight)))
        estimator = model.estimator
        states = joint_state(tables, tf.repeat(number, batch))
        with ForcedSampler(states, score_in_density=estimator.through_density) as forced:
            f = stacked()
        f, log_p = (tf.reshape(tf.cast(part, tf.float32), [-1, batch]) for part in (f, forced.log_prob))
        value = tf.reduce_mean(estimator.exact_target(f, log_p))
        value += add_losses([*objective.direct_losses, *model.regularization_losses])
    gradients = tape.gradient(value, variables, unconnected_gradients="zero")
    return float(value), [np.asarray(tf.convert_to_tensor(gradient), np.float64) for gradient in gradients]
