"""Dense layers whose weights' gradients are kept as the two factors that they are the product of."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Iterator

import keras
import tensorflow as tf

_active = threading.local()  # replicas of a distribution strategy run in threads of their own


@dataclasses.dataclass(frozen=True, eq=False)
class Product:
    """`z = x W + b` in one pass. With c the cotangent of z, its part of W's gradient is `x^T c`, and of b's the sum.

    Attributes:
        inputs: x, `[batch, inputs]`.
        outputs: z, `[batch, outputs]`.
        kernel: W.
        bias: b, or None.
    """

    inputs: tf.Tensor
    outputs: tf.Tensor
    kernel: keras.Variable
    bias: keras.Variable | None


class _Recorder:
    """The products of the dense layers that run in one graph while it is active."""

    def __init__(self, tape: tf.GradientTape):
        self.tape, self.graph = tape, tf.compat.v1.get_default_graph()
        self.products: list[Product] = []

    def takes(self, inputs: tf.Tensor) -> bool:
        """Whether a product of these inputs can be recorded.

        It cannot inside of a loop, a branch or a function: their tensors are not to be had outside of them.
        """
        return inputs.shape.rank == 2 and tf.compat.v1.get_default_graph() is self.graph


@contextlib.contextmanager
def record_products(tape: tf.GradientTape) -> Iterator[list[Product]]:
    """In this block `FactoredDense` layers multiply by stopped weights, and record what they multiply.

    To the tape the weights are constants in these products, so that what it says of their gradients is all that comes
    from other uses: a penalty, tied weights, a layer in a loop. The gradient of a product's weights is to be taken from
    the cotangent of its outputs, which the tape watches, and added. The block must end before gradients are taken:
    layers that run once more in a backward pass (`keras.remat`) then do so by Keras's rules.

    Args:
        tape: which differentiates the objective.

    Yields:
        The list that grows by one `Product` for each.
    """
    outer = getattr(_active, "recorder", None)
    _active.recorder = recorder = _Recorder(tape)
    try:
        yield recorder.products
    finally:
        _active.recorder = outer


@keras.saving.register_keras_serializable("rebar_tf")
class FactoredDense(keras.layers.Dense):
    """Keras's `Dense`, whose products can be recorded (`record_products`)."""

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        recorder, kernel = getattr(_active, "recorder", None), self.kernel
        is_plain = isinstance(kernel, keras.Variable)  # a quantised or adapted kernel is computed from others
        if recorder is None or not is_plain or not recorder.takes(inputs):
            return super().call(inputs, training=training)
        outputs = tf.matmul(inputs, tf.stop_gradient(tf.convert_to_tensor(kernel)))
        if self.bias is not None:
            outputs += tf.stop_gradient(tf.convert_to_tensor(self.bias))
        recorder.tape.watch(outputs)
        recorder.products.append(Product(inputs, outputs, kernel, self.bias))
        return outputs if self.activation is None else self.activation(outputs)
