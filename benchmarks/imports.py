"""What importing TensorFlow, Keras and rebar_tf costs, and each package that is loaded only when it is used.

  python -m benchmarks.imports --rounds=5

A process imports all of them in this order, in each round a new one. A line of the table is what a package adds to
those above it, the median over the rounds. Keras loads what it finds of matplotlib, pandas and scikit-learn; here it
does not, as in the commands.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Sequence

from trainers.common import flags
from trainers.common.errors import reports_bad_input

LIBRARY = ("tensorflow", "keras", "rebar_tf")
LATER = (
    *("scipy.stats", "tensorboard.summary.writer.record_writer", "matplotlib.figure", "joblib", "mlxtend.data", "tqdm"),
    *("tensorflow_datasets", "tensorflow_probability"),
)
_CODE = """
import importlib, json, resource, sys, time
def now():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return time.perf_counter(), usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024
def load(name):
    before = now()
    importlib.import_module(name)
    print(json.dumps([after - begin for begin, after in zip(before, now())]))
from trainers.common.tensorflow_import import OPTIONAL_FOR_KERAS, hidden
with hidden(OPTIONAL_FOR_KERAS):
    for name in sys.argv[1].split(","):
        load(name)
for name in sys.argv[2].split(","):
    load(name)
"""


@reports_bad_input("imports")
def main(argv: Sequence[str]) -> int:
    values = flags.Flags()
    flags.define_integer(values, "rounds", 5, "Processes that import all of them.", low=1)
    rounds = [imported() for _ in range(flags.parse(values, argv, __doc__)["rounds"])]
    print("| import | seconds | CPU-seconds | MB |\n| --- | --- | --- | --- |")
    for package, runs in zip((*LIBRARY, *LATER), zip(*rounds, strict=True), strict=True):
        wall, cpu, memory = (statistics.median(values) for values in zip(*runs, strict=True))
        print(f"| {package} | {wall:.2f} | {cpu:.2f} | {memory:.0f} |")
    return 0


def imported() -> list[list[float]]:
    """Of each package, imported after those before it: wall and CPU seconds, and megabytes of peak memory."""
    command = [sys.executable, "-c", _CODE, ",".join(LIBRARY), ",".join(LATER)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    return [json.loads(line) for line in output.splitlines()]


if __name__ == "__main__":
    sys.exit(main(sys.argv))
