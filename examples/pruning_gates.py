"""Pruning: a gate on each input of a classifier, which stays open only where it pays.

  python -m examples.pruning_gates
  python -m examples.pruning_gates pictures/pruning_gates.png

64 pixels of scikit-learn's digits stand beside 64 columns of noise. Each has a gate in {0, 1} that the whole batch
shares, and every open gate costs a little. The gates are trained with the classifier, by an unbiased gradient; those
that stay open are almost all of pixels that vary.
"""

import sys

import keras
import numpy as np
import sklearn.datasets
import tensorflow as tf

import rebar_tf as rt
from examples import pictures

PRICE = 0.05  # nats an open gate


@keras.saving.register_keras_serializable("examples")
class Gates(keras.layers.Layer):
    """Multiplies each column by a gate, and adds the price of those that are open to the loss."""

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.logits = self.add_weight(shape=(input_shape[-1],), initializer=keras.initializers.Constant(1.0))
        self.gates = rt.layers.StochasticBinary(estimator="rebar", values=(0, 1), shared=True, inference="mode")

    def call(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        open_gates = self.gates(tf.convert_to_tensor(self.logits)[tf.newaxis], training=training)
        self.add_loss(PRICE * tf.reduce_sum(open_gates))
        return x * open_gates


def main(picture: str | None = None, epochs: int = 100) -> tuple[float, int, int]:
    """Prints, and returns, the accuracy, and how many gates of pixels and of noise are open."""
    keras.utils.set_random_seed(0)
    pixels, labels = sklearn.datasets.load_digits(return_X_y=True)
    noise = np.random.default_rng(0).uniform(size=pixels.shape)
    inputs = np.concatenate([pixels / 16, noise], axis=1).astype(np.float32)
    train, test = slice(297, None), slice(0, 297)

    x = keras.Input((128,))
    gates = Gates()
    y = keras.layers.Dense(10)(keras.layers.Dense(100, activation="relu")(gates(x)))
    model = rt.StochasticModel(x, y)
    model.compile(
        optimizer=rt.optimizers.Adam(3e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        steps_per_execution=50,
        jit_compile=True,
    )
    model.fit(inputs[train], labels[train], batch_size=30, epochs=epochs, verbose=0)

    accuracy = float((model.predict(inputs[test], verbose=0).argmax(axis=1) == labels[test]).mean())
    is_open = keras.ops.convert_to_numpy(gates.logits) > 0
    of_pixels, of_noise = int(is_open[:64].sum()), int(is_open[64:].sum())
    print(f"accuracy {accuracy:.3f} with {of_pixels} of 64 pixels and {of_noise} of 64 columns of noise")
    if picture is not None:
        shown = {
            "mean digit": pixels.mean(axis=0) / 16,
            "spread of the pixels": pixels.std(axis=0) / 8,
            "gates of the pixels": is_open[:64],
            "gates of the noise": is_open[64:],
        }
        pictures.panels(picture, {title: image.reshape(8, 8) for title, image in shown.items()})
    return accuracy, of_pixels, of_noise


if __name__ == "__main__":
    main(*sys.argv[1:])
