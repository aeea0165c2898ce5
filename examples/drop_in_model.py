"""A Keras model with one layer of discrete units, trained by `fit` on digits that need no download.

python -m examples.drop_in_model
python -m examples.drop_in_model pictures/drop_in_model.png
"""

import sys

import keras
import numpy as np

import rebar_tf as rt
from examples import pictures


def main(picture: str | None = None, epochs: int = 20) -> list[float]:
    """Trains an autoencoder with 200 binary units, and returns the loss of each epoch in nats a pixel."""
    keras.utils.set_random_seed(0)
    data = rt.datasets.load("mnist_5k")
    digits, held_out = data.train.astype("float32"), data.valid[:8].astype("float32")

    x = keras.Input((784,))
    b = rt.layers.StochasticBinary(estimator="rebar")(keras.layers.Dense(200)(x))
    y = keras.layers.Dense(784)(b)
    model = rt.StochasticModel(x, y)
    model.compile(
        optimizer=rt.optimizers.Adam(1e-2),
        loss=keras.losses.BinaryCrossentropy(from_logits=True),
        steps_per_execution=100,
        jit_compile=True,
    )
    losses = model.fit(digits, digits, batch_size=24, epochs=epochs, verbose=0).history["loss"]
    for epoch, loss in enumerate(losses, start=1):
        print(f"epoch {epoch:2d}  loss {loss:.4f}")
    if picture is not None:
        bits, logits = keras.Model(x, [b, y]).predict(held_out, verbose=0)
        codes = np.pad(bits.reshape(8, 10, 20) > 0, [(0, 0), (0, 0), (4, 4)])
        drawn = 1 / (1 + np.exp(-logits))
        pictures.write(picture, [held_out.reshape(8, 28, 28), codes, drawn.reshape(8, 28, 28)])
    return losses


if __name__ == "__main__":
    main(*sys.argv[1:])
