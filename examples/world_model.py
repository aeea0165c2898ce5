"""A world model: categorical states in a recurrent cell, each drawn from what is remembered and what is seen.

  python -m examples.world_model
  python -m examples.world_model pictures/world_model.png

A light runs around a ring of 12 lamps. Its direction is hidden, and turns now and then; a tenth of what is seen is
noise. The cell remembers by a GRU, and in each step draws a state of 4 categorical variables, given the memory and the
observation: the posterior, with 1 % of the uniform law mixed in, as in DreamerV2. The memory alone gives the prior of
the state. What is minimised: the cross-entropy of the lamps that are seen, given memory and state, and
KL(posterior || prior), in nats a sequence. It is compared with a model that knows how often each lamp is on, but
nothing of how they follow each other.
"""

import sys

import keras
import numpy as np
import tensorflow as tf

import rebar_tf as rt
from examples import pictures

LAMPS, STEPS, VARIABLES, CLASSES, MEMORY = 12, 10, 4, 4, 48
UNITS = VARIABLES * CLASSES


@keras.saving.register_keras_serializable("examples")
class StateCell(keras.layers.Layer):
    """One step: observation in, `[memory, state, posterior, prior]` out, side by side."""

    state_size = (MEMORY, UNITS)
    output_size = MEMORY + 3 * UNITS

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.memory = keras.layers.GRUCell(MEMORY)
        self.prior = keras.layers.Dense(UNITS)
        self.hidden = keras.layers.Dense(64, activation="relu")
        self.posterior = keras.layers.Dense(UNITS)
        self.draw = rt.layers.StochasticCategorical(CLASSES, "rebar", unimix=0.01, return_probs=True)

    def build(self, input_shape: tuple) -> None:
        batch = input_shape[0]
        self.memory.build((batch, UNITS))
        self.prior.build((batch, MEMORY))
        self.hidden.build((batch, MEMORY + LAMPS))
        self.posterior.build((batch, 64))
        self.draw.build((batch, UNITS))

    def call(self, observation: tf.Tensor, states: list, training: bool | None = None) -> tuple:
        memory, state = states
        memory, _ = self.memory(state, [memory])
        prior = keras.ops.reshape(self.prior(memory), [-1, VARIABLES, CLASSES])
        prior = 0.99 * keras.ops.softmax(prior) + 0.01 / CLASSES
        seen = self.hidden(keras.ops.concatenate([memory, observation], axis=-1))
        state, posterior = self.draw(self.posterior(seen), training=training)
        prior = keras.ops.reshape(prior, [-1, UNITS])
        return keras.ops.concatenate([memory, state, posterior, prior], axis=-1), [memory, state]


@keras.saving.register_keras_serializable("examples")
class StateKL(keras.layers.Layer):
    """Adds `KL(posterior || prior)`, `[batch, steps, units]` each, to the loss, and passes the posterior on."""

    def call(self, inputs: list) -> tf.Tensor:
        posterior, prior = inputs
        kl = keras.ops.sum(posterior * keras.ops.log(posterior / prior), axis=(1, 2))
        self.add_loss(keras.ops.mean(kl))
        return posterior


def cross_entropy(seen: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """`[batch]` of a whole sequence, in nats."""
    return -keras.ops.sum(seen * keras.ops.log_softmax(logits), axis=(1, 2))


def build() -> rt.StochasticModel:
    """The model, compiled."""
    x = keras.Input((STEPS, LAMPS))
    outputs = keras.layers.RNN(StateCell(), return_sequences=True, unroll=True)(x)
    memory_and_state = outputs[:, :, : MEMORY + UNITS]
    posterior, prior = outputs[:, :, MEMORY + UNITS : -UNITS], outputs[:, :, -UNITS:]
    posterior = StateKL()([posterior, prior])
    logits = keras.layers.Dense(LAMPS)(keras.layers.Dense(64, activation="relu")(memory_and_state))
    model = rt.StochasticModel(x, [logits, posterior])
    model.compile(
        optimizer=rt.optimizers.Adam(2e-3), loss=[cross_entropy, None], steps_per_execution=50, jit_compile=True
    )
    return model


def sequences(count: int, rng: np.random.Generator) -> np.ndarray:
    """`[count, STEPS, LAMPS]` observations, one-hot."""
    place, direction = rng.integers(LAMPS, size=count), rng.choice([-1, 1], size=count)
    seen = []
    for _ in range(STEPS):
        noise = rng.uniform(size=count) < 0.1
        seen.append(np.where(noise, rng.integers(LAMPS, size=count), place))
        direction = np.where(rng.uniform(size=count) < 0.05, -direction, direction)
        place = (place + direction) % LAMPS
    return np.eye(LAMPS, dtype=np.float32)[np.stack(seen, axis=1)]


def main(picture: str | None = None, epochs: int = 15) -> tuple[float, float]:
    """Prints, and returns, the negative bound of new sequences, and what knowing no order costs."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    train, test = sequences(5000, rng), sequences(500, rng)
    model = build()
    model.fit(train, train, batch_size=50, epochs=epochs, verbose=0)
    nats = float(model.evaluate(test, test, verbose=0, return_dict=True)["loss"])
    without = STEPS * float(np.log(LAMPS))
    print(f"negative bound of a new sequence: {nats:.1f} nats, without an order {without:.1f}")
    if picture is not None:
        logits, posterior = model.predict(test[:6], verbose=0)
        drawn = np.exp(logits - logits.max(axis=-1, keepdims=True))
        rows = [test[:6], drawn / drawn.sum(axis=-1, keepdims=True), posterior]
        pictures.write(picture, [np.pad(row, [(0, 0), (0, 0), (0, UNITS - row.shape[-1])]) for row in rows])
    return nats, without


if __name__ == "__main__":
    main(*sys.argv[1:])
