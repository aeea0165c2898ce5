"""Evaluates a finished run: bounds, use of the units, pictures, and where asked a separate inference network."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

import rebar_tf as rt
from rebar_tf.callbacks import global_step
from trainers.common import build
from trainers.common.errors import BadInput, one_line
from trainers.common.experiment import Experiment
from trainers.common.tasks import TASKS
from trainers.evaluate import inference, results, units
from trainers.evaluate.options import FEW_IMAGES, MANY_SAMPLES, SPLITS, Options
from trainers.evaluate.results import Results
from trainers.run import pictures
from trainers.run.lock import locked
from trainers.run.workdir import Workdir

_EXPECTED = "expected the folder of a finished run of trainers.train"


def run(options: Options) -> None:
    """Prints and writes what the options ask for.

    Raises:
        BadInput: if the folder holds no finished run, or cannot be written to.
    """
    workdir = Workdir(options.workdir)
    experiment = _finished_run(workdir, options)
    try:
        with locked(workdir.path):
            found = _evaluated(workdir, experiment, options)
    except OSError as error:
        raise BadInput(
            f"flag --workdir={workdir.path}: {one_line(error)}; expected one that can be written to"
        ) from error
    print(json.dumps(found.content), flush=True)


def _evaluated(workdir: Workdir, experiment: Experiment, options: Options) -> Results:
    """Writes what the options ask for, and returns it."""
    model = workdir.load_model()
    if global_step(model) != experiment.num_steps:
        raise BadInput(
            f"flag --workdir={workdir.path}: its last checkpoint is of step {global_step(model)} of "
            f"{experiment.num_steps}; the command of the run does the rest again"
        )
    dataset = build.load_dataset(experiment)
    if options.fit_inference_network and experiment.batch_size > len(dataset.test):
        raise BadInput(
            f"flag --fit_inference_network: expected for runs whose batches the test split can fill, of "
            f"{len(dataset.test)} images or fewer; {workdir.path} has --batch_size={experiment.batch_size}"
        )
    digest = hashlib.sha256(workdir.checkpoint.read_bytes()).hexdigest()
    origin = {"checkpoint": digest, "steps": experiment.num_steps}
    origin |= {name: getattr(experiment, name) for name in ("task", "dataset", "estimator")}
    found = Results(workdir.path, origin)
    _evaluate(options, experiment, model, dataset, found)
    pictures.write(workdir, model, dataset)
    if options.fit_inference_network:
        on_test = dataclasses.replace(dataset, train=dataset.test)
        fitted = dataclasses.replace(experiment, num_steps=options.fit_steps, report_every=options.report_every)
        found.put("inference_network", inference.fit(fitted, workdir, model, on_test, digest))
    return found


def _finished_run(workdir: Workdir, options: Options) -> Experiment:
    """The experiment of the run, as this evaluation takes it: with the fixed draw of a dynamic binarization."""
    flags = workdir.stored_flags()
    task = flags.get("task")
    if "estimator" not in flags or task not in TASKS or workdir.finished(flags["num_steps"]) is None:
        raise BadInput(f"flag --workdir={workdir.path}: holds no finished run; {_EXPECTED}")
    if options.fit_inference_network and task != "generative":
        raise BadInput(
            f"flag --fit_inference_network: expected for runs of --task=generative; {workdir.path} has --task={task}, "
            "whose recognition network is part of the model"
        )
    experiment = Experiment.from_flags(flags)
    return dataclasses.replace(
        experiment,
        binarization="fixed",
        data_dir=options.data_dir or experiment.data_dir,
        verify_data=options.verify_data and experiment.verify_data,
    )


def _evaluate(
    options: Options, experiment: Experiment, model: rt.training.StochasticTraining, dataset: Any, found: Results
) -> None:
    """Prints the tables of bounds and of layers, and adds to the results what is not there yet."""
    examples = {split: TASKS[experiment.task].examples(getattr(dataset, split)) for split in SPLITS}
    _bounds(options, model, examples, found)
    for split in options.splits:
        part = _first(examples[split], options.max_images)
        if not found.has("layers", split=split, images=len(part[0])):
            found.add("layers", units.layers(model, part, split))
    print(results.layers_table(found.content["layers"]), flush=True)


def _bounds(
    options: Options, model: rt.training.StochasticTraining, examples: dict[str, tuple], found: Results
) -> None:
    """Prints the table of bounds, a row as soon as it is there."""
    print(results.HEADER, flush=True)
    for samples in options.samples:
        for split in options.splits:
            few = FEW_IMAGES if samples > MANY_SAMPLES else None
            part = _first(examples[split], options.max_images or few)
            key = {"split": split, "samples": samples, "images": len(part[0])}
            if not found.has("bounds", **key):
                found.add("bounds", [results.bound_row(model, part, key)])
            shortened = len(part[0]) < len(examples[split][0])
            print(results.line(found.get("bounds", **key), shortened), flush=True)


def _first(parts: tuple, images: int | None) -> tuple:
    return tuple(part[:images] for part in parts)
