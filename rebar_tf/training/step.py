"""One step: the estimate of the gradient of every variable that is trained."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING, Any

import tensorflow as tf
from keras.src.losses.loss import scale_loss_for_distribution

from rebar_tf.estimators import Estimate, Estimator
from rebar_tf.sampling import scaled_losses
from rebar_tf.training.factored_dense import record_products
from rebar_tf.training.gradients import Gradient, MaybeTensor, add_gradients, combine, mean_square_gradient
from rebar_tf.training.keras_loss import batch_mean, refusing_coupled, refusing_sums
from rebar_tf.training.objective import BatchObjective, add_losses

if TYPE_CHECKING:
    from rebar_tf.training.model import StochasticTraining


@dataclasses.dataclass(frozen=True, eq=False)
class StepEstimate:
    """What one estimate gives a step.

    Attributes:
        loss: scalar, the objective's batch mean at hard samples, with the losses that layers add.
        y_pred: the model's outputs in the hard pass.
        model_gradients: aligned with `model.model_variables`, float32; None where the objective does not depend on a
            variable.
        control_gradients: the tensors, aligned with `model.control_variables` likewise.
        gradients: the tensors, aligned with `model.trainable_variables` likewise, each in the dtype of its variable; on
            a replica of a distribution strategy its share of them.
    """

    loss: tf.Tensor
    y_pred: Any
    model_gradients: list[Gradient | None]
    control_gradients: list[MaybeTensor]
    gradients: list[MaybeTensor]


def estimate_step(
    model: StochasticTraining, x: Any, y: Any, sample_weight: tf.Tensor | None, step: tf.Tensor | None = None
) -> StepEstimate:
    """Runs the passes of the model's estimator at fresh samples, and differentiates.

    For model variables `g_k = f_k + eta_k h_k`: the plain estimate and the control variate, each a vector-Jacobian
    product of the layer's cotangents. For control variables the gradient of what trains them: the variance objective
    `mean g^2`, the baseline's squared error, or both.

    Args:
        model: with its estimator.
        x: a batch of inputs.
        y: a batch of targets.
        sample_weight: `[batch]`, or None.
        step: the number of the step, by which the noise is drawn, and which the caller counts; None for the one after
            the estimator's last, which then is the estimator's.
    """
    objective = BatchObjective(model, x, y, sample_weight)
    with scaled_losses(optimizer_scale(model)):
        estimate, added_loss, found, control_gradients = estimate_gradients(model, objective, step)
    values = [gradient and gradient.value for gradient in found]
    with tf.control_dependencies([g for g in [*values, *control_gradients] if g is not None]):
        # What is assigned from here on waits for all passes to end. TensorFlow orders a variable's reads and updates by
        # itself, but its graph optimizer drops some of that order: a last layer, whose gradient is there after the hard
        # pass, was updated before a relaxed pass read it.
        values, control_gradients = (
            [g if g is None else tf.identity(g) for g in tensors] for tensors in (values, control_gradients)
        )
        objective.assign_updates()
    loss = batch_mean(estimate.value) + added_loss
    pairs = zip([*values, *control_gradients], model.trainable_variables, strict=True)
    # Optimizers add up the gradients of all replicas, as they add up those of Keras's loss.
    shares = [(g if g is None else scale_loss_for_distribution(g), variable) for g, variable in pairs]
    return StepEstimate(
        loss=objective.keras_loss() if objective.is_coupled else loss,
        y_pred=objective.y_pred,
        model_gradients=[g and dataclasses.replace(g, value=v) for g, v in zip(found, values, strict=True)],
        control_gradients=control_gradients,
        gradients=[g if g is None else tf.cast(g, variable.dtype) for g, variable in shares],
    )


def estimate_gradients(
    model: StochasticTraining, objective: BatchObjective, step: tf.Tensor | None
) -> tuple[Estimate, tf.Tensor | float, list[Gradient | None], list[MaybeTensor]]:
    """The model's estimate, the losses added to it, and the gradients of model and control variables, float32."""
    variables, estimator = model.model_variables, model.estimator
    control = [variable.value for variable in model.control_variables]
    step = estimator.step.value.assign_add(1) if step is None else step
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as control_tape:
        control_tape.watch(control)
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch([variable.value for variable in variables])
            with record_products(tape) as products, served(estimator):
                estimate = estimator.estimate(objective, step, model.baseline_context(objective.x, objective.y))
            added_loss = add_losses([*objective.direct_losses, *model.regularization_losses])
            etas = model.variable_etas() if estimate.variate else [None] * len(variables)
            gradients = combine(tape, variables, etas, estimate, added_loss, products)
    control_gradients: list[MaybeTensor] = [None] * len(control)
    if estimate.control_loss is not None:
        control_gradients = control_tape.gradient(estimate.control_loss, control)
    if estimator.minimizes_variance:
        control_gradients = add_gradients(control_gradients, mean_square_gradient(control_tape, gradients, control))
    return estimate, added_loss, gradients, control_gradients


def optimizer_scale(model: StochasticTraining) -> tf.Tensor | None:
    """What a loss-scaling optimizer multiplies the loss by before its backward pass; None for any other optimizer."""
    optimizer = getattr(model, "optimizer", None)
    scale = 1.0 if optimizer is None else optimizer.scale_loss(1.0)
    return None if isinstance(scale, float) and scale == 1.0 else tf.cast(tf.convert_to_tensor(scale), tf.float32)


def all_finite(gradients: list[MaybeTensor]) -> tf.Tensor:
    """Whether no gradient overflowed."""
    return tf.reduce_all([tf.reduce_all(tf.math.is_finite(g)) for g in gradients if g is not None])


def served(estimator: Estimator) -> contextlib.AbstractContextManager:
    """A block that refuses an objective which mixes the examples, for an estimator that takes them one by one."""
    if estimator.serves_coupled:
        return contextlib.nullcontext()
    name = f"Estimator {estimator.estimator_name!r}"
    block = contextlib.ExitStack()
    block.enter_context(refusing_coupled(name, " Use another one, such as rebar or rloo."))
    if estimator.objective == "bound":
        block.enter_context(refusing_sums(name))
    return block
