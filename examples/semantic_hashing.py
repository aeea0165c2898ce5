"""Semantic hashing: digits become codes of 32 bits, and near codes are the same digit.

  python -m examples.semantic_hashing
  python -m examples.semantic_hashing pictures/semantic_hashing.png

An autoencoder with a binary layer in the middle is trained without labels, on the 1,797 digits of scikit-learn. A
digit's code is the likeliest value of each bit. Precision at 10 is how many of the 10 codes nearest to that of a
held-out digit, by the number of bits that differ, belong to digits of its class; a random order gets 0.1.
"""

import sys

import keras
import numpy as np
import sklearn.datasets

import rebar_tf as rt
from examples import pictures

BITS, HELD_OUT = 32, 297


def codes(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """`[images, bits]` of 0 and 1."""
    return model.predict(images, verbose=0) > 0


def nearest(of: np.ndarray, among: np.ndarray) -> np.ndarray:
    """`[codes, 10]`: which codes of `among` are nearest to each code, the nearest first."""
    distances = (of[:, np.newaxis] != among[np.newaxis]).sum(axis=-1)
    return np.argsort(distances, axis=1, kind="stable")[:, :10]


def main(picture: str | None = None, epochs: int = 60) -> tuple[float, float]:
    """Prints, and returns, the precision of the trained codes and of those before the training."""
    keras.utils.set_random_seed(0)
    pixels, labels = sklearn.datasets.load_digits(return_X_y=True)
    images = (pixels / 16).astype(np.float32)
    train, test = slice(HELD_OUT, None), slice(0, HELD_OUT)

    x = keras.Input((64,))
    logits = keras.layers.Dense(BITS)(keras.layers.Dense(200, activation="relu")(x))
    b = rt.layers.StochasticBinary(estimator="rebar")(logits)
    y = keras.layers.Dense(64)(keras.layers.Dense(200, activation="relu")(b))
    model = rt.StochasticModel(x, y)
    model.compile(
        optimizer=rt.optimizers.Adam(1e-3),
        loss=keras.losses.BinaryCrossentropy(from_logits=True),
        steps_per_execution=50,
        jit_compile=True,
    )
    encoder = keras.Model(x, logits)

    def found() -> tuple[np.ndarray, np.ndarray]:
        """`[queries, 10]` each: the neighbours, and whether they are of the query's class."""
        neighbours = nearest(codes(encoder, images[test]), codes(encoder, images[train]))
        return neighbours, labels[train][neighbours] == labels[test][:, np.newaxis]

    before = float(found()[1].mean())
    model.fit(images[train], images[train], batch_size=30, epochs=epochs, verbose=0)
    neighbours, right = found()
    after = float(right.mean())
    print(f"precision at 10: {after:.2f}, before the training {before:.2f}")
    if picture is not None:
        digits = images.reshape(-1, 8, 8)
        rows = []
        for query in range(10):
            ground = np.where(right[query], 0, 0.3)[:, np.newaxis, np.newaxis]  # grey under those of another class
            shown = np.maximum(digits[train][neighbours[query]], ground)
            rows.append(np.concatenate([digits[test][[query]], np.zeros((1, 8, 8)), shown]))
        pictures.write(picture, rows)
    return after, before


if __name__ == "__main__":
    main(*sys.argv[1:])
