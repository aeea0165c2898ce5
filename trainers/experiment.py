"""The data, the estimator and the model that the flags describe."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from trainers.errors import BadInput, one_line
from trainers.tasks import TASKS, check_flags

if TYPE_CHECKING:  # TensorFlow takes seconds: the functions import it when they need it
    import keras
    import tensorflow as tf

    import rebar_tf as rt

# Handed to the estimator where its constructor takes them.
ESTIMATOR_FLAGS = (
    "temperature",
    "learn_temperature",
    "temperature_per_layer",
    "relaxation",
    "group_size",
    "eta",
    "num_samples",
)


def load_dataset(settings: dict[str, Any]) -> rt.datasets.Dataset:
    """Loads the images of the flags.

    Raises:
        BadInput: if it is not there, damaged, or has fewer training images than a batch.
    """
    import rebar_tf as rt

    names = ("dataset", "data_dir")
    given = " ".join(f"--{name}={settings[name]}" for name in names if settings[name] is not None)
    try:
        dataset = rt.datasets.load(
            settings["dataset"], settings["data_dir"], settings["binarization"], settings["binarization_seed"]
        )
    except (ValueError, OSError, rt.datasets.DatasetUnavailableError) as error:
        raise BadInput(f"{given}: {one_line(error)}") from error
    if settings["batch_size"] > len(dataset.train):
        most = f"{len(dataset.train)}, the training images of {given}"
        raise BadInput(f"flag --batch_size={settings['batch_size']}: accepted is at most {most}")
    return dataset


def training_batches(settings: dict[str, Any], dataset: rt.datasets.Dataset, start_step: int) -> tf.data.Dataset:
    """An infinite dataset of what `fit` takes, from the batch of step `start_step` on."""
    import rebar_tf as rt

    images = rt.datasets.batches(
        dataset.train,
        settings["batch_size"],
        seed=settings["seed"],
        start_step=start_step,
        binarize=settings["binarization"] == "dynamic",
    )
    return images.map(TASKS[settings["task"]].examples)


def held_out(settings: dict[str, Any], dataset: rt.datasets.Dataset) -> tuple[tuple, tuple]:
    """What `bound` takes, of the validation and of the test split.

    Under a dynamic binarization they are those of the fixed one, so that bounds can be compared.
    """
    import rebar_tf as rt

    if settings["binarization"] == "dynamic":
        dataset = rt.datasets.load(settings["dataset"], settings["data_dir"], "fixed", settings["binarization_seed"])
    return tuple(TASKS[settings["task"]].examples(images) for images in (dataset.valid, dataset.test))


def build_model(settings: dict[str, Any], dataset: rt.datasets.Dataset) -> rt.training.StochasticTraining:
    """The compiled model of the flags, at its initial weights.

    Raises:
        BadInput: for flags and values that task, model or estimator do not take.
    """
    model = build_network(settings, dataset)
    compile_model(settings, model)
    return model


def build_network(settings: dict[str, Any], dataset: rt.datasets.Dataset) -> rt.training.StochasticTraining:
    """The model of the flags with its estimator, not compiled.

    Raises:
        BadInput: for values that model or estimator do not take.
    """
    import keras

    check_flags(settings)
    keras.utils.set_random_seed(settings["seed"])  # the initial weights that the model's own seed does not reach
    with _bad_input():
        return TASKS[settings["task"]].build(settings, dataset, build_estimator(settings))


def compile_model(settings: dict[str, Any], model: keras.Model) -> None:
    """Gives the model the optimizer of the flags.

    Raises:
        BadInput: for values that the optimizer does not take.
    """
    import rebar_tf as rt

    with _bad_input():
        # XLA by name: Keras leaves it off on a machine without an accelerator.
        model.compile(optimizer=rt.optimizers.Adam(settings["learning_rate"]), jit_compile=True)


def estimator_flags(estimator: str) -> list[str]:
    """The names of the flags that the constructor of an estimator takes."""
    import rebar_tf as rt

    parameters = inspect.signature(type(rt.estimators.get(estimator))).parameters
    return [name for name in ESTIMATOR_FLAGS if name in parameters]


def build_estimator(settings: dict[str, Any]) -> rt.estimators.Estimator:
    """The estimator of the flags, whichever of them its constructor takes.

    Raises:
        BadInput: for a flag that was given and that the estimator does not take.
    """
    import rebar_tf as rt

    taken = estimator_flags(settings["estimator"])
    given = {name: settings[name] for name in ESTIMATOR_FLAGS if settings[name] is not None}
    for name, value in given.items():
        if name not in taken:
            accepted = ", ".join(f"--{other}" for other in taken) or "no flag of its own"
            raise BadInput(f"flag --{name}={value}: accepted with --estimator={settings['estimator']} is {accepted}")
    given = {name: None if value == "none" else value for name, value in given.items()}
    with _bad_input():
        return type(rt.estimators.get(settings["estimator"]))(**given)


@contextlib.contextmanager
def _bad_input() -> Iterator[None]:
    """The library's errors about arguments: each names the argument, what came and what is accepted."""
    try:
        yield
    except ValueError as error:
        raise BadInput(one_line(error)) from error
