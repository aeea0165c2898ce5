"""How cost grows: with the batch, the units, the layers, the samples, the runs side by side, and of a bound.

  python -m benchmarks.scaling
  python -m benchmarks.scaling --parts=growth --plot=docs/pictures/scaling.png

Prints tables. growth: seconds of a step and memory of networks of many sizes, each in a process of its own, with the
exponents of the straight lines through the logarithms, over all sizes and over the upper half of them, and a picture.
workers: steps per second of two runs of `trainers.sweep`, one after the other on all cores and side by side. bounds:
seconds and memory of the bound of 10,000 images, by number of samples. It takes some quarter of an hour.
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
from typing import Any

from benchmarks import random_network
from trainers.common import flags
from trainers.common.errors import reports_bad_input
from trainers.common.experiment import Experiment
from trainers.common.tensorflow_import import import_tensorflow

_ROUNDS, _PROGRAM = 3, 100
_SAMPLES = (1, 100, 300)
_IMAGES = 10_000
_SWEEP_STEPS = 5000
_PARTS = ("growth", "workers", "bounds")


@dataclasses.dataclass(frozen=True)
class Axis:
    """What grows, all else being the paper's network of one linear layer, REBAR and batches of 24.

    Attributes:
        title: of the table and the curve.
        flag: of `trainers.train`.
        values: of the flag.
        others: flags that are the same at all values.
    """

    title: str
    flag: str
    values: tuple[int, ...]
    others: tuple[str, ...] = ()


_LAYERS = (1, 2, 4, 8)
PANELS: dict[str, tuple[Axis, ...]] = {
    "images a step": (Axis("batch", "batch_size", (24, 48, 96, 240, 480, 960, 2400, 4096)),),
    "units a layer": (Axis("units", "hidden_units", (50, 100, 200, 500, 1000, 2000)),),
    "layers": (
        Axis("layers, a relaxed pass for each", "num_layers", _LAYERS, ("--group_size=1",)),
        Axis("layers, a relaxed pass for two", "num_layers", _LAYERS, ("--group_size=2",)),
        Axis("layers, one relaxed pass", "num_layers", _LAYERS, ("--group_size=8",)),
    ),
    "samples K": (Axis("samples", "num_samples", (2, 4, 8, 16), ("--estimator=multi_sample_rebar",)),),
}
Point = dict[str, float]


@reports_bad_input("scaling")
def main(argv: Sequence[str]) -> int:
    values = flags.Flags()
    flags.define_some(values, "parts", _PARTS, "What to measure.")
    flags.define_string(values, "plot", None, "File of the picture of the growth. Unset: none.")
    given = flags.parse(values, argv, __doc__)
    if "workers" in given["parts"]:  # first, as it needs all cores
        print(sweep_table({jobs: sweep(jobs) for jobs in (1, 2)}), flush=True)
    if "growth" in given["parts"]:
        grown = {axis.title: growth(axis) for axes in PANELS.values() for axis in axes}
        if given["plot"] is not None:
            draw(grown, pathlib.Path(given["plot"]))
    if "bounds" in given["parts"]:
        print(bound_table(bounds()))
    return 0


def growth(axis: Axis) -> list[Point]:
    """The measurements along an axis; prints them as Markdown."""
    points = []
    print(f"| {axis.title} | us a step | MB | MFLOP a step | share of a large product's rate |\n{'| --- ' * 5}|")
    for value in axis.values:
        command = [sys.executable, "-m", "benchmarks.growth", f"--{axis.flag}={value}", *axis.others]
        ended = subprocess.run(command, capture_output=True, text=True)
        if ended.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with {ended.returncode}:\n{ended.stderr[-2000:]}")
        point = json.loads(ended.stdout.splitlines()[-1])
        points.append(point)
        numbers = f"{1e6 * point['seconds']:.0f} | {point['peak_mb']:.0f} | {point['mflop']:.1f} | {point['share']:.2f}"
        print(f"| {value} | {numbers} |", flush=True)
    print("\n" + "; ".join(f"{name}: {text}" for name, text in fits(axis, points).items()) + "\n", flush=True)
    return points


def fits(axis: Axis, points: list[Point]) -> dict[str, str]:
    """The exponents of time and memory, and the straight line of memory, in words."""
    import numpy as np

    seconds, memory = (np.array([point[name] for point in points]) for name in ("seconds", "peak_mb"))
    sizes, upper = np.array(axis.values, float), slice(len(points) // 2, None)
    slope, base = np.polyfit(sizes, memory, 1)
    off = np.abs(memory - base - slope * sizes).max()
    all_sizes, large = exponent(sizes, seconds), exponent(sizes[upper], seconds[upper])
    return {
        "exponent of time": f"{all_sizes:.2f}, of the upper half {large:.2f}",
        "exponent of memory": f"{exponent(sizes, memory):.2f}",
        "memory": f"{base:.0f} MB + {slope:.2f} MB for each, within {off:.0f} MB",
    }


def exponent(sizes: Any, values: Any) -> float:
    """b of the line `log value = a + b log size`, by least squares."""
    import numpy as np

    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def draw(grown: dict[str, list[Point]], path: pathlib.Path) -> None:
    """Writes the picture: time and memory over the size, by what grows."""
    from trainers.common import plot

    figure = plot.new_figure(3.6 * len(PANELS), 6.0)
    rows = figure.subplots(2, len(PANELS), sharey="row", squeeze=False)
    shown = (("seconds", "microseconds a step", 1e6), ("peak_mb", "peak memory, MB", 1.0))
    for row, (name, label, scale) in enumerate(shown):
        for axis_of_figure, (panel, axes) in zip(rows[row], PANELS.items(), strict=True):
            for number, axis in enumerate(axes):
                found = [scale * point[name] for point in grown[axis.title]]
                text = f"{axis.title}: exponent {exponent(axis.values, found):.2f}"
                axis_of_figure.loglog(axis.values, found, label=text, **plot.curve_style(number))
            axis_of_figure.set_xlabel(panel)
            axis_of_figure.set_xticks(axes[0].values, [str(value) for value in axes[0].values], fontsize=8)
            axis_of_figure.set_xticks([], minor=True)
            axis_of_figure.grid(color="0.9", linewidth=0.6, which="both")
            axis_of_figure.legend(fontsize=7)
        rows[row][0].set_ylabel(label)
    figure.savefig(path, dpi=110)


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


def bounds() -> dict[int, tuple[float, float]]:
    """For each number of samples the seconds of a bound, and the peak memory in MB until then."""
    import_tensorflow()
    import numpy as np

    model, _ = random_network.build(Experiment(), _PROGRAM)
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
