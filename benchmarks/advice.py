"""Whether the estimator that `rebar_tf.diagnostics.compare` advises is the one that trains best in equal time.

  python -m benchmarks.advice
  python -m benchmarks.advice --models=linear,code --seconds=60

Four models: sigmoid belief networks of one and of two layers on mnist_5k, an autoencoder whose code is categorical, and
a reward without derivative. Each estimator is first measured at the initial weights, then trained for as long as the
others, its compilation not counted; what is compared is the objective on held-out data at the end, with the standard
error of its mean over the data. The last line of the output is JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from trainers.common import flags
from trainers.common.errors import reports_bad_input
from trainers.common.tensorflow_import import import_tensorflow

if TYPE_CHECKING:
    import numpy as np

    import rebar_tf as rt

_NAMES = ("reinforce", "nvil", "rloo", "disarm", "muprop", "rebar")
_STEPS = 50  # of a program
_ROUNDS = 20  # of the held-out data, for the mean of a noisy objective


@reports_bad_input("advice")
def main(argv: Sequence[str]) -> int:
    values = flags.Flags()
    flags.define_list(values, "models", ["linear", "two", "code", "reward"], "Which models.")
    flags.define_positive(values, "seconds", 30.0, "Of the training of each estimator, and of all measurements.")
    given = flags.parse(values, argv, __doc__)
    import_tensorflow()
    results = {name: agreement(name, given["seconds"]) for name in given["models"]}
    print(json.dumps(results))
    return 0


def agreement(name: str, seconds: float) -> dict[str, Any]:
    """What is advised for a model, and what each estimator reaches."""
    import rebar_tf as rt

    build, train, held_out = MODELS[name]()
    usable = [each for each in _NAMES if each in rt.estimators.names(FAMILIES.get(name, "bernoulli"))]
    if name in BLACK_BOX:
        usable = [each for each in usable if not rt.estimators.get(each).needs_derivative]
    batch = [part[:24] for part in train]
    advice = rt.diagnostics.compare(build("reinforce"), *batch, names=usable, seconds=seconds)
    reached = {each: trained(build(each), train, held_out, seconds) for each in usable}
    print(f"\n{name}: {advice.sentence}")
    for row in advice.rows:
        mean, error, steps = reached[row["estimator"]]
        print(f"{row['estimator']:<12} cost {row['cost']:9.3g}  objective {mean:9.3f} +- {error:.3f}  {steps} steps")
    best = min(reached, key=lambda each: reached[each][0])
    margins = {each: reached[each][0] - reached[best][0] for each in advice.best}
    agrees = any(
        margin <= 2 * (reached[each][1] ** 2 + reached[best][1] ** 2) ** 0.5 for each, margin in margins.items()
    )
    return {"advised": advice.best, "best": best, "agrees": agrees}


def trained(
    model: rt.training.StochasticTraining, train: list[np.ndarray], held_out: list[np.ndarray], seconds: float
) -> tuple[float, float, int]:
    """The objective on held-out data after that time, its standard error, and the steps that were done."""
    import keras
    import numpy as np

    import rebar_tf as rt

    class Stop(keras.callbacks.Callback):
        """Ends the training after that time; the first program, which is compiled, does not count."""

        end = None

        def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
            self.end = self.end or time.perf_counter() + seconds
            self.model.stop_training = time.perf_counter() > self.end

    model.fit(*train, batch_size=24, epochs=10**6, verbose=0, callbacks=[Stop()])
    values = np.stack([-model.bound(*held_out, num_samples=1, seed=seed) for seed in range(_ROUNDS)]).mean(axis=0)
    return float(values.mean()), float(values.std(ddof=1) / len(values) ** 0.5), rt.callbacks.global_step(model)


Built = tuple[Callable[[str], Any], list[Any], list[Any]]


def belief_network(num_layers: int) -> Built:
    """A network of the paper on 4,000 digits."""
    import numpy as np

    import rebar_tf as rt

    digits = rt.datasets.load("mnist_5k")

    def build(estimator: str) -> Any:
        model = rt.models.SigmoidBeliefNetwork(num_layers, estimator=estimator, data_mean=digits.mean, seed=0)
        return compiled(model, 3e-4)

    return build, [digits.train.astype(np.float32)], [digits.test.astype(np.float32)]


def categorical_code() -> Built:
    """Digits through 10 variables of 8 classes."""
    import keras
    import numpy as np

    import rebar_tf as rt

    digits = rt.datasets.load("mnist_5k")
    train, test = digits.train.astype(np.float32), digits.test.astype(np.float32)

    def build(estimator: str) -> Any:
        keras.utils.set_random_seed(0)
        x = keras.Input((784,))
        logits = keras.layers.Dense(80)(keras.layers.Dense(200, activation="relu")(x))
        b = rt.layers.StochasticCategorical(8, estimator, seed=0)(logits)
        y = keras.layers.Dense(784)(keras.layers.Dense(200, activation="relu")(b))
        return compiled(rt.StochasticModel(x, y), 1e-3, loss=pixels)

    return build, [train, train], [test, test]


def black_box() -> Built:
    """Which of 24 items to take, by their values: a value of what is taken, none beyond a weight. No derivative."""
    import keras
    import numpy as np
    import tensorflow as tf

    import rebar_tf as rt

    rng = np.random.default_rng(0)
    weights = tf.constant(rng.uniform(1.0, 3.0, size=24), tf.float32)

    def regret(values: tf.Tensor, taken: tf.Tensor) -> tf.Tensor:
        taken = tf.cast(taken > 0.5, tf.float32)  # a comparison: nothing to differentiate
        fits = tf.reduce_sum(taken * weights, axis=1) <= 20.0
        return -tf.where(fits, tf.reduce_sum(values * taken, axis=1), 0.0)

    def build(estimator: str) -> Any:
        keras.utils.set_random_seed(0)
        x = keras.Input((24,))
        h = keras.layers.Dense(64, activation="relu")(x)
        taken = rt.layers.StochasticBinary(estimator, values=(0, 1), seed=0)(keras.layers.Dense(24)(h))
        return compiled(rt.StochasticModel(x, taken), 1e-3, loss=regret)

    values = rng.uniform(size=(4500, 24)).astype(np.float32)
    return build, [values[:4000]] * 2, [values[4000:]] * 2


def pixels(y: Any, logits: Any) -> Any:
    """`[batch]` cross-entropy in nats."""
    import tensorflow as tf

    return tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(tf.cast(y, logits.dtype), logits), axis=1)


def compiled(model: Any, rate: float, **kwargs: Any) -> Any:
    """The model, in programs of several steps."""
    import rebar_tf as rt

    model.compile(optimizer=rt.optimizers.Adam(rate), jit_compile=True, steps_per_execution=_STEPS, **kwargs)
    return model


MODELS: dict[str, Callable[[], Built]] = {
    "linear": lambda: belief_network(1),
    "two": lambda: belief_network(2),
    "code": categorical_code,
    "reward": black_box,
}
FAMILIES = {"code": "categorical"}
BLACK_BOX = ("reward",)

if __name__ == "__main__":
    sys.exit(main(sys.argv))
