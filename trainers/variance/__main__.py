"""Compares how noisy the gradients of several methods are, at the same parameters, along one trajectory of training.

  python -m trainers.variance
      NVIL, SimpleMuProp, MuProp, REBAR(0.1) and REBAR along SimpleMuProp's trajectory, on digits that need no download.

  python -m trainers.variance --methods=nvil,rebar:0.1,rebar,relax --follow=rebar --workdir=runs/variance
      Methods of your choice: an estimator's name, or name:temperature for one whose temperature stays as it is.

  python -m trainers.variance --dataset=mnist --data_dir=data --num_layers=2 --num_steps=50000
      Figures App.1 and App.3 of the paper, for another model.

Each method estimates the gradient of every batch, with the same noise as the others, and trains temperature, scales and
baseline of its own; the parameters follow the gradient of --follow. Every --report_every steps two lines appear, and
variance.csv and TensorBoard (tensorboard --logdir=WORKDIR) get a point for each method, of the whole model and of each
of its parts (encoder_0 and generator_0 are the segments next to the image): the log of the gradient's variance, and the
signal-to-noise ratio,

    variance = mean over entries of (average(g^2) - mean^2),     signal_to_noise = sqrt(|E g|^2 / sum of variances),

from moving averages that start at 0 and decay by 0.999 a step. The mean is that of all unbiased methods' averages of g;
E g is the average of the least noisy one. The docstring of EstimatorComparison has the details. At the end both are
drawn, as log_variance and signal_to_noise, .png and .svg. The last line of the output is summary.json. The same command
continues where it stopped; Ctrl-C and SIGTERM save a checkpoint before the program ends, with status 130 and 143.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from trainers.common import flags
from trainers.common.errors import reports_bad_input
from trainers.common.experiment import DATASET, MODEL, RUN, TRAINING
from trainers.common.signals import exits_on_signals
from trainers.variance.settings import DEFAULT_FOLLOW, DEFAULT_METHODS, OPTIONS_OF_A_METHOD, Settings


def parse(argv: Sequence[str]) -> Settings:
    """The settings of a command line."""
    values = flags.Flags()
    flags.define_experiment(values, *DATASET, *MODEL, *TRAINING, *RUN)
    flags.define_methods(values, DEFAULT_METHODS)
    flags.define_string(
        values, "follow", DEFAULT_FOLLOW, "Whose gradient trains the model. Expected: one of --methods."
    )
    return Settings.from_flags(flags.parse(values, argv, __doc__, options_without=OPTIONS_OF_A_METHOD))


@reports_bad_input("variance")
def main(argv: Sequence[str]) -> int:
    """Compares, or continues to compare, the methods of the flags."""
    with exits_on_signals():
        settings = parse(argv)
        from trainers.variance import comparison  # imports TensorFlow, which takes seconds

        comparison.run(settings)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
