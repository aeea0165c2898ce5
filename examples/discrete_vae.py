"""A convolutional discrete VAE: each digit is a map of 7 x 7 symbols, each one of 8.

  python -m examples.discrete_vae
  python -m examples.discrete_vae pictures/discrete_vae.png

The encoder's convolutions end in the logits of 49 categorical variables, the decoder starts from their one-hot samples.
What is minimised is the usual negative bound in nats: the pixels' cross-entropy, a Keras loss, and the KL divergence of
the symbols from a uniform code, which a layer adds. A code that says nothing costs no KL, and pixels by their frequency
206 nats.
"""

import sys

import keras
import numpy as np
import tensorflow as tf

import rebar_tf as rt
from examples import pictures

SYMBOLS = 8


@keras.saving.register_keras_serializable("examples")
class UniformKL(keras.layers.Layer):
    """Adds `KL(q || uniform)` of probabilities `[batch, height, width, symbols]` to the loss, and passes them on."""

    def call(self, q: tf.Tensor) -> tf.Tensor:
        kl = keras.ops.sum(q * keras.ops.log(SYMBOLS * q + 1e-9), axis=(1, 2, 3))
        self.add_loss(keras.ops.mean(kl))
        return q


def pixels(y: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """`[batch]` cross-entropy of an image in nats."""
    y = keras.ops.cast(y, logits.dtype)
    return keras.ops.sum(keras.ops.softplus(logits) - y * logits, axis=(1, 2, 3))


def build() -> rt.StochasticModel:
    """The model, compiled."""
    conv, transposed = keras.layers.Conv2D, keras.layers.Conv2DTranspose
    x = keras.Input((28, 28, 1))
    h = conv(16, 4, strides=2, padding="same", activation="relu")(x)
    h = conv(32, 4, strides=2, padding="same", activation="relu")(h)
    layer = rt.layers.StochasticCategorical(SYMBOLS, estimator="rebar", return_probs=True)
    code, q = layer(conv(SYMBOLS, 1)(h))
    q = UniformKL()(q)
    h = conv(32, 1, activation="relu")(code)
    h = transposed(16, 4, strides=2, padding="same", activation="relu")(h)
    logits = transposed(1, 4, strides=2, padding="same")(h)
    model = rt.StochasticModel(x, [logits, q])
    model.compile(optimizer=rt.optimizers.Adam(1e-3), loss=[pixels, None], steps_per_execution=20, jit_compile=True)
    return model


def main(picture: str | None = None, epochs: int = 15) -> tuple[float, float]:
    """Prints, and returns, the negative bound of held-out digits after the training and before."""
    keras.utils.set_random_seed(0)
    data = rt.datasets.load("mnist_5k")
    train, valid = (images.reshape(-1, 28, 28, 1).astype(np.float32) for images in (data.train, data.valid))
    model = build()

    def nats() -> float:
        return float(model.evaluate(valid, valid, verbose=0, return_dict=True)["loss"])

    before = nats()
    model.fit(train, train, batch_size=50, epochs=epochs, verbose=0)
    after = nats()
    print(f"negative bound of held-out digits: {after:.1f} nats, before the training {before:.1f}")
    if picture is not None:
        logits, q = model.predict(valid[:12], verbose=0)
        drawn = 1 / (1 + np.exp(-logits[..., 0]))
        symbols = q.argmax(axis=-1).repeat(4, axis=1).repeat(4, axis=2) / (SYMBOLS - 1)
        pictures.write(picture, [valid[:12, ..., 0], symbols, drawn])
    return after, before


if __name__ == "__main__":
    main(*sys.argv[1:])
