"""Runs the paper's toy problem: minimises E[(b - t)^2], b ~ Bernoulli(sigmoid(theta)), with each estimator.

  python -m trainers.toy --target=0.499
      All estimators, one sample a step, theta from 0. Takes about a minute.

  python -m trainers.toy --target=0.45 --estimators=rebar,relax,reinforce,concrete --workdir=runs/toy-0.45
      Some of them, a folder of your choice.

The optimum is b = 0 for t < 0.5 and b = 1 for t > 0.5; the nearer t is to 0.5, the smaller is the gradient. The table
shows theta, P(b=1) and the exact expected loss at the end, the log variance of the gradient estimate over the last
quarter of the run, and whether the optimum was reached: the worse value of b drawn less often than one time in twenty.
The variance is measured from 10,000 fresh estimates at the same parameters. WORKDIR gets all of it over the steps as
curve.csv and curve.png. The last line of the output is summary.json.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from trainers.common import flags
from trainers.common.errors import reports_bad_input
from trainers.common.tensorflow_import import import_tensorflow


def parse(argv: Sequence[str]) -> dict[str, Any]:
    """The flags of a command line, by name."""
    values = flags.Flags()
    text = "t of the objective E[(b - t)^2]. The nearer to 0.5, the smaller the gradient."
    flags.define(values, "target", 0.45, text, flags.Number(0.0, 1.0).parse, "a number from 0 to 1")
    text = (
        "Gradient estimators to compare, separated by commas. Unset: all that estimate the gradient of this objective. "
        "Expected: {bernoulli_estimators}."
    )
    flags.define_list(values, "estimators", None, text)
    text = "Steps of each estimator, one sample a step."
    flags.define_integer(values, "num_steps", 200_000, text, low=1, high=10**9)
    text = "Step size of Adam, for theta and for the estimator's own variables alike."
    flags.define_positive(values, "learning_rate", 1e-3, text)
    text = (
        "Whether estimators with an input-dependent baseline have it. Here the input is constant, and so is the "
        "baseline."
    )
    flags.define_boolean(values, "baseline", True, text)
    text = "Seed of samples and of the estimators' initial weights."
    flags.define_integer(values, "seed", 0, text, low=0, high=2**31 - 1)
    text = "Folder of curve.csv, curve.png, flags.json and summary.json, which are replaced. Unset: runs/toy-TARGET."
    flags.define_string(values, "workdir", None, text)
    return flags.parse(values, argv, __doc__)


@reports_bad_input("toy")
def main(argv: Sequence[str]) -> int:
    """Compares the estimators of the flags."""
    given = parse(argv)
    import_tensorflow()
    from trainers.toy import comparison

    comparison.run(given)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
