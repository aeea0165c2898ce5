"""Where the time of a training step goes: the kernels of the compiled program, by kind.

  python -m benchmarks.step_profile
  python -m benchmarks.step_profile --num_layers=2 --estimator=muprop

Trains the network of the paper on random images under TensorFlow's profiler. A kind's line is the kernel time of a step
summed over its kernels, each at its median; on several cores kernels run side by side, so the lines together are
compared with cores times the wall time of a step, and the rest is waiting and dispatch.
"""

from __future__ import annotations

import collections
import os
import pathlib
import re
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from benchmarks import random_network
from trainers.common.errors import reports_bad_input

if TYPE_CHECKING:  # TensorFlow takes seconds: the functions import it when they need it
    import tensorflow as tf

    import rebar_tf as rt

_PROGRAM, _STEPS = 100, 300


@reports_bad_input("step_profile")
def main(argv: Sequence[str]) -> int:
    model, batches = random_network.build(random_network.parse(argv, __doc__), _PROGRAM)
    model.fit(batches, steps_per_epoch=_STEPS, verbose=0, shuffle=False)  # compiles
    durations = profile(lambda: model.fit(batches, steps_per_epoch=_STEPS, verbose=0, shuffle=False))
    print(table(durations, kinds(model, batches), len(os.sched_getaffinity(0))))
    return 0


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


def kinds(model: rt.training.StochasticTraining, batches: tf.data.Dataset) -> dict[str, str]:
    """The kind of each kernel of the program, by the name that it has in the profile."""
    import tensorflow as tf

    block = next(iter(batches.batch(_PROGRAM)))
    text = model.train_function.program.experimental_get_compiler_ir(block, tf.constant(_PROGRAM))("optimized_hlo")
    found = {}
    for name, operation, rest in re.findall(r"%([\w.-]+) = [^=]*? ([a-z-]+)\((.*)", text):
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


def table(durations: dict[str, list[float]], kind_of: dict[str, str], cores: int) -> str:
    """Microseconds a step by kind, as Markdown."""
    totals, kernels = collections.Counter(), collections.Counter()
    for name, values in durations.items():
        if name in kind_of and "while" not in name:
            totals[kind_of[name]] += statistics.median(values) * len(values) / _STEPS
            kernels[kind_of[name]] += len(values) / _STEPS
    wall = sum(durations["train"]) / _STEPS
    lines = ["| kind | kernels a step | microseconds a step |", "| --- | --- | --- |"]
    lines += [f"| {kind} | {kernels[kind]:.1f} | {total:.0f} |" for kind, total in totals.most_common()]
    rest = cores * wall - totals.total()
    lines += [f"| waiting and dispatch | | {rest:.0f} |", f"| {cores} cores x {wall:.0f} wall | | {cores * wall:.0f} |"]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
