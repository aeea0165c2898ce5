"""Trains a network of binary units on images of digits, and reports the bound and how noisy the gradient is.

  python -m trainers.train
      REBAR with a learned temperature on 4,000 digits that need no download.

  python -m trainers.train --estimator=nvil --num_layers=2 --workdir=runs/nvil
      Another estimator, a deeper model, a folder of your choice. The same command continues where it stopped.

  python -m trainers.train --dataset=mnist --data_dir=data --estimator=concrete --temperature=0.5
      All of MNIST, from raw files or tensorflow-datasets below data.

  python -m trainers.train --task=structured --num_layers=2 --structured_generator=deep
      Predicts the bottom half of each digit from the top half, in place of modelling whole digits.

Every --report_every steps a line appears, and curve.csv and TensorBoard (tensorboard --logdir=WORKDIR) get a
point: bound in nats, log gradient variance, temperature, steps per second. The last line of the output is
summary.json. Ctrl-C and SIGTERM save a checkpoint before the program ends, with status 130 and 143; a second one ends
it at once. Training that diverges ends with status 3; a folder that another process trains in is refused, status 4.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from trainers.common import flags
from trainers.common.errors import reports_bad_input
from trainers.common.experiment import FLAGS, Experiment
from trainers.common.signals import exits_on_signals


def parse(argv: Sequence[str]) -> Experiment:
    """The experiment of a command line."""
    values = flags.Flags()
    flags.define_experiment(values, *FLAGS)
    return Experiment.from_flags(flags.parse(values, argv, __doc__, options_without=()))


@reports_bad_input("train")
def main(argv: Sequence[str]) -> int:
    """Trains, or continues to train, the run that the flags describe."""
    with exits_on_signals():
        experiment = parse(argv)
        from trainers.train import training  # imports TensorFlow, which takes seconds

        training.run(experiment)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
