"""A model whose objective is no Keras loss: as few active units as will do, priced at a cost for each.

  python -m examples.own_objective
  python -m examples.own_objective pictures/own_objective.png

The objective is a function of the hard samples, evaluated anew by the estimator as often as it needs.
"""

import sys
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import rebar_tf as rt
from examples import pictures


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


def main(picture: str | None = None, epochs: int = 10) -> tuple[float, float]:
    """Trains with units that cost nothing and units that cost much; returns the active units of each."""
    digits = rt.datasets.load("mnist_5k").train.astype("float32")
    activity = {}
    for cost in (0.0, 4.0):
        keras.utils.set_random_seed(0)
        model = SparseAutoencoder(cost=cost)
        model.compile(optimizer=rt.optimizers.Adam(1e-3), steps_per_execution=100, jit_compile=True)
        history = model.fit(digits, batch_size=24, epochs=epochs, verbose=0).history
        activity[cost] = model.units(model.encoder(digits)).numpy().mean(axis=0)
        print(f"cost {cost}: objective {history['loss'][-1]:.2f}, {activity[cost].sum():.1f} of 100 units active")
    if picture is not None:
        with pictures.chart(picture, "units, the most active first", "part of the digits they are active for") as axis:
            for cost, active in activity.items():
                axis.bar(np.arange(100), np.sort(active)[::-1], width=1, label=f"cost {cost}")
    return float(activity[0.0].sum()), float(activity[4.0].sum())


if __name__ == "__main__":
    main(*sys.argv[1:])
