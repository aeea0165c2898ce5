"""Tries many inputs on the readers, the public Python API and the command line: a result, or one clear error.

python -m benchmarks.fuzz --inputs=1000000
    That many inputs, shared by the properties of tests/fuzz; it stops at the first that does not hold, and prints the
    smallest such input.

python -m benchmarks.fuzz --inputs=2000 --only="damaged files"
    One property.
"""

from __future__ import annotations

import os
import pathlib
import sys
import time

from absl import app, flags

os.environ.setdefault("TQDM_DISABLE", "1")  # of files that are read a thousand times
sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests"))

_INPUTS = flags.DEFINE_integer("inputs", 4000, "How many inputs to try, of all properties together.", lower_bound=4)
_ONLY = flags.DEFINE_string("only", None, "The name of the one property to try.")


def main(_: list[str]) -> None:
    """Prints how many inputs of each property were tried, and how long that took."""
    from fuzz.properties import PROPERTIES, tried

    names = list(PROPERTIES) if _ONLY.value is None else [_ONLY.value]
    for name in names:
        start = time.perf_counter()
        count = tried(name, _INPUTS.value // len(names))
        print(f"{name:<16} {count:>9} inputs held in {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    app.run(main)
