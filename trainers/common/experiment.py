"""An experiment: what is trained on what, and how. Its fields are the flags of `trainers.train`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any


def _flag(default: Any, text: str, **bounds: int) -> Any:
    """A field that is a flag. Names in braces in its text are filled in when help is shown, as that takes seconds."""
    return dataclasses.field(default=default, metadata={"text": text, **bounds})


@dataclasses.dataclass(frozen=True)
class Experiment:
    """The flags of a training run. `trainers.common.flags` defines a flag for each field.

    Attributes:
        options: arguments of the estimator's constructor by name, all that any estimator takes; None where not given.
    """

    dataset: str = _flag("mnist_5k", "Images to train on. Expected: one of {datasets}.")
    data_dir: str | None = _flag(
        None,
        "Existing folder with the raw files mnist/*-images-idx3-ubyte.gz, mnist/binarized_mnist_*.amat, "
        "omniglot/chardata.mat or omniglot/images_*.zip, or that of tensorflow-datasets. Unset: the latter's default; "
        "mnist_5k needs none.",
    )
    verify_data: bool = _flag(True, "Whether raw files must be the published ones, by their sums.")
    binarization: str = _flag(
        "fixed",
        "How pixels become 0 or 1: fixed is once and for all, dynamic anew at every step. "
        "Expected: one of {binarizations}.",
    )
    binarization_seed: int | None = _flag(
        None,
        "Seed of the fixed binarization. Unset: the dataset's own, 5 for omniglot_burda as in the paper's code, else "
        "0.",
        low=0,
        high=2**32 - 1,
    )
    task: str = _flag(
        "generative",
        "What is modelled: images, or the bottom half of each given the top half. Expected: one of {tasks}.",
    )
    structured_generator: str | None = _flag(
        None,
        "Generator of the task structured: as published, with one stochastic layer, or as meant, with one for each of "
        "--num_layers. Expected: one of {structured_generators}. Unset: paper.",
    )
    num_layers: int = _flag(1, "Stochastic layers of the model.", low=1)
    nonlinear: bool = _flag(False, "Whether two tanh layers stand between stochastic ones.")
    hidden_units: int = _flag(200, "Units of each stochastic layer, and of each tanh layer.", low=1)
    estimator: str = _flag("rebar", "Gradient estimator. Expected: one of {estimators}.")
    learning_rate: float = _flag(
        3e-4, "Step size of Adam for the model; temperature, eta and baseline learn at 10 times it."
    )
    batch_size: int = _flag(24, "Images in a training step, at most those of the training split.", low=1)
    num_steps: int = _flag(3000, "Training steps in all, those of earlier runs included. May grow later.", low=1)
    seed: int = _flag(0, "Seed of initial weights, samples, and order of the data.", low=0, high=2**31 - 1)
    report_every: int = _flag(500, "Steps between progress lines, TensorBoard points and rows of curve.csv.", low=1)
    eval_samples: int = _flag(100, "Samples an image in the bounds of the summary.", low=1)
    mixed_precision: str | None = _flag(
        None,
        "Precision of the layers' products; weights, samples, learning signals and moments are float32. "
        "Expected: one of {mixed_precisions}. Unset: float32.",
    )
    distribution: str | None = _flag(
        None,
        "Devices that share each batch: those of this machine, or those of the workers of TF_CONFIG. "
        "Expected: one of {distributions}. Unset: none.",
    )
    worker_minutes: float = _flag(1.0, "Minutes that a worker waits for the others.")
    checkpoint_minutes: float = _flag(1.0, "Minutes between two checkpoints.")
    workdir: str | None = _flag(
        None,
        "Folder of the run; an unfinished run in it is continued. Unset: a folder below runs/, named by the flags.",
    )
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def from_flags(cls, flags: Mapping[str, Any]) -> Experiment:
        """The experiment of flags by name, as flags.json holds them; those that are no field are options."""
        fields: dict[str, Any] = {
            name: None if value == _UNSET.get(name, ...) else value for name, value in flags.items() if name in FLAGS
        }
        return cls(**fields, options={name: value for name, value in flags.items() if name not in FLAGS})

    def flags(self) -> dict[str, Any]:
        """The flags by name, as flags.json holds them."""
        return {**{name: getattr(self, name) for name in FLAGS}, **self.options}

    def given_options(self) -> dict[str, Any]:
        """The options that were given."""
        return {name: value for name, value in self.options.items() if value is not None}


FLAGS = {field.name: field for field in dataclasses.fields(Experiment) if field.name != "options"}
_UNSET = {"mixed_precision": "float32", "distribution": "none"}  # by what is the same as not to give the flag
DATASET = ("dataset", "data_dir", "verify_data", "binarization", "binarization_seed")
MODEL = ("task", "structured_generator", "num_layers", "nonlinear", "hidden_units")
TRAINING = ("learning_rate", "batch_size", "num_steps", "seed", "report_every")
DEVICES = ("mixed_precision", "distribution", "worker_minutes")
RUN = ("checkpoint_minutes", "workdir")
# Where a run is stored, how often it is saved and how long it waits changes none of its numbers.
FREE_FLAGS = ("workdir", "data_dir", "verify_data", "checkpoint_minutes", "worker_minutes")
