"""How well the estimator that `rebar_tf.diagnostics.compare` advises trains in equal time, beside the others.

  python -m benchmarks.advice
  python -m benchmarks.advice --models=linear,code --seconds=60 --steps=10000

Four models: sigmoid belief networks of one and of two layers on mnist_5k, an autoencoder whose code is categorical, and
a reward without derivative. Each estimator is first measured, in batches, at the initial weights and after so many
steps of training by REBAR or, without a derivative, by RLOO; then trained for as long as the others, its first epoch,
which compiles, not counted. What is compared is the objective on held-out data at the end, by its
distance from the best one's on the same examples, with the standard error of that distance. `lost` is the part of the
way from REINFORCE to the best that the one advised after the steps leaves. The last line of the output is JSON.
"""

from __future__ import annotations

import functools
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

    from benchmarks.models import Setting

MODELS = ("linear", "two", "code", "reward")
_NAMES = ("reinforce", "nvil", "rloo", "disarm", "muprop", "rebar")
_ROUNDS = 20  # of the held-out data, for the mean of a noisy objective


@reports_bad_input("advice")
def main(argv: Sequence[str]) -> int:
    values = flags.Flags()
    flags.define_some(values, "models", MODELS, "Which models.")
    flags.define_list(values, "estimators", _NAMES, "Which estimators, of those that serve a model.")
    flags.define_positive(values, "seconds", 30.0, "Of the training of each estimator, and of all measurements.")
    flags.define_integer(values, "steps", 2000, "Of training before the second measurement.", low=1)
    given = flags.parse(values, argv, __doc__)
    import_tensorflow()
    results = {name: agreement(name, given["estimators"], given["seconds"], given["steps"]) for name in given["models"]}
    print(json.dumps(results))
    return 0


def settings() -> dict[str, Callable[[], Setting]]:
    """The models by name."""
    from benchmarks import models

    return {
        "linear": functools.partial(models.paper_network, "generative", 1, learning_rate=3e-4),
        "two": functools.partial(models.paper_network, "generative", 2, learning_rate=3e-4),
        "code": functools.partial(models.categorical_autoencoder, [(10, 8)]),
        "reward": models.black_box,
    }


def agreement(name: str, estimators: Sequence[str], seconds: float, steps: int) -> dict[str, Any]:
    """What is advised for a model, and what each estimator reaches."""
    import rebar_tf as rt
    from benchmarks import models

    setting = settings()[name]()
    usable = [each for each in estimators if each in setting.estimators()]
    model = setting.build("rebar" if setting.has_derivative else "rloo", 0)
    measured = functools.partial(
        rt.diagnostics.compare, model, *setting.train, names=usable, seconds=seconds, batch_size=models.BATCH
    )
    first, advice = measured(steps=0), measured(steps=steps)
    reached = {each: trained(setting, each, seconds) for each in usable}
    best = min(reached, key=lambda each: reached[each][0].mean())
    print(f"\n{name}\nat the initial weights: {first.sentence}\nafter {steps} steps: {advice.sentence}")
    costs = {row["estimator"]: row["cost"] for row in first.rows}
    for row in advice.rows:
        values, count = reached[row["estimator"]]
        margin, error = distance(values, reached[best][0])
        cost = f"cost {costs[row['estimator']]:9.3g} and {row['cost']:9.3g}"
        objective = f"objective {values.mean():9.3f}, above the best {margin:.3f} +- {error:.3f}"
        print(f"{row['estimator']:<12} {cost}  {objective}  {count} steps", flush=True)
    margins = {each: distance(reached[each][0], reached[best][0]) for each in advice.best}
    (margin, error), whole = min(margins.values()), distance(reached[usable[0]][0], reached[best][0])[0]
    found = {"margin": margin, "error": error, "lost": margin / whole if whole else 0.0}
    return {"at first": first.best, "advised": advice.best, "best": best, **found}


def distance(values: np.ndarray, best: np.ndarray) -> tuple[float, float]:
    """The mean difference of two objectives on the same examples, and its standard error."""
    difference = values - best
    return float(difference.mean()), float(difference.std(ddof=1) / len(difference) ** 0.5)


def trained(setting: Setting, estimator: str, seconds: float) -> tuple[np.ndarray, int]:
    """The objective of each held-out example after that time, and the steps that were done."""
    import keras
    import numpy as np

    import rebar_tf as rt
    from benchmarks import models

    class Stop(keras.callbacks.Callback):
        """Ends the training after that time; the first epoch, in which programs are compiled, does not count."""

        end = float("inf")

        def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
            self.end = min(self.end, time.perf_counter() + seconds)

        def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
            self.model.stop_training = time.perf_counter() > self.end

    model = setting.build(estimator, 0)
    model.fit(*setting.train, batch_size=models.BATCH, epochs=10**6, verbose=0, callbacks=[Stop()])
    rounds = [-model.bound(*setting.held_out, num_samples=1, seed=seed) for seed in range(_ROUNDS)]
    return np.stack(rounds).mean(axis=0), rt.callbacks.global_step(model)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
