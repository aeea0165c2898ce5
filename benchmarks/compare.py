"""A training step before and after a change, in turn, as a ratio.

  git worktree add ../before COMMIT
  python -m benchmarks.compare --before=../before
  python -m benchmarks.compare --before=../before --nonlinear=true
  python -m benchmarks.compare --before=. --before_xla_flags=--xla_cpu_prefer_vector_width=256

Trains the network of the paper on random images in one process for each of the two checkouts. They take turns of 1,000
steps, so that both meet the same moods of the machine; the median of the ratios after / before is printed. Flags of
trainers.train say which network, for its sizes and estimator.
"""

from __future__ import annotations

import json
import os
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from trainers.common import flags
from trainers.common.errors import BadInput, reports_bad_input
from trainers.common.experiment import FLAGS, Experiment

_PROGRAM, _PROGRAMS = 100, 10


@reports_bad_input("compare")
def main(argv: Sequence[str]) -> int:
    values = flags.Flags()
    flags.define_string(values, "before", None, "Checkout to compare this one with.")
    flags.define_string(values, "before_xla_flags", "", "XLA_FLAGS of that one.")
    flags.define_integer(values, "rounds", 8, "Turns of each.", low=1)
    flags.define_boolean(values, "worker", False, "Whether this is one of the two processes: a line in, a rate out.")
    flags.define_experiment(values, *FLAGS)
    given = flags.parse(values, argv, __doc__, options_without=())
    checkout, xla_flags, rounds, worker = (
        given.pop(name) for name in ("before", "before_xla_flags", "rounds", "worker")
    )
    if worker:
        work(Experiment.from_flags(given))
        return 0
    if checkout is None:
        raise BadInput("flag --before: must be given; expected a checkout")
    here = pathlib.Path(__file__).parents[1]
    before = start(pathlib.Path(checkout).resolve(), xla_flags)
    after = start(here, "")
    pairs = [(rate(before), rate(after)) for _ in range(rounds)]
    for process in (before, after):
        process.communicate()
    for name, rates in zip(("before", "after"), zip(*pairs, strict=True), strict=True):
        print(f"{name:6}  {statistics.median(rates):6.0f} steps/s  ({', '.join(f'{value:.0f}' for value in rates)})")
    print(json.dumps({"ratio": round(statistics.median(after / before for before, after in pairs), 3)}))
    return 0


def start(checkout: pathlib.Path, xla_flags: str) -> subprocess.Popen:
    """A worker of `checkout`, by its own file of this name: only the flags and the lines exchanged must be the same."""
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    if xla_flags:
        environment["XLA_FLAGS"] = xla_flags
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(
        [sys.executable, checkout / "benchmarks" / "compare.py", "--worker", *sys.argv[1:]],
        env=environment,
        text=True,
        **pipes,
    )


def rate(worker: subprocess.Popen) -> float:
    """Steps per second of one turn of a worker, which is compiled by then."""
    worker.stdin.write("\n")
    worker.stdin.flush()
    return float(worker.stdout.readline())


def work(experiment: Experiment) -> None:
    """Answers each line of the input with a rate."""
    import random_network  # a file's own folder is on its path; the rest comes from the checkout
    import tensorflow as tf

    model, batches = random_network.build(experiment, _PROGRAM)
    model.fit(batches, steps_per_epoch=_PROGRAM, verbose=0, shuffle=False)  # compiles
    stacked = next(iter(batches.batch(_PROGRAM)))
    for _ in sys.stdin:
        begin = time.perf_counter()
        for _ in range(_PROGRAMS):
            model.train_function.program(stacked, tf.constant(_PROGRAM))
        print(_PROGRAM * _PROGRAMS / (time.perf_counter() - begin), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
