"""What `import rebar_tf` adds to the import of TensorFlow and Keras, in seconds and megabytes.

  python -m benchmarks.imports --rounds=5

Each import runs in a process of its own, the three in turn; the medians are printed as a table.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

from trainers.common import flags
from trainers.common.errors import reports_bad_input

IMPORTS = {
    "tensorflow": "import tensorflow",
    "tensorflow, keras": "import tensorflow, keras",
    "tensorflow, keras, rebar_tf": "import tensorflow, keras, rebar_tf",
}
_REPORT = "; import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"


@reports_bad_input("imports")
def main(argv: Sequence[str]) -> int:
    values = flags.Flags()
    flags.define_integer(values, "rounds", 5, "Times that each import is measured.", low=1)
    given = flags.parse(values, argv, __doc__)
    measured: dict[str, list[tuple[float, float, float]]] = {what: [] for what in IMPORTS}
    for _ in range(given["rounds"]):
        for what, code in IMPORTS.items():
            measured[what].append(imported(code))
    print("| import | seconds | CPU-seconds | MB |\n| --- | --- | --- | --- |")
    for what, runs in measured.items():
        wall, cpu, memory = (statistics.median(values) for values in zip(*runs, strict=True))
        print(f"| {what} | {wall:.2f} | {cpu:.2f} | {memory:.0f} |")
    return 0


def imported(code: str) -> tuple[float, float, float]:
    """Wall and CPU seconds of a process that runs the import, and its peak memory in megabytes."""
    begin, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-c", code + _REPORT]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu, float(output)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
