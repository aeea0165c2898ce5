"""What `trainers.sweep` is asked for."""

from __future__ import annotations

import dataclasses
from typing import Any

from trainers.common.experiment import FLAGS, FREE_FLAGS, Experiment

# The models of the paper's tables: what they are in flags of `trainers.train`.
MODELS: dict[str, dict[str, Any]] = {
    "linear1": {"num_layers": 1, "nonlinear": False},
    "linear2": {"num_layers": 2, "nonlinear": False},
    "nonlinear": {"num_layers": 1, "nonlinear": True},
}
# Flags of `trainers.train` that hold for all cells, and change their numbers.
SHARED_FLAGS = ("binarization", "binarization_seed", "hidden_units", "batch_size", "report_every", "mixed_precision")
BACKENDS = ("local", "dask", "ray")


@dataclasses.dataclass(frozen=True)
class Settings:
    """The flags of a sweep; lists are as given.

    Attributes:
        experiment: what the cells have in common, and the folder of the sweep.
    """

    experiment: Experiment
    tasks: list[str]
    models: list[str]
    methods: list[str]
    learning_rates: list[str]
    nonlinear_learning_rates: list[str]
    seeds: list[str]
    results: str | None = None
    retry: bool = False
    jobs: int | None = None
    stacked: int = 1
    backend: str = "local"
    cluster: str | None = None

    @classmethod
    def from_flags(cls, flags: dict[str, Any]) -> Settings:
        """The settings of flags by name."""
        own = {field.name for field in dataclasses.fields(cls)}
        common = {name: value for name, value in flags.items() if name not in own}
        return cls(Experiment.from_flags(common), **{name: flags[name] for name in own & flags.keys()})

    @property
    def shared(self) -> tuple[tuple[str, Any], ...]:
        """The values of `SHARED_FLAGS` other than the trainer's own, by name."""
        values = ((name, getattr(self.experiment, name)) for name in SHARED_FLAGS)
        return tuple((name, value) for name, value in values if value != FLAGS[name].default)

    @property
    def free_arguments(self) -> tuple[str, ...]:
        """Arguments of `trainers.train` that no number depends on."""
        values = ((name, getattr(self.experiment, name)) for name in FREE_FLAGS if name != "workdir")
        return tuple(f"--{name}={value}" for name, value in values if value != FLAGS[name].default)
