"""The flags that describe an experiment, shared by all trainers, and how bad ones are reported."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from absl import app, flags

from trainers import quiet
from trainers.checked_flags import HELP, define_boolean, define_group_size, define_integer, define_positive
from trainers.errors import BadInput, one_line

_BAD_INPUT_STATUS = 2

DATA_DIR_TEXT = (
    "Existing folder with the raw files mnist/*-images-idx3-ubyte.gz, mnist/binarized_mnist_*.amat, "
    "omniglot/chardata.mat or omniglot/images_*.zip, or that of tensorflow-datasets. Unset: the latter's default; "
    "mnist_5k needs none."
)
BINARIZATION_SEED_TEXT = (
    "Seed of the fixed binarization. Unset: the dataset's own, 5 for omniglot_burda as in the paper's code, else 0."
)

# The names in braces are filled in when help is asked for: knowing them takes TensorFlow, and that seconds.
flags.DEFINE_string("dataset", "mnist_5k", "Images to train on. Accepted: {datasets}.")
flags.DEFINE_string("data_dir", None, DATA_DIR_TEXT)
flags.DEFINE_string(
    "binarization",
    "fixed",
    "How pixels become 0 or 1: fixed is once and for all, dynamic anew at every step. Accepted: {binarizations}.",
)
define_integer("binarization_seed", None, BINARIZATION_SEED_TEXT, low=0, high=2**32 - 1)
flags.DEFINE_string(
    "task",
    "generative",
    "What is modelled: images, or the bottom half of each given the top half. Accepted: {tasks}.",
)
flags.DEFINE_string(
    "structured_generator",
    None,
    "Generator of the task structured: as published, with one stochastic layer, or as meant, with one for each of "
    "--num_layers. Accepted: {structured_generators}. Unset: paper.",
)
define_integer("num_layers", 1, "Stochastic layers of the model.")
define_boolean("nonlinear", False, "Whether two tanh layers stand between stochastic ones.")
define_integer("hidden_units", 200, "Units of each stochastic layer, and of each tanh layer.")
flags.DEFINE_string("estimator", "rebar", "Gradient estimator. Accepted: {estimators}.")
define_positive("temperature", None, "Temperature of the relaxation at the start. Unset: the estimator's own default.")
define_boolean("learn_temperature", None, "Whether the temperature is trained. Unset: the estimator's own default.")
define_boolean("temperature_per_layer", None, "Whether each stochastic layer has a temperature of its own.")
flags.DEFINE_string("relaxation", None, "Relaxation of the samples. Accepted: eq7, concrete.")
define_group_size("group_size", None, "Layers that share a relaxed pass of rebar, none for all of them. Unset: 1.")
flags.DEFINE_string(
    "eta", None, "What has a control-variate scale of its own. Accepted: shared, variable, unit. Unset: variable."
)
define_integer("num_samples", None, "Samples an example of the estimators that compare several.", low=2)
define_positive(
    "learning_rate",
    3e-4,
    "Step size of Adam for the model; temperature, eta and baseline learn at 10 times it.",
)
define_integer("batch_size", 24, "Images in a training step, at most those of the training split.")
define_integer("num_steps", 3000, "Training steps in all, those of earlier runs included. May grow later.")
define_integer("seed", 0, "Seed of initial weights, samples, and order of the data.", low=0, high=2**31 - 1)
define_integer("report_every", 500, "Steps between progress lines, TensorBoard points and rows of curve.csv.")
define_integer("eval_samples", 100, "Samples an image in the bounds of the summary.")
define_positive("checkpoint_minutes", 5.0, "Minutes between two checkpoints.")
flags.DEFINE_string(
    "workdir",
    None,
    "Folder of the run; a run that is there goes on. Unset: a folder below runs/, named after the flags.",
)


def experiment() -> dict[str, Any]:
    """The values of all flags of this module, by name."""
    return {flag.name: flag.value for flag in flags.FLAGS.flags_by_module_dict()[__name__]}


def check_names(settings: dict[str, Any]) -> None:
    """Raises `BadInput` for a dataset, task, generator, estimator or binarization that there is none of."""
    accepted = _accepted_names()
    for name in ("dataset", "task", "structured_generator", "estimator", "binarization"):
        if settings[name] is not None and settings[name] not in accepted[f"{name}s"]:
            names = ", ".join(accepted[f"{name}s"])
            raise BadInput(f"flag --{name}={settings[name]}: accepted is one of {names}")


def _accepted_names() -> dict[str, Sequence[str]]:
    quiet.import_tensorflow()
    import rebar_tf as rt
    from rebar_tf.datasets.binarization import BINARIZATIONS
    from rebar_tf.models.structured_prediction_network import GENERATORS
    from trainers.tasks import TASKS

    return {
        "datasets": rt.datasets.names(),
        "tasks": sorted(TASKS),
        "structured_generators": GENERATORS,
        "estimators": rt.estimators.names(),
        "binarizations": BINARIZATIONS,
    }


def parse(argv: Sequence[str]) -> list[str]:
    """Parses the flags for `absl.app.run`; bad ones end the program with one line on stderr."""
    if any(argument in HELP for argument in argv[1:]):
        _show_help()
    try:
        rest = flags.FLAGS(argv)
        if len(rest) > 1:
            raise BadInput(f"argument {rest[1]!r}: accepted are flags only, as in --num_steps=3000; see --help")
    except flags.UnrecognizedFlagError as error:
        sys.exit(_fail(BadInput(f"{error}; accepted are those of --help")))
    except (flags.Error, BadInput) as error:
        sys.exit(_fail(error))
    return rest


def _show_help() -> None:
    names = {kind: ", ".join(values) for kind, values in _accepted_names().items()}
    for flag in flags.FLAGS.flags_by_module_dict()[__name__]:
        flag.help = flag.help.format(**names)
    app.usage(shorthelp=True, writeto_stdout=True, exitcode=0)


Main = Callable[[Sequence[str]], None]


def reports_bad_input(main: Main) -> Callable[[Sequence[str]], int | None]:
    """Makes `BadInput` one line on stderr and an exit status that is not 0."""

    @functools.wraps(main)
    def guarded(argv: Sequence[str]) -> int | None:
        try:
            return main(argv)
        except BadInput as error:
            return _fail(error)

    return guarded


def _fail(error: Exception) -> int:
    print(f"{os.path.basename(sys.argv[0])}: error: {one_line(error)}", file=sys.stderr, flush=True)
    return _BAD_INPUT_STATUS
