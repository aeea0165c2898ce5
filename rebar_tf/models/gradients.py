"""From an estimate at the stochastic layers to the gradient of each variable, and of the estimate's variance.

For a model's variable k the estimate is `g_k = f_k + eta_k h_k`, the plain estimate and the control variate, each a
vector-Jacobian product of the layers between the variable and the stochastic units. The control variables are trained
on `mean g^2`.

A dense layer's weights have the gradient `x^T c`, of its inputs and the cotangent of its outputs. There eta scales the
cotangent, so that one product gives both parts; and half the derivative of `|x^T c|^2` by c is `(x x^T) c`, two small
products for a small batch, where that by the matrix takes one of the matrix's size.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import keras
import tensorflow as tf

from rebar_tf.estimators import Estimate
from rebar_tf.models.dense import Product


@dataclasses.dataclass(frozen=True, eq=False)
class Gradient:
    """An estimate of one variable's gradient, linear in a smaller tensor that the control variables act on.

    Attributes:
        value: g.
        source: what g is linear in: itself, or the cotangent of a dense layer's outputs.
        dual: half the derivative of `|g|^2` by the source.
    """

    value: tf.Tensor
    source: tf.Tensor
    dual: tf.Tensor

    @classmethod
    def whole(cls, value: tf.Tensor) -> Gradient:
        """Of any variable: the gradient is its own source."""
        return cls(value, value, value)

    @classmethod
    def of_kernel(cls, inputs: tf.Tensor, cotangent: tf.Tensor) -> Gradient:
        """`x^T c`, of a dense layer's inputs, `[batch, inputs]`, and its outputs' cotangent, `[batch, outputs]`."""
        value = tf.matmul(inputs, cotangent, transpose_a=True)
        rows, (columns, outputs) = inputs.shape[0], value.shape
        if rows is None or rows * (columns + outputs) >= columns * outputs:
            return cls.whole(value)
        gram = tf.matmul(inputs, inputs, transpose_b=True)
        return cls(value, cotangent, tf.matmul(gram, cotangent))


def combine(
    tape: tf.GradientTape,
    variables: list[keras.Variable],
    estimate: Estimate,
    eta: Callable[[keras.Variable], tf.Tensor],
    added_loss: tf.Tensor | float,
    products: list[Product],
) -> list[Gradient | None]:
    """`g_k = f_k + eta_k h_k` for each variable; None where the objective does not depend on it.

    Args:
        tape: a persistent tape of the estimate's passes that watches the variables.
        variables: the model's.
        estimate: at the stochastic layers.
        eta: from a variable to the scale of its control variate, a scalar or one for each entry of its last axis.
        added_loss: what is added to the objective's mean, such as weight regularisers.
        products: of the dense layers in all passes.
    """

    def gradient(loss: tf.Tensor, sources: Any) -> Any:
        with tape.stop_recording():
            return tape.gradient(loss, sources)

    values = [variable.value for variable in variables]
    plain_loss = tf.reduce_mean(estimate.plain_loss()) + added_loss
    if not estimate.variate:
        return [None if f is None else Gradient.whole(f) for f in after(gradient(plain_loss, values), estimate.plain)]
    outputs = [product.outputs for product in products]
    plain, plain_cotangents = gradient(plain_loss, (values, outputs))
    variate, variate_cotangents = gradient(tf.reduce_mean(estimate.variate_loss()), (values, outputs))
    cotangents = zip(products, plain_cotangents, variate_cotangents, strict=True)
    factored = of_dense_layers(cotangents, variables, eta)
    others = sum(h is not None for h in variate) - len(factored)
    linear = others <= 2 * len(estimate.sites)  # a kernel and a bias for each stochastic layer

    def combined(k: int) -> Gradient | None:
        variable, f, h = variables[k], plain[k], variate[k]
        if id(variable) in factored:
            return factored[id(variable)]
        if h is None:
            return None if f is None else Gradient.whole(f)
        scale = eta(variable)
        if linear and scale.shape.rank == 0:  # as for a dense layer: one product, of the scaled cotangent
            return Gradient.whole(gradient(tf.reduce_mean(estimate.loss(scale)) + added_loss, values[k]))
        return Gradient.whole(scale * h if f is None else f + scale * h)

    return [combined(k) for k in range(len(variables))]


def after(gradients: list[tf.Tensor | None], cotangents: list[tf.Tensor]) -> list[tf.Tensor | None]:
    """The gradients, which are there no sooner than the cotangents.

    They are what the last passes through the model end in. XLA may update a variable as soon as its gradient is there,
    and copies it first if a pass has still to read it.
    """
    if not cotangents:
        return gradients
    zero = 0.0 * tf.add_n([tf.reduce_sum(cotangent) for cotangent in cotangents])
    return [None if gradient is None else gradient + zero for gradient in gradients]


def of_dense_layers(
    cotangents: Iterable[tuple[Product, tf.Tensor | None, tf.Tensor | None]],
    variables: list[keras.Variable],
    eta: Callable[[keras.Variable], tf.Tensor],
) -> dict[int, Gradient]:
    """The gradients of dense layers with a control variate, by the `id` of the variable.

    Args:
        cotangents: of each product's outputs, for the plain estimate and for the control variate; None for no part.
        variables: the trained ones.
        eta: as in `combine`.
    """
    parts = [part for part in cotangents if part[1] is not None or part[2] is not None]
    uses = collections.Counter(id(product.kernel) for product, _, _ in parts)
    trained = {id(variable) for variable in variables}
    gradients = {}
    for product, f, h in parts:
        if h is None or f is None or uses[id(product.kernel)] > 1 or id(product.kernel) not in trained:
            continue
        inputs, f, h = (tf.cast(tensor, tf.float32) for tensor in (product.inputs, f, h))
        gradients[id(product.kernel)] = Gradient.of_kernel(inputs, f + eta(product.kernel) * h)
        gradients[id(product.bias)] = Gradient.whole(tf.reduce_sum(f + eta(product.bias) * h, axis=0))
    return gradients


def mean_square_gradient(
    tape: tf.GradientTape, gradients: list[Gradient | None], control: list[tf.Tensor]
) -> list[tf.Tensor | None]:
    """The gradient of `mean g^2`, the single-sample variance objective up to a constant, by the control variables.

    The factor comes last, on the few control variables: on g it would be one more pass over an array of the model's
    size.
    """
    present = [g for g in gradients if g is not None]
    if not present:
        return [None] * len(control)
    size = sum(g.value.shape.num_elements() for g in present)
    duals = [g.dual for g in present]
    products = tape.gradient([g.source for g in present], control, output_gradients=duals)
    return [product if product is None else product * (2.0 / size) for product in products]


def add_gradients(first: list[tf.Tensor | None], second: list[tf.Tensor | None]) -> list[tf.Tensor | None]:
    """The sums of two lists of gradients, in which None is 0."""
    return [b if a is None else a if b is None else a + b for a, b in zip(first, second, strict=True)]
