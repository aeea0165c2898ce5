"""Where the time of a training step goes: the kernels of the compiled program, by kind.

  python -m benchmarks.step_profile
  python -m benchmarks.step_profile --num_layers=2 --estimator=muprop

Trains the network of the paper on random images under TensorFlow's profiler. A kind's line is the kernel time of a step
summed over its kernels, each at its median; on several cores kernels run side by side, so the lines together are
compared with cores times the wall time of a step, and the rest is waiting and dispatch.

The last lines are the share of the product limit: the time that the step's products would take at the rate of one large
product on this machine, in parts of the wall time that a step takes without the profiler; and what that share would be
if the kernels, each as fast as it is, filled all cores without a gap.
"""

from __future__ import annotations

import collections
import math
import os
import pathlib
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from benchmarks import products, random_network
from trainers.common.errors import reports_bad_input

if TYPE_CHECKING:  # TensorFlow takes seconds: the functions import it when they need it
    import tensorflow as tf

    import rebar_tf as rt

_PROGRAM, _STEPS = 100, 300


@reports_bad_input("step_profile")
def main(argv: Sequence[str]) -> int:
    model, batches = random_network.build(random_network.parse(argv, __doc__), _PROGRAM)

    def train() -> None:
        model.fit(batches, steps_per_epoch=_STEPS, verbose=0, shuffle=False)

    train()  # compiles
    wall, rate = seconds_a_step(model, batches), products.large_product_rate()
    program, cores = optimized(model, batches), len(os.sched_getaffinity(0))
    durations, kind_of = profile(train), kinds(program)
    print(table(durations, kind_of, cores))
    flops = product_flops(program)
    limit, filled = flops / rate, sum(kernel_time(durations, kind_of).values()) / cores / 1e6
    print(
        f"\nproducts of {flops / 1e6:.1f} MFLOP a step; one large product runs at {rate / 1e9:.0f} GFLOP/s: "
        f"{limit * 1e6:.0f} of {wall * 1e6:.0f} us, share {limit / wall:.2f}"
    )
    print(f"all kernels without a gap on {cores} cores: {filled * 1e6:.0f} us, share {limit / filled:.2f}")
    return 0


def seconds_a_step(model: rt.training.StochasticTraining, batches: tf.data.Dataset) -> float:
    """The wall time of a step in the compiled program, the shortest of ten thousand-step runs."""
    import tensorflow as tf

    block, program = next(iter(batches.batch(_PROGRAM))), model.train_function.program

    def run() -> None:
        for _ in range(10):
            program(block, tf.constant(_PROGRAM))

    return min(seconds(run) for _ in range(10)) / (10 * _PROGRAM)


def seconds(run: Callable[[], object]) -> float:
    """How long `run` takes."""
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def product_flops(program: str) -> int:
    """The FLOPs of all products that the compiled program has; each runs once a step."""
    shapes = {
        name: [int(size) for size in sizes.split(",") if size]
        for name, sizes in re.findall(r"%([\w.-]+) = \w+\[([\d,]*)\]", program)
    }
    dots = re.findall(r"%([\w.-]+) = [^=]*? dot\(%([\w.-]+),.*?lhs_contracting_dims=\{([\d,]*)\}", program)
    return sum(
        2 * math.prod(shapes[name]) * math.prod(shapes[left][int(axis)] for axis in axes.split(","))
        for name, left, axes in dots
    )


def profile(run: Callable[[], object]) -> dict[str, list[float]]:
    """Durations in microseconds of all events of the host while `run` runs, by name."""
    import tensorflow as tf
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    with tempfile.TemporaryDirectory() as folder:
        options = tf.profiler.experimental.ProfilerOptions(host_tracer_level=3, python_tracer_level=0)
        with tf.profiler.experimental.Profile(folder, options):
            run()
        (path,) = pathlib.Path(folder).glob("plugins/profile/*/*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(path.read_bytes())
    durations = collections.defaultdict(list)
    for plane in space.planes:
        for line in plane.lines:
            for event in line.events:
                durations[plane.event_metadata[event.metadata_id].name].append(event.duration_ps / 1e6)
    return durations


def optimized(model: rt.training.StochasticTraining, batches: tf.data.Dataset, steps: int = _PROGRAM) -> str:
    """The program of that many steps as XLA runs it."""
    import tensorflow as tf

    block = next(iter(batches.batch(steps)))
    return model.train_function.program.experimental_get_compiler_ir(block, tf.constant(steps))("optimized_hlo")


def kinds(program: str) -> dict[str, str]:
    """The kind of each kernel of the program, by the name that it has in the profile."""
    found = {}
    for name, operation, rest in re.findall(r"%([\w.-]+) = [^=]*? ([a-z-]+)\((.*)", program):
        scope = re.search(r'op_name="([^"]*)"', rest)
        found[name] = _kind(operation, scope.group(1) if scope else "")
    return found


def _kind(operation: str, scope: str) -> str:
    if operation == "dot":
        return "products"
    if operation == "copy":
        return "copies"
    if "adam/" in scope:
        return "Adam"
    return "moving moments" if scope.startswith("while/while") else "elementwise and sums"


def kernels_of(durations: dict[str, list[float]], kind_of: dict[str, str]) -> list[str]:
    """The names among the events that are kernels."""
    return [name for name in durations if name in kind_of and "while" not in name]


def kernel_time(durations: dict[str, list[float]], kind_of: dict[str, str]) -> collections.Counter[str]:
    """Microseconds a step by kind: of each kernel its median, as often as it ran."""
    totals: collections.Counter[str] = collections.Counter()
    for name in kernels_of(durations, kind_of):
        totals[kind_of[name]] += statistics.median(durations[name]) * len(durations[name]) / _STEPS
    return totals


def table(durations: dict[str, list[float]], kind_of: dict[str, str], cores: int) -> str:
    """Microseconds a step by kind, as Markdown."""
    totals, kernels = kernel_time(durations, kind_of), collections.Counter()
    for name in kernels_of(durations, kind_of):
        kernels[kind_of[name]] += len(durations[name]) / _STEPS
    wall = sum(durations["train"]) / _STEPS
    lines = ["| kind | kernels a step | microseconds a step |", "| --- | --- | --- |"]
    lines += [f"| {kind} | {kernels[kind]:.1f} | {total:.0f} |" for kind, total in totals.most_common()]
    rest = cores * wall - totals.total()
    lines += [f"| waiting and dispatch | | {rest:.0f} |", f"| {cores} cores x {wall:.0f} wall | | {cores * wall:.0f} |"]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
