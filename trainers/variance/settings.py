"""What `trainers.variance` is asked for."""

from __future__ import annotations

import dataclasses
from typing import Any

from trainers.common.experiment import FREE_FLAGS, Experiment
from trainers.common.flags import text
from trainers.common.method_names import canonical

DEFAULT_METHODS = ("nvil", "simple_muprop", "muprop", "rebar:0.1", "rebar")
DEFAULT_FOLLOW = "simple_muprop"
OPTIONS_OF_A_METHOD = ("temperature", "learn_temperature")
_NOT_TAKEN = ("estimator", "eval_samples")  # fields of an experiment that a comparison has no use for


@dataclasses.dataclass(frozen=True)
class Settings:
    """The flags of a comparison.

    Attributes:
        experiment: what is trained; its estimator has no meaning.
        methods: as given.
        follow: the one whose gradient trains the model.
    """

    experiment: Experiment
    methods: list[str]
    follow: str

    @classmethod
    def from_flags(cls, flags: dict[str, Any]) -> Settings:
        """The settings of flags by name."""
        others = {name: value for name, value in flags.items() if name not in ("methods", "follow")}
        named = [canonical(text) for text in flags["methods"]]
        return cls(Experiment.from_flags(others), named, canonical(flags["follow"]))

    def flags(self) -> dict[str, Any]:
        """The flags by name, as flags.json holds them."""
        taken = {name: value for name, value in self.experiment.flags().items() if name not in _NOT_TAKEN}
        return {**taken, "methods": self.methods, "follow": self.follow}

    def command(self) -> str:
        """The command that repeats the comparison, without folders."""
        flags, defaults = self.flags(), Settings(Experiment(), list(DEFAULT_METHODS), DEFAULT_FOLLOW).flags()
        given = {
            name: value
            for name, value in flags.items()
            if name in ("num_steps", "seed") or (name not in FREE_FLAGS and value != defaults.get(name))
        }
        return " ".join(["python -m trainers.variance", *(f"--{name}={text(v)}" for name, v in given.items())])
