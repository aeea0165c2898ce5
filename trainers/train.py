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
import json
import sys
from collections.abc import Sequence
from typing import Any

from absl import app
from absl.flags import adopt_module_key_flags

from trainers import experiment, flags, interruption, quiet
from trainers.errors import BadInput, one_line
from trainers.summary import summarize
from trainers.workdir import Workdir

adopt_module_key_flags(flags)


@flags.reports_bad_input
def main(argv: Sequence[str]) -> None:
    """Trains, or goes on training, the run that the flags describe."""
    settings = flags.experiment()
    workdir = Workdir.of(settings)
    settings["workdir"] = str(workdir.path)
    workdir.check(settings)
    summary = workdir.finished(settings["num_steps"])
    if summary is None:
        with interruption.exits_on_signals():
            quiet.quiet_logs()
            quiet.import_tensorflow()
            summary = _run(settings, workdir)
            workdir.write_summary(summary)
    print(json.dumps(summary), flush=True)


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
    try:
        loop.train(settings, workdir, model, batches_from, held_out[0])
    except callbacks.Interrupted as stop:
        sys.exit(interruption.exit_status(stop.signum, f"at step {callbacks.global_step(model)}"))
    except OSError as error:
        raise BadInput(
            f"flag --workdir={workdir.path}: {one_line(error)}; the checkpoint before is whole, and the same "
            "command goes on from it"
        ) from error
    return summarize(settings, callbacks.read_curve(workdir.curve), model, held_out)


if __name__ == "__main__":
    app.run(main, flags_parser=flags.parse)
