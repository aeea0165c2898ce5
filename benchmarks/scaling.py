"""How the speed grows with the batch and with runs side by side, and what a bound takes.

  python -m benchmarks.scaling

Prints three tables: steps and images per second by batch size; steps per second of two runs of `trainers.sweep`, one
after the other on all cores and side by side; seconds and memory of the bound of 10,000 images, by number of samples.
Batches and bounds are measured three times, and the medians are printed; the sweeps run once.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

from benchmarks import random_network
from trainers.common.errors import reports_bad_input
from trainers.common.experiment import Experiment

_ROUNDS, _PROGRAM, _PROGRAMS = 3, 100, 5
_BATCHES = (24, 48, 96, 192, 384)
_SAMPLES = (1, 100, 300)
_IMAGES = 10_000
_SWEEP_STEPS = 5000


@reports_bad_input("scaling")
def main(argv: Sequence[str]) -> int:
    experiment = random_network.parse(argv, __doc__)
    print(sweep_table({jobs: sweep(jobs) for jobs in (1, 2)}))  # first, as it needs all cores
    print(bound_table(bounds(experiment)))
    print(batch_table(in_turn({batch: training(experiment, batch) for batch in _BATCHES})))
    return 0


def in_turn(runs: dict[int, Callable[[], object]]) -> dict[int, float]:
    """Median seconds of each run, after one that compiles."""
    seconds = {name: [] for name in runs}
    for i in range(_ROUNDS + 1):
        for name, run in runs.items():
            begin = time.perf_counter()
            run()
            if i > 0:
                seconds[name].append(time.perf_counter() - begin)
    return {name: statistics.median(times) for name, times in seconds.items()}


def training(experiment: Experiment, batch: int) -> Callable[[], object]:
    """What trains on batches of that size for some programs."""
    model, batches = random_network.build(dataclasses.replace(experiment, batch_size=batch), _PROGRAM)
    return lambda: model.fit(batches, steps_per_epoch=_PROGRAM * _PROGRAMS, verbose=0, shuffle=False)


def bounds(experiment: Experiment) -> dict[int, tuple[float, float]]:
    """For each number of samples the seconds of a bound, and the peak memory in MB until then."""
    import numpy as np

    model, _ = random_network.build(experiment, _PROGRAM)
    images = (np.random.default_rng(0).uniform(size=(_IMAGES, 784)) < 0.13).astype("float32")
    measured = {}
    for samples in _SAMPLES:
        seconds = in_turn({samples: lambda samples=samples: model.bound(images, num_samples=samples)})[samples]
        measured[samples] = seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return measured


def sweep(jobs: int) -> list[float]:
    """Steps per second of both runs of a sweep, that many at a time."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["--tasks=mnist_5k:generative", "--models=linear1", "--methods=rebar"]
        sizes = ["--learning_rates=3e-4", "--seeds=0,1", f"--num_steps={_SWEEP_STEPS}"]
        command = [sys.executable, "-m", "trainers.sweep", f"--jobs={jobs}", f"--workdir={folder}", *options, *sizes]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        summaries = [json.loads(path.read_text()) for path in pathlib.Path(folder).glob("*/summary.json")]
    return [summary["steps_per_second"] for summary in summaries]


def batch_table(seconds: dict[int, float]) -> str:
    """Markdown."""
    lines = ["| images a step | steps/s | images/s |", "| --- | --- | --- |"]
    for batch, value in seconds.items():
        rate = _PROGRAM * _PROGRAMS / value
        lines.append(f"| {batch} | {rate:.0f} | {rate * batch:.0f} |")
    return "\n".join(lines) + "\n"


def sweep_table(rates: dict[int, list[float]]) -> str:
    """Markdown."""
    from trainers.sweep.process import available_cores

    cores = len(available_cores())
    lines = [f"| runs at a time on {cores} cores | steps/s of each | together |", "| --- | --- | --- |"]
    for jobs, values in rates.items():
        mean = statistics.mean(values)
        lines.append(f"| {jobs} | {mean:.0f} | {mean * jobs:.0f} |")
    return "\n".join(lines) + "\n"


def bound_table(measured: dict[int, tuple[float, float]]) -> str:
    """Markdown."""
    lines = [f"| samples of each of {_IMAGES:,} images | seconds | peak memory so far, MB |", "| --- | --- | --- |"]
    lines += [f"| {samples} | {seconds:.1f} | {peak:.0f} |" for samples, (seconds, peak) in measured.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv))
