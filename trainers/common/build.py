"""The data, the estimator and the model of an experiment."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence

import keras
import tensorflow as tf

import rebar_tf as rt
from rebar_tf.datasets.binarization import BINARIZATIONS
from rebar_tf.datasets.dataset import is_binary
from rebar_tf.models.structured_prediction_network import GENERATORS
from trainers.common import estimator_options, placement
from trainers.common.errors import BadInput, one_line
from trainers.common.experiment import Experiment
from trainers.common.tasks import PRECISIONS, TASKS, check_task


def accepted_names() -> dict[str, Sequence[str]]:
    """The names that flags take, by kind."""
    return {
        "datasets": rt.datasets.names(),
        "tasks": sorted(TASKS),
        "structured_generators": GENERATORS,
        "estimators": rt.estimators.names(),
        "bernoulli_estimators": rt.estimators.names("bernoulli"),
        "binarizations": BINARIZATIONS,
        "mixed_precisions": PRECISIONS,
        "distributions": placement.DISTRIBUTIONS,
    }


def check_name(flag: str, value: str | None) -> None:
    """Raises `BadInput` for a dataset, task, generator, estimator or binarization that does not exist."""
    names = accepted_names()[f"{flag}s"]
    if value is not None and value not in names:
        raise BadInput(f"flag --{flag}={value}: expected one of {', '.join(names)}")


def check_names(experiment: Experiment) -> None:
    """Raises `BadInput` if a name of the experiment does not exist."""
    named = ("dataset", "task", "structured_generator", "estimator", "binarization", "mixed_precision", "distribution")
    for flag in named:
        check_name(flag, getattr(experiment, flag))


def load_dataset(experiment: Experiment) -> rt.datasets.Dataset:
    """Loads the images.

    Raises:
        BadInput: if they are not there, damaged, or fewer training images than a batch.
    """
    dataset = load_images(experiment)
    if experiment.batch_size > len(dataset.train):
        most = f"{len(dataset.train)}, the training images of {_given(experiment)}"
        raise BadInput(f"flag --batch_size={experiment.batch_size}: expected at most {most}")
    return dataset


def load_images(experiment: Experiment, *named: str) -> rt.datasets.Dataset:
    """Loads the images, however few; a `BadInput` names the flags `named` too."""
    try:
        return rt.datasets.load(
            experiment.dataset,
            experiment.data_dir,
            experiment.binarization,
            experiment.binarization_seed,
            experiment.verify_data,
        )
    except (ValueError, OSError, rt.datasets.DatasetUnavailableError) as error:
        raise BadInput(f"{_given(experiment, *named)}: {one_line(error)}") from error


def _given(experiment: Experiment, *named: str) -> str:
    """The flags that say which images."""
    values = {name: getattr(experiment, name) for name in ("dataset", "data_dir", *named)}
    return " ".join(f"--{name}={value}" for name, value in values.items() if value is not None)


def training_batches(experiment: Experiment, dataset: rt.datasets.Dataset, start_step: int) -> tf.data.Dataset:
    """An infinite dataset of what `fit` takes, from the batch of step `start_step` on."""
    binarize = experiment.binarization == "dynamic"
    images = rt.datasets.batches(
        dataset.train,
        experiment.batch_size,
        seed=experiment.seed,
        start_step=start_step,
        binarize=binarize,
        dtype="bool" if binarize or is_binary(dataset.train) else "float32",
    )
    return images.map(TASKS[experiment.task].examples)


def held_out(experiment: Experiment, dataset: rt.datasets.Dataset) -> tuple[tuple, tuple]:
    """What `bound` takes, of the validation and of the test split.

    Under a dynamic binarization they are those of the fixed one, so that bounds can be compared.
    """
    if experiment.binarization == "dynamic":
        dataset = load_images(dataclasses.replace(experiment, binarization="fixed"))
    examples = TASKS[experiment.task].examples
    return examples(dataset.valid), examples(dataset.test)


def build_model(experiment: Experiment, dataset: rt.datasets.Dataset) -> rt.training.StochasticTraining:
    """The compiled model, at its initial weights.

    Raises:
        BadInput: for flags and values that task, model or estimator do not take.
    """
    model = build_network(experiment, dataset)
    compile_model(experiment, model)
    return model


def build_network(experiment: Experiment, dataset: rt.datasets.Dataset) -> rt.training.StochasticTraining:
    """The model with its estimator, not compiled.

    Raises:
        BadInput: for values that model or estimator do not take.
    """
    check_task(experiment)
    keras.utils.set_random_seed(experiment.seed)  # the initial weights that the model's own seed does not reach
    estimator = estimator_options.build(experiment)
    with _bad_input():
        return TASKS[experiment.task].build(experiment, dataset, estimator)


def compile_model(experiment: Experiment, model: keras.Model) -> None:
    """Gives the model its optimizer.

    Raises:
        BadInput: for values that the optimizer does not take.
    """
    with _bad_input():
        # XLA by name: Keras leaves it off on a machine without an accelerator. Not on several replicas, see
        # rebar_tf.training.replicated_steps.
        jit_compile = experiment.distribution is None
        model.compile(optimizer=rt.optimizers.Adam(experiment.learning_rate), jit_compile=jit_compile)


@contextlib.contextmanager
def _bad_input() -> Iterator[None]:
    """In this block the library's errors about arguments, which say what is expected, are bad input."""
    try:
        yield
    except ValueError as error:
        raise BadInput(one_line(error)) from error
