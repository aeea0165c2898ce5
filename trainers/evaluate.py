"""Evaluates a finished run of trainers.train: bounds, use of the units, pictures, a separate inference network.

  python -m trainers.evaluate --workdir=runs/mnist
      Bounds of 1, 100 and 5,000 samples on each split, KL and active units, samples and reconstructions.

  python -m trainers.evaluate --workdir=runs/mnist --samples=5000 --splits=test --max_images=10000
      One bound, on all test images of MNIST.

  python -m trainers.evaluate --workdir=runs/mnist --fit_inference_network --fit_steps=2000
      Also trains a new inference network on the test images, with the generator frozen (figure App.5).

The bound of K samples is log 1/K sum_k exp(-f(b_k)) with discrete samples b_k, in nats, averaged over the images. Its
standard error is that of the mean over images, noise of the samples included. For each stochastic layer, from below:

    KL(i) = mean over x of E_q [log q(b_i | b_i-1) - log p(b_i | b_i+1)],    their sum is KL(q(b|x) || p(b)),
    active units = those with variance over x of E_q[b | x] above 0.01, b in {0, 1}        (Burda et al. 2016).

The KL of a top layer has closed form given the layer below; the rest is estimated from 10 samples an image. For
structured prediction there is no KL.

WORKDIR gets evaluation.json and evaluation.csv, samples.png, reconstructions.png and, below inference_network-*, the
curve of that training. A bound is written when it is done, and is not computed again as long as the checkpoint is the
same: an interrupted command goes on when it is given again. The last line of the output is evaluation.json.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from absl import flags as absl_flags

from trainers import evaluate_results, experiment, flags, interruption, quiet
from trainers.checked_flags import Parser, define, parse_own
from trainers.errors import BadInput, one_line
from trainers.tasks import TASKS
from trainers.workdir import Workdir

if TYPE_CHECKING:  # TensorFlow takes seconds: the functions import it when they need it
    import rebar_tf as rt

SPLITS = ("train", "valid", "test")
_MANY_SAMPLES, _FEW_IMAGES = 1000, 1000  # above so many samples, so many images unless --max_images is given

FLAGS = absl_flags.FlagValues()  # of its own: the trainers have others of the same names


def _integers(text: str) -> list[int]:
    return list(dict.fromkeys(int(part) for part in text.split(",")))


def _names(text: str) -> list[str]:
    return list(dict.fromkeys(text.split(",")))


_POSITIVE = Parser(int, lambda n: n >= 1, "an integer of 1 or more")

absl_flags.DEFINE_string("workdir", None, "Folder of a finished run of trainers.train.", flag_values=FLAGS)
absl_flags.DEFINE_string(
    "data_dir", None, "Folder of the images, as in trainers.train. Unset: that of the run.", flag_values=FLAGS
)
define(
    "samples",
    "1,100,5000",
    "Numbers of samples an image, separated by commas.",
    Parser(_integers, lambda numbers: min(numbers) >= 1, "integers of 1 or more"),
    FLAGS,
)
define(
    "splits",
    "train,valid,test",
    "What to evaluate, separated by commas.",
    Parser(_names, lambda names: set(names) <= set(SPLITS), "some of train, valid, test"),
    FLAGS,
)
define(
    "max_images",
    None,
    f"The first images of each split that are taken. Unset: all, but {_FEW_IMAGES} for more than {_MANY_SAMPLES} "
    "samples, as 5,000 samples of 50,000 images take half an hour.",
    _POSITIVE,
    FLAGS,
)
absl_flags.DEFINE_boolean(
    "fit_inference_network",
    False,
    "Whether to train a separate inference network on the test images.",
    flag_values=FLAGS,
)
define("fit_steps", 2000, "Steps of that training in all, those of earlier calls included.", _POSITIVE, FLAGS)
define("report_every", 200, "Steps of that training between two points of its curve.", _POSITIVE, FLAGS)


@flags.reports_bad_input
def main(argv: Sequence[str]) -> int | None:
    """Evaluates the run of the flags."""
    options = _parse(argv)
    workdir = Workdir(options["workdir"])
    settings = _finished_run(workdir, options)
    with interruption.exits_on_signals("while evaluating: the bounds that are done are kept"):
        quiet.quiet_logs()
        quiet.import_tensorflow()
        _run(options, settings, workdir)


def _parse(argv: Sequence[str]) -> dict[str, Any]:
    options = parse_own(FLAGS, argv, __doc__, "--splits=test")
    if not options["workdir"]:
        raise BadInput("flag --workdir: must be given; accepted is the folder of a finished run of trainers.train")
    return options


def _finished_run(workdir: Workdir, options: dict[str, Any]) -> dict[str, Any]:
    """The flags of the run, as this evaluation takes them: the fixed draw of a dynamic binarization."""
    accepted = "accepted is the folder of a finished run of trainers.train"
    try:
        settings = json.loads(workdir.flags.read_text())
        steps, task = settings["num_steps"], settings["task"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"flag --workdir={workdir.path}: cannot read flags.json ({one_line(error)}); {accepted}"
        ) from error
    if "estimator" not in settings or task not in TASKS or workdir.finished(steps) is None:
        raise BadInput(f"flag --workdir={workdir.path}: holds no finished run; {accepted}")
    if options["fit_inference_network"] and task != "generative":
        raise BadInput(
            f"flag --fit_inference_network: accepted for runs of --task=generative; {workdir.path} has --task={task}, "
            "whose recognition network is part of the model"
        )
    return {**settings, "binarization": "fixed", "data_dir": options["data_dir"] or settings["data_dir"]}


def _run(options: dict[str, Any], settings: dict[str, Any], workdir: Workdir) -> None:
    from trainers import evaluate_pictures, evaluate_units

    model = workdir.load_model()
    dataset = experiment.load_dataset(settings)
    examples = {split: TASKS[settings["task"]].examples(getattr(dataset, split)) for split in SPLITS}
    digest = hashlib.sha256(workdir.checkpoint.read_bytes()).hexdigest()
    origin = {"checkpoint": digest, "steps": settings["num_steps"]}
    origin |= {name: settings[name] for name in ("task", "dataset", "estimator")}
    try:
        results = evaluate_results.Results(workdir.path, origin)
        _bounds(options, model, examples, results)
        for split in options["splits"]:
            part = _first(examples[split], options["max_images"])
            if not results.has("layers", split=split, images=len(part[0])):
                results.add("layers", evaluate_units.layers(model, part, split))
        print(evaluate_results.layers_table(results.content["layers"]), flush=True)
        evaluate_pictures.write(workdir, model, dataset, settings["num_steps"])
        if options["fit_inference_network"]:
            _fit(options, settings, workdir, model, dataset, results, digest)
    except OSError as error:
        raise BadInput(
            f"flag --workdir={workdir.path}: {one_line(error)}; accepted is one that can be written to"
        ) from error
    print(json.dumps(results.content), flush=True)


def _bounds(options: dict[str, Any], model: Any, examples: dict[str, tuple], results: evaluate_results.Results) -> None:
    """Prints the table of bounds, a row as soon as it is there."""
    print(evaluate_results.HEADER, flush=True)
    for samples in options["samples"]:
        for split in options["splits"]:
            few = _FEW_IMAGES if samples > _MANY_SAMPLES else None
            part = _first(examples[split], options["max_images"] or few)
            key = {"split": split, "samples": samples, "images": len(part[0])}
            if not results.has("bounds", **key):
                results.add("bounds", [evaluate_results.bound_row(model, part, key)])
            shortened = len(part[0]) < len(examples[split][0])
            print(evaluate_results.line(results.get("bounds", **key), shortened), flush=True)


def _first(parts: tuple, images: int | None) -> tuple:
    return tuple(part[:images] for part in parts)


def _fit(
    options: dict[str, Any],
    settings: dict[str, Any],
    workdir: Workdir,
    model: Any,
    dataset: rt.datasets.Dataset,
    results: evaluate_results.Results,
    digest: str,
) -> None:
    from trainers import evaluate_inference

    on_test = dataclasses.replace(dataset, train=dataset.test)
    chosen = {**settings, "num_steps": options["fit_steps"], "report_every": options["report_every"]}
    results.put("inference_network", evaluate_inference.fit(chosen, workdir, model, on_test, digest))


if __name__ == "__main__":
    sys.exit(main(sys.argv))
