"""What many runs in one program give: the time of a step of 1, 2, 4 and 8 runs of a network.

  python -m benchmarks.stacked
  python -m benchmarks.stacked --estimator=nvil --num_layers=2

Takes the flags of trainers.train, and random images in place of a dataset. The first line is the network as it is
trained alone, on all cores; on a CPU a core for each run is what a program of many runs has to be set against.
"""

from __future__ import annotations

import dataclasses
import statistics
import sys
from collections.abc import Sequence

from benchmarks import random_network, step_profile
from trainers.common import markdown
from trainers.common.errors import reports_bad_input
from trainers.common.experiment import Experiment
from trainers.common.tensorflow_import import import_tensorflow

_RUNS = (1, 2, 4, 8)
_STEPS = 100  # of a program
_PROGRAMS = 15  # timed, of which the median counts


@reports_bad_input("stacked")
def main(argv: Sequence[str]) -> int:
    """Prints the table."""
    experiment = random_network.parse(argv, __doc__)
    import_tensorflow()
    alone = microseconds(experiment, runs=None)
    rows = [["alone", f"{alone:.0f}", f"{alone:.0f}"]]
    for runs in _RUNS:
        together = microseconds(experiment, runs)
        rows.append([str(runs), f"{together:.0f}", f"{together / runs:.0f}"])
    print(markdown.table(["runs in a program", "us a step of all", "us a step of one"], rows))
    return 0


def microseconds(experiment: Experiment, runs: int | None) -> float:
    """Of a step of a program with so many runs; of the ordinary program for None."""
    import tensorflow as tf

    from rebar_tf.training import RunGroup

    seeds = range(runs or 1)
    built = [random_network.build(dataclasses.replace(experiment, seed=seed), _STEPS) for seed in seeds]
    models, batches = zip(*built, strict=True)
    if runs is None:
        (model,), (data,) = models, batches
    else:
        model = RunGroup(models)
        model.steps_per_execution = _STEPS
        data = tf.data.Dataset.zip(batches).map(lambda *parts: tf.stack(parts))
    model.make_train_function()
    stacked = next(iter(data.batch(_STEPS)))
    program = model.train_function.program

    def run() -> None:
        tf.nest.map_structure(lambda tensor: tensor.numpy(), program(stacked, tf.constant(_STEPS)))

    run()  # compiles
    return 1e6 * statistics.median(step_profile.seconds(run) for _ in range(_PROGRAMS)) / _STEPS


if __name__ == "__main__":
    sys.exit(main(sys.argv))
