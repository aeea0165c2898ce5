"""Measures estimators on a network of the paper, and says which one to take.

  python -m trainers.compare
      Every estimator on one linear layer, at its initial weights, on digits that need no download.

  python -m trainers.compare --steps=2000 --seconds=300 --workdir=runs/compare-later
      After 2,000 steps of training.

  python -m trainers.compare --run=runs/mnist --names=nvil,muprop,rebar,rloo --workdir=runs/compare-mnist
      Some of them at the weights of a run of trainers.train.

Of each estimator the variance of the gradient of a batch, drawn anew each time, the time and the memory of an estimate,
and variance times time, which decides at equal time; of a biased one its bias, where the noise lets it be seen. WORKDIR
gets compare.csv, compare.png and TensorBoard's page HParams; each estimator is kept there when it is measured, and the
same command goes on where it was. The last line of the output is JSON. `rebar_tf.diagnostics.compare` does the same for
a model of your own.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from trainers.common import flags
from trainers.common.errors import reports_bad_input
from trainers.common.experiment import DATASET, MODEL
from trainers.common.signals import exits_on_signals
from trainers.common.tensorflow_import import import_tensorflow


def parse(argv: Sequence[str]) -> dict[str, Any]:
    """The flags of a command line."""
    values = flags.Flags()
    flags.define_experiment(values, *DATASET, *MODEL, "batch_size", "seed")
    flags.define_list(values, "names", None, "Estimators, separated by commas. Unset: all.")
    text = "Folder of a run of trainers.train, whose model and images are taken; the flags on them then do not count."
    flags.define_string(values, "run", None, text)
    text = "For the measurements, all together; each estimator is compiled besides."
    flags.define_positive(values, "seconds", 60.0, text)
    text = "Of training before the measurement, by the model's own estimator: REBAR, or that of the run."
    flags.define_integer(values, "steps", 0, text, low=0)
    flags.define_string(values, "workdir", "runs/compare", "Folder of what is measured, the table and the picture.")
    return flags.parse(values, argv, __doc__)


@reports_bad_input("compare")
def main(argv: Sequence[str]) -> int:
    """Measures, and writes what was found."""
    with exits_on_signals("while measuring: the estimators that are done are kept"):
        given = parse(argv)
        import_tensorflow()
        from trainers.compare import measuring

        measuring.run(given)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
