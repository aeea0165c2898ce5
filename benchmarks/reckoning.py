"""What the paper's whole table costs, in hours of a core, from the steps per second that the leaderboard measured.

  python -m benchmarks.reckoning
  python -m benchmarks.reckoning --num_steps=100000 --rates=1 --nonlinear_rates=1 --seeds=1

The table has two generative tasks, MNIST and Omniglot, and a structured one; three networks and five methods; for each
of these 45 cells so many learning rates, five for the linear networks and two for the nonlinear one, seeds and steps. A
step's cost does not ask which images they are. Rows of
docs/leaderboard.csv say how many steps a core does in a second; REBAR at a fixed temperature is taken to cost what it
costs with a learned one. Bounds at the end, and the start of each run, are not counted: they take some minute.
"""

from __future__ import annotations

import itertools
import statistics
import sys
from collections.abc import Sequence

from benchmarks import leaderboard
from trainers.common import flags, markdown
from trainers.common.errors import BadInput, reports_bad_input

METHODS = {"NVIL": "nvil", "MuProp": "muprop", "REBAR (0.1)": "rebar", "REBAR": "rebar", "Concrete (0.1)": "concrete"}
TASKS = {"sbn": ("MNIST", "Omniglot"), "sp": ("structured MNIST",)}


@reports_bad_input("reckoning")
def main(argv: Sequence[str]) -> int:
    values = flags.Flags()
    flags.define_integer(values, "num_steps", 2_000_000, "Of each run.", low=1)
    flags.define_integer(values, "rates", 5, "Learning rates of each cell of a linear network.", low=1)
    flags.define_integer(values, "nonlinear_rates", 2, "Those of the nonlinear one.", low=1)
    flags.define_integer(values, "seeds", 5, "Seeds of each rate.", low=1)
    given = flags.parse(values, argv, __doc__)
    hours = {cell: given["num_steps"] / rate / 3600 for cell, rate in steps_per_second().items()}
    lines, total, count = [], 0.0, 0
    for kind, net in itertools.product(TASKS, leaderboard.NETS):
        of_methods = [hours[f"{kind}_{net}", estimator] for estimator in METHODS.values()]
        rates = given["nonlinear_rates" if leaderboard.NETS[net][1] else "rates"]
        runs = len(TASKS[kind]) * rates * given["seeds"]
        total += runs * sum(of_methods)
        count += runs * len(of_methods)
        lines.append([f"{', '.join(TASKS[kind])}: {net}", *(f"{each:.2f}" for each in of_methods)])
    print(markdown.table(["hours of a core for a run", *METHODS], lines))
    print(f"\n{count} runs of {given['num_steps']:,} steps: {total:,.0f} hours of a core")
    return 0


def steps_per_second() -> dict[tuple[str, str], float]:
    """By model and estimator, of a core: the median over the seeds of the longest measurements."""
    found: dict[tuple[str, str], dict[float, list[float]]] = {}
    for row in leaderboard.read_rows():
        seconds = float(row["seconds"])
        of_cell = found.setdefault((row["model"], row["estimator"]), {})
        of_cell.setdefault(seconds, []).append(float(row["steps"]) / seconds)
    needed = [(f"{kind}_{net}", name) for kind in TASKS for net in leaderboard.NETS for name in METHODS.values()]
    missing = sorted({model for model, name in needed if (model, name) not in found})
    if missing:
        raise BadInput(f"{leaderboard.TABLE}: has no rows of {', '.join(missing)}; expected those of the leaderboard")
    return {cell: statistics.median(of_cell[max(of_cell)]) for cell, of_cell in found.items()}


if __name__ == "__main__":
    sys.exit(main(sys.argv))
