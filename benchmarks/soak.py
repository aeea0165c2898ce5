"""Whether a long training stays as fast and as small as it began.

  python -m benchmarks.soak
  python -m benchmarks.soak --num_steps=200000 --resumes=5

One linear layer on random digits of MNIST's size, as trainers.train trains it, in one process: memory and speed of each
tenth of the run, the first of which warms up. Then the same number of steps as a run that is continued so many times, a
process each: peak memory and speed of each, its start included. Speed is in steps per second of a core, which other
work on the machine changes little. The last line of the output is JSON: how much memory grew from the second tenth to
the last, and how much slower that was; and the same from the first to the last continuation.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

from benchmarks import random_network
from trainers.common import flags
from trainers.common.errors import reports_bad_input
from trainers.common.experiment import Experiment
from trainers.common.tensorflow_import import import_tensorflow

_PROGRAM = 100
_PARTS = 10


@dataclasses.dataclass(frozen=True)
class Part:
    """A tenth of a run, or a continuation: steps per second of a core, and MB at its end or at most."""

    speed: float
    megabytes: float


@reports_bad_input("soak")
def main(argv: Sequence[str]) -> int:
    values = flags.Flags()
    flags.define_integer(values, "num_steps", 2_000_000, "Of each of the two runs.", low=_PARTS * _PROGRAM)
    flags.define_integer(values, "resumes", 20, "Processes of the run that is continued.", low=2)
    given = flags.parse(values, argv, __doc__)
    import_tensorflow()
    parts = in_one_process(given["num_steps"])
    continued = by_continuations(given["num_steps"] // given["resumes"], given["resumes"])
    print(json.dumps({"one process": growth(parts[1:]), "continued": growth(continued)}))
    return 0


def in_one_process(num_steps: int) -> list[Part]:
    """The tenths of a run of `model.fit`."""
    model, batches = random_network.build(Experiment(), _PROGRAM)
    steps = num_steps // _PARTS // _PROGRAM * _PROGRAM
    parts = []
    for i in range(_PARTS):
        begin = time.process_time()
        model.fit(batches, steps_per_epoch=steps, verbose=0, shuffle=False)
        parts.append(Part(steps / (time.process_time() - begin), resident()))
        print(f"{(i + 1) * steps} steps: {parts[-1].speed:.0f} steps/s, {parts[-1].megabytes:.0f} MB", flush=True)
    return parts


def by_continuations(steps: int, resumes: int) -> list[Part]:
    """The processes of a run of trainers.train that is continued."""
    parts = []
    with tempfile.TemporaryDirectory() as folder:
        for i in range(resumes):
            command = [
                sys.executable,
                "-m",
                "trainers.train",
                f"--workdir={folder}/run",
                f"--num_steps={(i + 1) * steps}",
            ]
            process = subprocess.Popen(
                [*command, "--eval_samples=1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            _, status, used = os.wait4(process.pid, 0)
            if status:
                raise RuntimeError(f"{' '.join(command)} ended with {status}")
            parts.append(Part(steps / (used.ru_utime + used.ru_stime), used.ru_maxrss / 1e3))
            print(f"process {i + 1}: {parts[-1].speed:.0f} steps/s, {parts[-1].megabytes:.0f} MB at most", flush=True)
    return parts


def resident() -> float:
    """The memory of this process now, MB."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def growth(parts: list[Part]) -> dict[str, float]:
    """From the first part to the last: how much larger, and how much slower, as a part of the first."""
    first, last = parts[0], parts[-1]
    return {
        "memory": round(last.megabytes / first.megabytes - 1.0, 4),
        "slower": round(1.0 - last.speed / first.speed, 4),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv))
