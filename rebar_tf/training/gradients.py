"""From an estimate at the stochastic layers to the gradient of each variable, and of the estimate's variance.

For a model's variable k the estimate is `g_k = f_k + eta_k h_k`, the plain estimate and the control variate, each a
vector-Jacobian product of the layers between the variable and the stochastic units. The control variables are trained
on `mean g^2`.

A dense layer's weights have the gradient `x^T c`, of its inputs and the cotangent of its outputs. There eta scales the
cotangent, so that one product gives both parts; and half the derivative of `|x^T c|^2` by c is `(x x^T) c`, two small
products for a small batch, where that by the matrix takes one of the matrix's size.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TypeAlias

import keras
import tensorflow as tf

from rebar_tf.estimators import Estimate
from rebar_tf.sampling import loss_scale, scaled_gradients
from rebar_tf.training.factored_dense import Product

MaybeTensor: TypeAlias = tf.Tensor | None


@dataclasses.dataclass(frozen=True, eq=False)
class Gradient:
    """An estimate of one variable's gradient, linear in a smaller tensor that the control variables act on.

    Attributes:
        value: g.
        source: what g is linear in: itself, or the cotangent c of a dense layer's outputs.
        inputs: x, where g is `x^T c`; None where g is its own source.
    """

    value: tf.Tensor
    source: tf.Tensor
    inputs: tf.Tensor | None = None

    @classmethod
    def whole(cls, value: tf.Tensor) -> Gradient:
        """Of any variable: the gradient is its own source."""
        return cls(value, value)

    @classmethod
    def of_kernel(cls, inputs: tf.Tensor, cotangent: tf.Tensor) -> Gradient:
        """`x^T c`, of a dense layer's inputs, `[batch, inputs]`, and its outputs' cotangent, `[batch, outputs]`."""
        value = kernel_gradient(inputs, cotangent)
        rows, (columns, outputs) = inputs.shape[0], value.shape
        if rows is None or rows * (columns + outputs) >= columns * outputs:
            return cls.whole(value)
        return cls(value, cotangent, inputs)

    def computed_anew(self) -> tf.Tensor:
        """g, by the product in the place of this call: a branch that is seldom taken computes it seldom."""
        return self.value if self.inputs is None else kernel_gradient(self.inputs, self.source)

    @property
    def dual(self) -> tf.Tensor:
        """Half the derivative of `|g|^2` by the source: `(x x^T) c`, or g itself."""
        if self.inputs is None:
            return self.value
        return tf.matmul(tf.matmul(self.inputs, self.inputs, transpose_b=True), self.source)


def kernel_gradient(inputs: tf.Tensor, cotangent: tf.Tensor) -> tf.Tensor:
    """`x^T c`, of a dense layer's inputs and its outputs' cotangent."""
    return tf.matmul(inputs, cotangent, transpose_a=True)


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """What one product of a dense layer adds to the gradient of its kernel or its bias.

    Attributes:
        inputs: x, for a kernel; None for a bias.
        plain: the outputs' cotangent of the plain estimate; None where it has none.
        variate: that of the control variate.
    """

    inputs: MaybeTensor
    plain: MaybeTensor
    variate: MaybeTensor

    def gradient(self, eta: tf.Tensor | None) -> Gradient:
        """`x^T (c_f + eta c_h)`, or the sum of the cotangent over the batch."""
        cotangent = scaled_sum(self.plain, self.variate, eta)
        if self.inputs is None:
            return Gradient.whole(tf.reduce_sum(cotangent, axis=0))
        return Gradient.of_kernel(self.inputs, cotangent)


def combine(
    tape: tf.GradientTape,
    variables: list[keras.Variable],
    etas: Sequence[MaybeTensor],
    estimate: Estimate,
    added_loss: tf.Tensor | float,
    products: list[Product],
) -> list[Gradient | None]:
    """`g_k = f_k + eta_k h_k` for each variable; None where the objective does not depend on it.

    Args:
        tape: a persistent tape of the estimate's passes that watches the variables.
        variables: the model's.
        etas: of each variable the scale of its control variate, a scalar or one for each entry of its last axis; None
            for every variable where the estimate has no control variate.
        estimate: at the stochastic layers.
        added_loss: what is added to the objective's mean, such as weight regularisers.
        products: of the dense layers in all passes; the tape knows of all other uses of their weights.
    """
    sources = [variable.value for variable in variables] + [product.outputs for product in products]

    def gradients(loss: tf.Tensor) -> tuple[list[MaybeTensor], list[MaybeTensor]]:
        with tape.stop_recording():
            found = scaled_gradients(tape, loss, sources)
        # Rows that were looked up get the gradient of the whole table.
        found = [None if g is None else tf.cast(tf.convert_to_tensor(g), tf.float32) for g in found]
        return found[: len(variables)], found[len(variables) :]

    plain, plain_cotangents = gradients(tf.reduce_mean(estimate.plain_loss()) + added_loss)
    variate, variate_cotangents = [None] * len(variables), [None] * len(products)
    if estimate.variate:
        variate, variate_cotangents = gradients(tf.reduce_mean(estimate.variate_loss()))
    recorded = list(zip(products, plain_cotangents, variate_cotangents, strict=True))
    # One product of a scaled cotangent is less than two and a sum, for few variables (a kernel and a bias a layer).
    few = sum(h is not None for h in variate) <= 2 * len(estimate.sites)

    def combined(variable: keras.Variable, eta: MaybeTensor, f: MaybeTensor, h: MaybeTensor) -> Gradient | None:
        parts = parts_of(variable, recorded)
        if h is not None and eta is not None and not parts and few and eta.shape.rank == 0:
            loss = tf.reduce_mean(estimate.loss(eta)) + added_loss
            with tape.stop_recording():
                (whole,) = scaled_gradients(tape, loss, [variable.value])
            return Gradient.whole(tf.cast(tf.convert_to_tensor(whole), tf.float32))
        if len(parts) == 1 and f is None and h is None:
            return parts[0].gradient(eta)
        other_uses = scaled_sum(f, h, eta)
        values = [part.gradient(eta).value for part in parts] + ([] if other_uses is None else [other_uses])
        return Gradient.whole(tf.add_n(values)) if values else None

    found = [combined(*of_variable) for of_variable in zip(variables, etas, plain, variate, strict=True)]
    for variable, gradient in zip(variables, found, strict=True):
        if gradient is not None:
            gradient.value.set_shape(variable.shape)  # which is lost where it comes out of a loop
    return found


def parts_of(variable: keras.Variable, recorded: list[tuple[Product, MaybeTensor, MaybeTensor]]) -> list[Part]:
    """What the recorded products, with the two cotangents of their outputs, add to a variable's gradient."""
    parts: list[Part] = []
    for product, plain, variate in recorded:
        if plain is None and variate is None:
            continue
        if product.kernel is variable:
            parts.append(Part(tf.cast(product.inputs, tf.float32), plain, variate))
        elif product.bias is variable:
            parts.append(Part(None, plain, variate))
    return parts


