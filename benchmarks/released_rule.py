"""How biased the rule of the paper's released code for several layers is, and what training by it does.

  python -m benchmarks.released_rule
      The bias of that rule and of REBAR, variable by variable, on a network of two layers that can be enumerated.

  python -m benchmarks.released_rule train --dataset=mnist --data_dir=DIR --num_layers=2 --num_steps=3000
      Trains by it; the flags are those of trainers.train, but for --estimator. A run continues as it does there.

In the pass that is relaxed from layer i on, the released code conditions the later layers on their samples too, and
leaves their score out.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from benchmarks import estimator_tables
from trainers.common import markdown
from trainers.common.tensorflow_import import import_tensorflow
from trainers.train import __main__ as trainer

if TYPE_CHECKING:
    from rebar_tf.diagnostics import BiasReport


def main(argv: Sequence[str]) -> int:
    """Prints the table of biases, or trains."""
    import_tensorflow()
    from benchmarks.released_rebar import ReleasedRebar
    from rebar_tf import estimators

    if argv[1:2] == ["train"]:
        estimators.register(ReleasedRebar)
        return trainer.main([argv[0], *argv[2:], f"--estimator={ReleasedRebar.estimator_name}"])
    print(table(measure(ReleasedRebar()), measure(estimators.Rebar())))
    return 0


def measure(estimator, num_estimates: int = 1000) -> BiasReport:
    """An estimator on two layers, against enumeration."""
    from rebar_tf.diagnostics import check_unbiased

    model, data = estimator_tables.build(estimator, "2 layers")
    return check_unbiased(model, *data, num_estimates=num_estimates, repeats=512)


def table(released: BiasReport, rebar: BiasReport) -> str:
    """The largest |z| of each variable's entries, and the size of the mean's error as a part of the gradient's."""
    rows = []
    for i, name in enumerate(rebar.names[:-1]):  # the last one is the loss
        part, *_, kind = name.split("/")
        cells = [(f"{np.abs(report.z[i]).max():.1f}", f"{error(report, i):.1%}") for report in (released, rebar)]
        rows.append([f"`{part}/{kind}`", *cells[0], *cells[1]])
    columns = ["variable", "released code: largest z", "error", "REBAR: largest z", "error"]
    law = f"of an unbiased one all |z| stay below {rebar.threshold:.2f} with probability {1 - rebar.false_alarm:.2%}"
    return f"{markdown.table(columns, rows)}\n\nMeans of {released.num_estimates * 512:,} estimates; {law}."


def error(report: BiasReport, i: int) -> float:
    """Of the mean estimate, as a part of the gradient."""
    return float(np.linalg.norm(report.mean[i] - report.exact[i]) / np.linalg.norm(report.exact[i]))


if __name__ == "__main__":
    sys.exit(main(sys.argv))
