"""A Keras model with one layer of discrete units, trained by `fit` on digits that need no download.

python -m examples.drop_in_model
"""

import keras

import rebar_tf as rt


def main(epochs: int = 10) -> list[float]:
    """Trains an autoencoder with 200 binary units, and returns the loss of each epoch in nats a pixel."""
    keras.utils.set_random_seed(0)
    digits = rt.datasets.load("mnist_5k").train.astype("float32")

    x = keras.Input((784,))
    b = rt.layers.StochasticBinary(estimator="rebar")(keras.layers.Dense(200)(x))
    model = rt.StochasticModel(x, keras.layers.Dense(784)(b))
    model.compile(
        optimizer=rt.optimizers.Adam(3e-4),
        loss=keras.losses.BinaryCrossentropy(from_logits=True),
        steps_per_execution=100,
        jit_compile=True,
    )
    losses = model.fit(digits, digits, batch_size=24, epochs=epochs, verbose=0).history["loss"]
    for epoch, loss in enumerate(losses, start=1):
        print(f"epoch {epoch:2d}  loss {loss:.4f}")
    return losses


if __name__ == "__main__":
    main()
