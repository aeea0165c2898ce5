"""Hard gating: each image decides which of a classifier's residual blocks it goes through.

  python -m examples.hard_gating
  python -m examples.hard_gating pictures/hard_gating.png

A classifier of the 1,797 digits of scikit-learn has a chain of residual blocks, `h + gate * block(h)`: where a gate is
closed, the skip connection is all that is left, and the block need not be computed. The gates of an image are binary
units, whose logits a small network sees in the pixels; each open one costs a price, which a layer adds to the loss.
REBAR trains them through the samples: in training they are as hard as in use. With a price three of six blocks do what
all six did; these digits agree on which.
"""

import sys

import keras
import numpy as np
import sklearn.datasets
import tensorflow as tf

import rebar_tf as rt
from examples import pictures

BLOCKS, UNITS, HELD_OUT = 6, 64, 297


@keras.saving.register_keras_serializable("examples")
class Price(keras.layers.Layer):
    """Adds what the open gates cost to the loss, on average over the batch, and passes the gates on."""

    def __init__(self, price: float, **kwargs):
        super().__init__(**kwargs)
        self.price = price

    def call(self, gates: tf.Tensor) -> tf.Tensor:
        self.add_loss(self.price * keras.ops.mean(keras.ops.sum(gates, axis=1)))
        return gates

    def get_config(self) -> dict:
        return {**super().get_config(), "price": self.price}


def build(price: float) -> tuple[rt.StochasticModel, keras.Model]:
    """The classifier, compiled, and the model of its gates' logits."""
    x = keras.Input((64,))
    logits = keras.layers.Dense(BLOCKS)(keras.layers.Dense(16, activation="relu")(x))
    gates = rt.layers.StochasticBinary("rebar", values=(0, 1), inference="mode")(logits)
    gates = Price(price)(gates)
    h = keras.layers.Dense(UNITS)(x)
    for i in range(BLOCKS):
        block = keras.layers.Dense(UNITS)(keras.layers.Dense(UNITS, activation="relu")(h))
        h = h + gates[:, i : i + 1] * block
    model = rt.StochasticModel(x, keras.layers.Dense(10)(h))
    model.compile(
        optimizer=rt.optimizers.Adam(1e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=50,
        jit_compile=True,
    )
    return model, keras.Model(x, logits)


def train(price: float, epochs: int) -> tuple[float, np.ndarray]:
    """The accuracy on held-out digits, and by epoch the probability of their gates, `[epochs, images, blocks]`."""
    keras.utils.set_random_seed(0)
    images, labels = sklearn.datasets.load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32)
    held_out, truth = images[:HELD_OUT], labels[:HELD_OUT]
    model, gating = build(price)
    logits = []
    watch = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: logits.append(gating.predict(held_out, verbose=0)))
    model.fit(images[HELD_OUT:], labels[HELD_OUT:], batch_size=30, epochs=epochs, verbose=0, callbacks=[watch])
    accuracy = float((model.predict(held_out, verbose=0).argmax(axis=1) == truth).mean())
    return accuracy, 1 / (1 + np.exp(-np.array(logits)))


def main(picture: str | None = None, epochs: int = 40) -> dict[float, tuple[float, float]]:
    """Prints, and returns, by the price of a gate the accuracy on held-out digits and how many gates are open."""
    found = {}
    for price in (0.0, 0.05):
        accuracy, open_probability = train(price, epochs)
        found[price] = accuracy, float((open_probability[-1] > 0.5).sum(axis=1).mean())
        print(f"price {price}: accuracy {accuracy:.3f} with {found[price][1]:.2f} of {BLOCKS} blocks an image")
    if picture is not None:  # of the last price
        with pictures.chart(picture, "epochs", "probability that a gate is open") as axis:
            course = open_probability.mean(axis=1)
            axis.plot(range(1, epochs + 1), course, label=[f"block {i + 1}" for i in range(BLOCKS)])
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
