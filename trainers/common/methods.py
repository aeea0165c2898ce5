"""What `--methods` means: estimators, each with a temperature where one is given."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from rebar_tf import estimators
from trainers.common import estimator_options
from trainers.common.errors import BadInput
from trainers.common.experiment import Experiment
from trainers.common.method_names import canonical

_SPELLED = {  # as in the papers that they are from
    "arm": "ARM",
    "arms": "ARMS",
    "carms": "CARMS",
    "concrete": "Concrete",
    "decoupled_straight_through": "Decoupled straight-through",
    "disarm": "DisARM",
    "double_cv": "Double CV",
    "exact": "Exact",
    "gumbel_rao": "Gumbel-Rao",
    "gumbel_straight_through": "Gumbel straight-through",
    "lax": "LAX",
    "local_expectation": "Local expectation",
    "multi_sample_rebar": "Multi-sample REBAR",
    "muprop": "MuProp",
    "nvil": "NVIL",
    "ovis": "OVIS",
    "q_function": "Q-function",
    "rao_blackwell": "Rao-Blackwell",
    "rebar": "REBAR",
    "reinforce": "REINFORCE",
    "reinmax": "ReinMax",
    "relax": "RELAX",
    "rloo": "RLOO",
    "rodeo": "RODEO",
    "simple_muprop": "SimpleMuProp",
    "straight_through": "Straight-through",
    "unordered_set": "Unordered set",
    "vimco": "VIMCO",
    "wake_sleep": "Wake-sleep",
}


def label(name: str) -> str:
    """How pictures and tables spell a method: `SimpleMuProp` for simple_muprop, `REBAR (0.1)` for rebar:0.1."""
    estimator, _, temperature = name.partition(":")
    return _SPELLED.get(estimator, estimator) + (f" ({temperature})" if temperature else "")


@dataclasses.dataclass(frozen=True)
class Method:
    """One method of a comparison.

    Attributes:
        name: `rebar` or `rebar:0.1`, however it was given.
        estimator: its estimator's name.
        temperature: that of the relaxation, which then is not trained; None for the estimator's own default.
    """

    name: str
    estimator: str
    temperature: float | None = None

    @property
    def options(self) -> dict[str, Any]:
        """The estimator's options that the method says, None where it leaves the default."""
        learns = "learn_temperature" in estimator_options.names(self.estimator)
        fixed = self.temperature is not None and learns
        return {"temperature": self.temperature, "learn_temperature": False if fixed else None}

    def applied_to(self, experiment: Experiment) -> Experiment:
        """The experiment with this method; of its options those that the estimator takes."""
        taken = estimator_options.names(self.estimator)
        shared = {name: value for name, value in experiment.options.items() if name in taken}
        return dataclasses.replace(experiment, estimator=self.estimator, options={**shared, **self.options})


def parse(given: Sequence[str]) -> list[Method]:
    """The methods of `--methods`, each once.

    Raises:
        BadInput: where there is none, or one that is no estimator's name, alone or with a temperature.
    """
    if not given:
        raise BadInput(f"flag --methods=: expected one or more of {', '.join(_comparable())}")
    return list(dict.fromkeys(_method(text, given) for text in given))


def _method(text: str, given: Sequence[str]) -> Method:
    estimator, colon, number = text.partition(":")
    prefix = f"flag --methods={','.join(given)}: {text!r}"
    if estimator not in _comparable():
        raise BadInput(f"{prefix} is none; expected {', '.join(_comparable())}, each alone or as name:temperature")
    if not colon:
        return Method(text, estimator)
    if estimator not in takers("temperature"):
        raise BadInput(f"{prefix} has no temperature; those with one are {', '.join(takers('temperature'))}")
    try:
        temperature = float(number)
    except ValueError:
        temperature = math.nan
    if not 0.0 < temperature < math.inf:
        raise BadInput(f"{prefix}: expected a positive number after the colon")
    return Method(canonical(text), estimator, temperature)


def estimates_the_expectation(name: str) -> bool:
    """Whether the objective of an estimator is `E[f]`, not a bound of several samples as VIMCO's is."""
    return type(estimators.get(name)).objective == "expectation"


def _comparable() -> list[str]:
    """The estimators of the gradient of `E[f]` from samples; enumeration is for a few units."""
    return [
        name
        for name in estimators.names()
        if estimates_the_expectation(name) and not type(estimators.get(name)).enumerates
    ]


def takers(option: str) -> list[str]:
    """The estimators that `--methods` takes and that take an option."""
    return [name for name in estimator_options.takers(option) if name in _comparable()]
