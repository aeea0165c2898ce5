"""A convolutional model with three stochastic layers, beside the same one in plain Keras with straight-through units.

  python -m benchmarks.convolutional
  python -m benchmarks.convolutional --rounds=9

An autoencoder of 28 x 28 images with binary feature maps, batch 32, both compiled by XLA with 100 steps per execution.
The plain one evaluates its objective once a step, n-pass REBAR four times. The ratio is that of the evaluations a
second. The two take turns; the last line is JSON.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trainers.common import flags
from trainers.common.errors import reports_bad_input
from trainers.common.tensorflow_import import import_tensorflow

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

_BATCH, _STEPS, _UNITS = 32, 100, (8, 16, 16)
_EVALUATIONS = 1 + len(_UNITS)  # of REBAR


@reports_bad_input("convolutional")
def main(argv: Sequence[str]) -> int:
    values = flags.Flags()
    flags.define_integer(values, "rounds", 5, "Turns of each.", low=1)
    rounds = flags.parse(values, argv, __doc__)["rounds"]
    import_tensorflow()
    ours, theirs = stochastic(), plain()
    pairs = [(rate(ours), rate(theirs)) for _ in range(rounds + 1)][1:]  # the first one compiles
    print(f"rebar  {statistics.median(a for a, _ in pairs):.0f} steps/s, {_EVALUATIONS} evaluations each")
    print(f"plain  {statistics.median(b for _, b in pairs):.0f} steps/s")
    print(json.dumps({"ratio": round(statistics.median(_EVALUATIONS * a / b for a, b in pairs), 3)}))
    return 0


def stochastic() -> keras.Model:
    """The model with stochastic layers of this library."""
    import rebar_tf as rt

    return compiled(rt.StochasticModel, lambda: rt.layers.StochasticBinary(estimator="rebar"))


def plain() -> keras.Model:
    """The model in Keras alone: hard units whose derivative is that of their probability."""
    import keras
    import tensorflow as tf

    def straight_through(logits: tf.Tensor) -> tf.Tensor:
        p = tf.sigmoid(logits)
        hard = tf.cast(tf.random.uniform(tf.shape(p)) < p, p.dtype)
        return 2.0 * (p + tf.stop_gradient(hard - p)) - 1.0

    return compiled(keras.Model, lambda: keras.layers.Lambda(straight_through))


def compiled(model_class: Any, units: Any) -> keras.Model:
    """The autoencoder, with the stochastic layers that `units` makes."""
    import keras

    x = keras.Input((28, 28, 1))
    h = x
    for filters in _UNITS:
        h = units()(keras.layers.Conv2D(filters, 3, strides=2, padding="same")(h))
    for filters in _UNITS[1::-1]:
        h = keras.layers.Conv2DTranspose(filters, 3, strides=2, padding="same", activation="relu")(h)
    logits = keras.layers.Cropping2D(2)(keras.layers.Conv2DTranspose(1, 3, strides=2, padding="same")(h))
    model = model_class(x, logits)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss=loss, jit_compile=True, steps_per_execution=_STEPS)
    return model


def rate(model: keras.Model) -> float:
    """Steps per second of one epoch."""
    import numpy as np

    images = (np.random.default_rng(0).uniform(size=(_BATCH * _STEPS, 28, 28, 1)) < 0.13).astype("float32")
    begin = time.perf_counter()
    model.fit(images, images, batch_size=_BATCH, epochs=1, verbose=0)
    return _STEPS / (time.perf_counter() - begin)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
