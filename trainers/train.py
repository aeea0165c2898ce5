"""Trains a network of binary units on images of digits, and reports the bound and how noisy the gradient is.

  python -m trainers.train
      REBAR with a learned temperature on 4,000 digits that need no download.

  python -m trainers.train --estimator=nvil --num_layers=2 --workdir=runs/nvil
      Another estimator, a deeper model, a folder of your choice. The same command goes on where it stopped.

  python -m trainers.train --dataset=mnist --data_dir=data --estimator=concrete --temperature=0.5
      All of MNIST, from raw files or tensorflow-datasets below data.

  python -m trainers.train --task=structured --num_layers=2 --structured_generator=deep
      Predicts the bottom half of each digit from the top half, in place of modelling whole digits.

Every --report_every steps a line appears, and curve.csv and TensorBoard (tensorboard --logdir=WORKDIR) get a
point: bound in nats, log gradient variance, temperature, steps per second. The last line of the output is
summary.json. Ctrl-C and SIGTERM save a checkpoint before the program ends, with status 130 and 143.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from absl import app
from absl.flags import adopt_module_key_flags

from trainers import experiment, flags, resumable
from trainers.summary import summarize
from trainers.workdir import Workdir

adopt_module_key_flags(flags)


@flags.reports_bad_input
def main(argv: Sequence[str]) -> None:
    """Trains, or goes on training, the run that the flags describe."""
    settings = flags.experiment()
    resumable.run(settings, Workdir.of(settings), _run)


def _run(settings: dict[str, Any], workdir: Workdir) -> dict[str, Any]:
    """Trains what is left to train, and returns the summary."""
    from rebar_tf import callbacks  # TensorFlow takes seconds: only now that the flags are known to be good
    from trainers import loop

    flags.check_names(settings)
    dataset = experiment.load_dataset(settings)
    held_out = experiment.held_out(settings, dataset)
    model = workdir.load_model() if workdir.checkpoint.exists() else experiment.build_model(settings, dataset)
    workdir.claim(settings)
    step = callbacks.global_step(model)
    print(f"{settings['estimator']} on {settings['dataset']} in {workdir.path}, from step {step}", flush=True)
    batches_from = functools.partial(experiment.training_batches, settings, dataset)
    with resumable.says_how_to_go_on(workdir, model):
        loop.train(settings, workdir, model, batches_from, held_out[0])
    return summarize(settings, callbacks.read_curve(workdir.curve), model, held_out)


if __name__ == "__main__":
    app.run(main, flags_parser=flags.parse)
