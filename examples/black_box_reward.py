"""A reward that is a black box: 16 items are packed so that their value is largest, without a derivative.

  python -m examples.black_box_reward
  python -m examples.black_box_reward pictures/black_box_reward.png

The reward is NumPy code that TensorFlow cannot look into. Estimators that take no derivative, such as RLOO and DisARM,
need only its values at sampled packings. The best packing is known here, by trying all 65,536.
"""

import itertools
import sys

import keras
import numpy as np
import tensorflow as tf

import rebar_tf as rt
from examples import pictures

ITEMS, SAMPLES, STEPS = 16, 64, 400
RANDOM = np.random.default_rng(0)
VALUES, WEIGHTS = RANDOM.uniform(1, 10, ITEMS), RANDOM.uniform(1, 10, ITEMS)
LIMIT = WEIGHTS.sum() / 3


def reward(packings: np.ndarray) -> np.ndarray:
    """`[rows]`: the value of each packing, `[rows, items]` of 0 and 1; nothing if it is too heavy."""
    return np.where(packings @ WEIGHTS <= LIMIT, packings @ VALUES, 0.0).astype(np.float32)


def cost(packings: tf.Tensor) -> tf.Tensor:
    """`-reward`, as an operation of TensorFlow."""
    return -tf.ensure_shape(tf.numpy_function(reward, [packings], tf.float32), [packings.shape[0]])


def pack(estimator: str) -> tuple[float, list[float]]:
    """Learns the probability of each item; the reward of the likeliest packing, and the mean reward of each step."""
    keras.utils.set_random_seed(0)
    logits = tf.Variable(tf.fill([1, ITEMS], -1.0))
    optimizer = keras.optimizers.Adam(0.05)
    estimator = rt.estimators.get(estimator)
    rewards = []
    for step in range(STEPS):
        with tf.GradientTape() as tape:
            values = rt.expectation(cost, tf.repeat(logits, SAMPLES, axis=0), estimator, seed=step)
            loss = tf.reduce_mean(values)
        optimizer.apply_gradients([(tape.gradient(loss, logits), logits)])
        rewards.append(-float(loss))
    return float(reward((logits.numpy() > 0).astype(np.float64))[0]), rewards


def main(picture: str | None = None) -> dict[str, float]:
    """Prints, and returns, the reward that each estimator reaches, as a part of the best one."""
    best = float(reward(np.array([*itertools.product((0, 1), repeat=ITEMS)])).max())
    packed = {estimator: pack(estimator) for estimator in ("rloo", "disarm")}
    found = {estimator: last / best for estimator, (last, _) in packed.items()}
    for estimator, part in found.items():
        print(f"{estimator}: {100 * part:.1f} % of the best reward")
    if picture is not None:
        with pictures.chart(picture, "steps", "reward, as a part of the best") as axis:
            for estimator, (_, rewards) in packed.items():
                smooth = np.reshape(rewards, (-1, 10)).mean(axis=1)
                axis.plot(range(0, STEPS, 10), smooth / best, label=estimator)
            axis.axhline(1, color="0.6", linestyle="--", label="the best of all packings")
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
