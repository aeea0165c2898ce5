"""Semantic hashing: digits become codes of 32 bits, and near codes are the same digit.

  python -m examples.semantic_hashing

An autoencoder with a binary layer in the middle is trained without labels, on the 1,797 digits of scikit-learn. A
digit's code is the likeliest value of each bit. Precision at 10 is how many of the 10 codes nearest to that of a
held-out digit, by the number of bits that differ, belong to digits of its class; a random order gets 0.1.
"""

import keras
import numpy as np
import sklearn.datasets

import rebar_tf as rt

BITS, HELD_OUT = 32, 297


def codes(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """`[images, bits]` of 0 and 1."""
    return model.predict(images, verbose=0) > 0


def precision_at_10(of: np.ndarray, label: np.ndarray, among: np.ndarray, labels: np.ndarray) -> float:
    """How many of the 10 nearest codes have the same label, on average."""
    distances = (of[:, np.newaxis] != among[np.newaxis]).sum(axis=-1)
    nearest = np.argsort(distances, axis=1, kind="stable")[:, :10]
    return float((labels[nearest] == label[:, np.newaxis]).mean())


def main(epochs: int = 60) -> tuple[float, float]:
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

    def precision() -> float:
        return precision_at_10(codes(encoder, images[test]), labels[test], codes(encoder, images[train]), labels[train])

    before = precision()
    model.fit(images[train], images[train], batch_size=30, epochs=epochs, verbose=0)
    after = precision()
    print(f"precision at 10: {after:.2f}, before the training {before:.2f}")
    return after, before


if __name__ == "__main__":
    main()