def scaled_sum(f: MaybeTensor, h: MaybeTensor, eta: MaybeTensor) -> MaybeTensor:
    """`f + eta h`, in which None is 0; None if both are."""
    if h is None:
        return f
    return eta * h if f is None else f + eta * h


def mean_square_gradient(
    tape: tf.GradientTape, gradients: list[Gradient | None], control: list[tf.Tensor]
) -> list[MaybeTensor]:
    """The gradient of `mean g^2`, the single-sample variance objective up to a constant, by the control variables.

    The factor comes last, on the few control variables: on g it would be one more pass over an array of the model's
    size.
    """
    present = [g for g in gradients if g is not None]
    if not present:
        return [None] * len(control)
    size = sum(g.value.shape.num_elements() for g in present)
    # A gradient has been divided by the scale, so that its square meets half precision at the scale's square.
    scale = loss_scale()
    square = 1.0 if scale is None else scale * scale
    duals = [g.dual if scale is None else g.dual * square for g in present]
    products = tape.gradient([g.source for g in present], control, output_gradients=duals)
    return [product if product is None else product * (2.0 / size / square) for product in products]


def add_gradients(first: list[MaybeTensor], second: list[MaybeTensor]) -> list[MaybeTensor]:
    """The sums of two lists of gradients, in which None is 0."""
    return [b if a is None else a if b is None else a + b for a, b in zip(first, second, strict=True)]
