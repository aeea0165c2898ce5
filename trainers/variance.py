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
E g is the average of the least noisy one. rebar_tf/models/comparison.py has the details. At the end both are drawn, as
log_variance and signal_to_noise, .png and .svg. The last line of the output is summary.json. The same command goes on
where it stopped; Ctrl-C and SIGTERM save a checkpoint before the program ends, with status 130 and 143.
"""

from __future__ import annotations

import datetime
import functools
from collections.abc import Sequence
from typing import Any

from absl import app
from absl import flags as absl_flags

from trainers import checked_flags, experiment, flags, methods_flag, resumable, variance_methods
from trainers.errors import BadInput
from trainers.workdir import FREE_FLAGS, Workdir

# What a method says itself, and what belongs to the summary of a training.
_NOT_TAKEN = ("estimator", "temperature", "learn_temperature", "eval_samples")

_METHODS = ("nvil", "simple_muprop", "muprop", "rebar:0.1", "rebar")
absl_flags.declare_key_flag("methods")
absl_flags.DEFINE_string("follow", "simple_muprop", "Whose gradient trains the model. Accepted: one of --methods.")
for _name in flags.experiment():
    if _name not in _NOT_TAKEN:
        absl_flags.declare_key_flag(_name)


@flags.reports_bad_input
def main(argv: Sequence[str]) -> None:
    """Compares, or goes on comparing, the methods of the flags."""
    settings = _settings()
    resumable.run(settings, Workdir.of({**settings, "estimator": "variance"}), _run)


def _settings() -> dict[str, Any]:
    """The values of the flags that count here."""
    for name in _NOT_TAKEN:
        if absl_flags.FLAGS[name].present:
            raise BadInput(f"flag --{name}: accepted by trainers.train only; see --help on --methods=name:temperature")
    taken = {name: value for name, value in flags.experiment().items() if name not in _NOT_TAKEN}
    return {**taken, "methods": methods_flag.methods(_METHODS), "follow": absl_flags.FLAGS.follow}


def _run(settings: dict[str, Any], workdir: Workdir) -> dict[str, Any]:
    """Does what is left to do, draws the plots, and returns the summary."""
    from rebar_tf import callbacks  # TensorFlow takes seconds: only now that the flags are known to be good
    from trainers import loop, variance_plot, variance_report

    methods = variance_methods.parse(settings)
    dataset = experiment.load_dataset(settings)
    if workdir.checkpoint.exists():
        model = workdir.load_model()
    else:
        model = variance_methods.build_comparison(settings, methods, dataset)
    workdir.claim(settings)
    step = callbacks.global_step(model)
    print(f"{', '.join(model.models)} on {settings['dataset']} in {workdir.path}, from step {step}", flush=True)
    batches_from = functools.partial(experiment.training_batches, settings, dataset)
    table = workdir.path / "variance.csv"
    reports = [
        variance_report.VarianceLine(),
        variance_report.VarianceCsv(table, settings["report_every"], _origin(settings)),
    ]
    with resumable.says_how_to_go_on(workdir, model):
        loop.train(settings, workdir, model, batches_from, experiment.held_out(settings, dataset)[0], reports)
        rows = variance_report.read_rows(table)
        variance_plot.write_plots(workdir.path, rows, settings)
    return variance_report.summarize(settings, callbacks.read_curve(workdir.curve), rows)


def _origin(settings: dict[str, Any]) -> str:
    """What the table says of itself: the command that repeats it, and the day."""
    always = ("num_steps", "seed")
    defaults = {name: absl_flags.FLAGS[name].default for name in settings} | {"methods": list(_METHODS)}
    given = {
        name: value
        for name, value in settings.items()
        if name in always or (name not in FREE_FLAGS and value != defaults[name])
    }
    arguments = [f"--{name}={checked_flags.text(value)}" for name, value in given.items()]
    command = " ".join(["python -m trainers.variance", *arguments])
    return f"{command}, {datetime.date.today().isoformat()}"


if __name__ == "__main__":
    app.run(main, flags_parser=flags.parse)
