"""Whether a long training stays as fast and as small as it began.

  python -m benchmarks.soak
  python -m benchmarks.soak --num_steps=200000 --resumes=5 --parts=continued

One linear layer, REBAR. First trained by so many processes, one after the other, each of which continues the run of
trainers.train: the peak memory of each. Then as many steps in one process, on random images of MNIST's size: its memory
at each tenth of the run, the first of which warms up.

A machine is not equally fast all day, so the speed after many steps is compared with that of a model that has just been
made, in a process of its own: the two take turns of 1,000 steps, and each pair of turns gives a ratio. The last line of
the output is JSON, of each run: how much memory grew, from the second tenth to the last, and along the line through the
peaks of the continuations, of which each is by chance some percent from it; and how much slower the old model was, the
median over the pairs. Intervals are those of 95 %.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from scipy import stats

from benchmarks import random_network
from trainers.common import flags
from trainers.common.errors import reports_bad_input
from trainers.common.experiment import Experiment
from trainers.common.tensorflow_import import import_tensorflow

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

_PARTS = ("continued", "one_process")
_PROGRAM = 100
_TENTHS = 10
_TURN = 1000
_PAIRS = 101


@reports_bad_input("soak")
def main(argv: Sequence[str]) -> int:
    values = flags.Flags()
    flags.define_integer(values, "num_steps", 2_000_000, "Of each of the two runs.", low=_TENTHS * _PROGRAM)
    flags.define_integer(values, "resumes", 20, "Processes of the run that is continued.", low=3)
    flags.define_some(values, "parts", _PARTS, "What is run.")
    given = flags.parse(values, argv, __doc__)
    steps, resumes, found = given["num_steps"], given["resumes"], {}
    # In this order: what the system counts as the peak of a process begins with that of the one which started it.
    if "continued" in given["parts"]:
        found["continued"] = continued(steps // resumes, resumes)
    if "one_process" in given["parts"]:
        found["one_process"] = one_process(steps)
    print(json.dumps(found))
    return 0


def one_process(num_steps: int) -> dict[str, object]:
    """What a run in this process comes to."""
    train, part = trainer(), num_steps // _TENTHS // _PROGRAM * _PROGRAM
    megabytes = []
    for i in range(_TENTHS):
        train(part)
        megabytes.append(resident())
        print(f"{(i + 1) * part} steps: {megabytes[-1]:.0f} MB", flush=True)
    with trainer_elsewhere() as new:
        return {"memory": growth(megabytes[1:]), "slower": slower(train, new)}


def continued(steps: int, resumes: int) -> dict[str, object]:
    """What a run of trainers.train comes to that is continued, `steps` steps by each process."""
    megabytes = []
    with tempfile.TemporaryDirectory() as folder:
        for i in range(resumes):
            command = [sys.executable, "-m", "trainers.train", f"--workdir={folder}", f"--num_steps={(i + 1) * steps}"]
            process = subprocess.Popen(
                [*command, "--eval_samples=1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            _, status, used = os.wait4(process.pid, 0)
            if status:
                raise RuntimeError(f"{' '.join(command)} ended with {status}")
            megabytes.append(used.ru_maxrss * 1024 / 1e6)
            print(f"process {i + 1}: {megabytes[-1]:.0f} MB at most", flush=True)
        with trainer_elsewhere(folder) as old, trainer_elsewhere() as new:
            return {"memory": trend(megabytes), "slower": slower(old, new)}


Trainer = Callable[[int], float]  # trains so many steps; returns the seconds that it took


def trainer(workdir: str | None = None) -> Trainer:
    """Of a model in this process, compiled: that of a run's checkpoint, or a new one."""
    import_tensorflow()
    model, batches = random_network.build(Experiment(), _PROGRAM)
    if workdir is not None:
        from trainers.run.workdir import load_model

        model = load_model(workdir)
        model.steps_per_execution = _PROGRAM

    def train(steps: int) -> float:
        begin = time.perf_counter()
        model.fit(batches, steps_per_epoch=steps, verbose=0, shuffle=False)
        return time.perf_counter() - begin

    train(_PROGRAM)
    return train


@contextlib.contextmanager
def trainer_elsewhere(workdir: str | None = None) -> Iterator[Trainer]:
    """Of a model in a process of its own."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, workdir), daemon=True)
    process.start()
    there.close()  # so that its end is seen here

    def train(steps: int) -> float:
        here.send(steps)
        return here.recv()

    try:
        yield train
    finally:
        with contextlib.suppress(OSError):  # of one that has ended before
            here.send(0)
        process.join()


def _serve(connection: Connection, workdir: str | None) -> None:
    train = trainer(workdir)
    while steps := connection.recv():
        connection.send(train(steps))


def slower(old: Trainer, new: Trainer) -> dict[str, float]:
    """How much slower the old one is, as a part of the new one's speed: the median over pairs of turns, and 95 %."""
    for train in (old, new):
        train(_TURN)
    losses = []
    for pair in range(_PAIRS):
        order = (old, new) if pair % 2 else (new, old)
        seconds = {train: train(_TURN) for train in order}
        losses.append(1.0 - seconds[new] / seconds[old])
    return interval(statistics.median(losses), *stats.quantile_test(losses, p=0.5).confidence_interval(0.95))


def resident() -> float:
    """The memory of this process now, MB."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def growth(megabytes: Sequence[float]) -> float:
    """From the first to the last, as a part of the first."""
    return round(megabytes[-1] / megabytes[0] - 1.0, 4)


def trend(megabytes: Sequence[float]) -> dict[str, float]:
    """How much the line through the values rises from the first to the last, as a part of their mean."""
    line = stats.linregress(range(len(megabytes)), megabytes)
    whole = (len(megabytes) - 1) / statistics.mean(megabytes)
    half = float(stats.t.ppf(0.975, len(megabytes) - 2)) * line.stderr
    return interval(line.slope * whole, (line.slope - half) * whole, (line.slope + half) * whole)


def interval(value: float, low: float, high: float) -> dict[str, float]:
    """A number with its interval of 95 %, for the last line."""
    return {name: round(float(x), 4) for name, x in {"is": value, "low": low, "high": high}.items()}


if __name__ == "__main__":
    sys.exit(main(sys.argv))
