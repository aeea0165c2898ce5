"""What `trainers.sweep` is asked for."""

from __future__ import annotations

import dataclasses
from typing import Any

from trainers.common.experiment import FLAGS, Experiment

# The models of the paper's tables: what they are in flags of `trainers.train`.
MODELS: dict[str, dict[str, Any]] = {
    "linear1": {"num_layers": 1, "nonlinear": False},
    "linear2": {"num_layers": 2, "nonlinear": False},
    "nonlinear": {"num_layers": 1, "nonlinear": True},
}
# Flags of `trainers.train` that hold for all cells, and change their numbers.
SHARED_FLAGS = ("binarization", "binarization_seed", "hidden_units", "batch_size", "report_every")
BACKENDS = ("local", "dask", "ray")
_FREE_FLAGS = ("data_dir", "checkpoint_minutes")


@dataclasses.dataclass(frozen=True)
class Settings:
    """The flags of the command, by their names; lists are as given."""

    tasks: list[str]
    models: list[str]
    methods: list[str]
    learning_rates: list[str]
    nonlinear_learning_rates: list[str]
    seeds: list[str]
    num_steps: int = Experiment.num_steps
    binarization: str = Experiment.binarization
    binarization_seed: int | None = Experiment.binarization_seed
    hidden_units: int = Experiment.hidden_units
    batch_size: int = Experiment.batch_size
    report_every: int = Experiment.report_every
    data_dir: str | None = None
    checkpoint_minutes: float = Experiment.checkpoint_minutes
    workdir: str | None = None
    results: str | None = None
    retry: bool = False
    jobs: int | None = None
    backend: str = "local"
    cluster: str | None = None

    @property
    def shared(self) -> tuple[tuple[str, Any], ...]:
        """The values of `SHARED_FLAGS` other than the trainer's own, by name."""
        values = ((name, getattr(self, name)) for name in SHARED_FLAGS)
        return tuple((name, value) for name, value in values if value != FLAGS[name].default)

    @property
    def free_arguments(self) -> tuple[str, ...]:
        """Arguments of `trainers.train` that no number depends on."""
        values = ((name, getattr(self, name)) for name in _FREE_FLAGS)
        return tuple(f"--{name}={value}" for name, value in values if value is not None)

    def experiment(self, dataset: str) -> Experiment:
        """What a dataset is loaded for."""
        values = {name: getattr(self, name) for name in (*SHARED_FLAGS, "data_dir")}
        return Experiment(dataset=dataset, **values)
