"""The products of a step by the number of their rows: is one of 72 rows faster than three of 24?

  python -m benchmarks.products
  taskset -c 0 python -m benchmarks.products

Of a hard pass, a relaxed one and the tangent of the temperature, each of 24 rows, with a layer's weights [200, 784] and
with their transpose: as three products of one program, which may run side by side, and as one of all rows. Also the
rate of one large product. Each figure is the best of several programs of 200 turns under XLA.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from trainers.common import flags
from trainers.common.errors import reports_bad_input
from trainers.common.tensorflow_import import import_tensorflow

if TYPE_CHECKING:
    import tensorflow as tf

_ROWS, _UNITS, _PIXELS, _LARGE = 24, 200, 784, 2048


@reports_bad_input("products")
def main(argv: Sequence[str]) -> int:
    values = flags.Flags()
    flags.define_integer(values, "turns", 200, "Turns of a program.", low=1)
    turns = flags.parse(values, argv, __doc__)["turns"]
    import_tensorflow()
    print(f"{len(os.sched_getaffinity(0))} cores\n\n| products | us | GFLOP/s |\n| --- | --- | --- |")
    report(f"one of {_LARGE} x {_LARGE} x {_LARGE}", _LARGE, _LARGE, _LARGE, 1, False, 1)
    for transposed, inputs, outputs in ((False, _UNITS, _PIXELS), (True, _PIXELS, _UNITS)):
        by = f"[{_UNITS}, {_PIXELS}]{'^T' if transposed else ''}"
        for number, rows in ((1, _ROWS), (2, _ROWS), (1, 2 * _ROWS), (3, _ROWS), (1, 3 * _ROWS)):
            report(f"{number} of [{rows}, {inputs}] x {by}", rows, inputs, outputs, number, transposed, turns)
    return 0


def report(name: str, rows: int, inputs: int, outputs: int, number: int, transposed: bool, turns: int) -> None:
    """Prints the line of `number` products of `rows` rows by the same weights."""
    seconds = duration(rows, inputs, outputs, number, transposed, turns)
    print(f"| {name} | {seconds * 1e6:.0f} | {2e-9 * number * rows * inputs * outputs / seconds:.0f} |", flush=True)


def large_product_rate() -> float:
    """FLOPs per second of one product of large matrices."""
    return 2 * _LARGE**3 / duration(_LARGE, _LARGE, _LARGE, 1, False, 1)


def duration(rows: int, inputs: int, outputs: int, number: int, transposed: bool, turns: int) -> float:
    """Seconds of `number` products of `rows` rows by the same weights: of the best of several programs."""
    import tensorflow as tf

    weights = tf.random.normal([outputs, inputs] if transposed else [inputs, outputs])
    left = [tf.random.normal([rows, inputs]) for _ in range(number)]
    return best(program(weights, transposed, turns), left) / turns


def program(weights: tf.Tensor, transposed: bool, turns: int) -> Callable[[list[tf.Tensor]], list[tf.Tensor]]:
    """Repeats the products; a number of each result enters the next turn, so that none is left out."""
    import tensorflow as tf

    @tf.function(autograph=False, jit_compile=True)
    def repeat(left: list[tf.Tensor]) -> list[tf.Tensor]:
        def turn(i: tf.Tensor, left: list[tf.Tensor]) -> tuple[tf.Tensor, list[tf.Tensor]]:
            products = [tf.matmul(each, weights, transpose_b=transposed) for each in left]
            return i + 1, [each + 1e-6 * product[:1, :1] for each, product in zip(left, products, strict=True)]

        return tf.while_loop(lambda i, _: i < turns, turn, (tf.constant(0), left))[1]

    return repeat


def best(run: Callable[[list[tf.Tensor]], list[tf.Tensor]], left: list[tf.Tensor], times: int = 9) -> float:
    """The seconds of the fastest of several calls, after one that compiles."""
    run(left)
    seconds = []
    for _ in range(times):
        begin = time.perf_counter()
        run(left)[0].numpy()
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
