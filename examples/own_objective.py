"""A model whose objective is no Keras loss: as few active units as will do, priced at a cost for each.

  python -m examples.own_objective

The objective is a function of the hard samples, evaluated anew by the estimator as often as it needs.
"""

from typing import Any

import keras
import tensorflow as tf

import rebar_tf as rt


@keras.saving.register_keras_serializable("examples")
class SparseAutoencoder(rt.training.StochasticTraining, keras.Model):
    """Reconstructs binary images from few active units.

    Args:
        units: binary units in the middle.
        cost: nats that each active unit adds to the objective.
        estimator: a name of `rt.estimators.names()`, or an `Estimator`.
    """

    def __init__(self, units: int = 100, cost: float = 1.0, estimator: str = "rebar", **kwargs: Any):
        super().__init__(**kwargs)
        self.cost = cost
        self.encoder = keras.layers.Dense(units)
        self.units = rt.layers.StochasticBinary(estimator, values=(0, 1))
        self.decoder = keras.layers.Dense(784)

    def call(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        return self.decoder(self.units(self.encoder(x), training=training))

    def objective(self, x: tf.Tensor, y: tf.Tensor | None = None) -> tuple[tf.Tensor, tf.Tensor]:
        """The nats of each image, `[batch]`, not averaged, with what it costs; and what the metrics see."""
        b = self.units(self.encoder(x), training=True)
        logits = self.decoder(b)
        nats = tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(x, logits), axis=1)
        return nats + self.cost * tf.reduce_sum(b, axis=1), logits


def main(epochs: int = 10) -> tuple[float, float]:
    """Trains with units that cost nothing and units that cost much; returns the active units of each."""
    digits = rt.datasets.load("mnist_5k").train.astype("float32")
    active = []
    for cost in (0.0, 4.0):
        keras.utils.set_random_seed(0)
        model = SparseAutoencoder(cost=cost)
        model.compile(optimizer=rt.optimizers.Adam(1e-3), steps_per_execution=100, jit_compile=True)
        history = model.fit(digits, batch_size=24, epochs=epochs, verbose=0).history
        active.append(float(tf.reduce_sum(model.units(model.encoder(digits)), axis=1).numpy().mean()))
        print(f"cost {cost}: objective {history['loss'][-1]:.2f}, {active[-1]:.1f} of 100 units active")
    return active[0], active[1]


if __name__ == "__main__":
    main()
