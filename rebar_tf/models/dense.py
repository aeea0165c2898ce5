"""Dense layers whose weights' gradients are kept as the two factors that they are the product of."""

from __future__ import annotations

import dataclasses

import keras
import tensorflow as tf

from rebar_tf import sampling


@dataclasses.dataclass(frozen=True, eq=False)
class Product:
    """`z = x W + b` in one pass. With c the cotangent of z, the gradient of W is `x^T c`, and that of b its sum.

    Attributes:
        inputs: x, `[batch, inputs]`.
        outputs: z, `[batch, outputs]`.
        kernel: W.
        bias: b.
    """

    inputs: tf.Tensor
    outputs: tf.Tensor
    kernel: keras.Variable
    bias: keras.Variable


@keras.saving.register_keras_serializable("rebar_tf")
class Dense(keras.layers.Dense):
    """Keras's `Dense`, which tells the pass that it runs in of its product.

    Its variables must have no other use: the training takes their gradients from the products (`models/gradients.py`).
    """

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        outputs = keras.ops.add(keras.ops.matmul(inputs, self.kernel), self.bias)
        sampler = sampling.current()
        if sampler is not None:
            sampler.products.append(Product(inputs, outputs, self.kernel, self.bias))
        return self.activation(outputs)
