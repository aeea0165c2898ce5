"""What `--methods` means: estimators, each with a temperature where one is given."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

from trainers import experiment, flags
from trainers.errors import BadInput

if TYPE_CHECKING:  # TensorFlow takes seconds: the functions import it when they need it
    import rebar_tf as rt

_OF_A_METHOD = ("temperature", "learn_temperature")


@dataclasses.dataclass(frozen=True)
class Method:
    """One method of a comparison.

    Attributes:
        name: as given, `rebar` or `rebar:0.1`.
        estimator: its estimator's name.
        temperature: that of the relaxation, which then is not trained; None for the estimator's own default.
    """

    name: str
    estimator: str
    temperature: float | None = None

    def settings(self, settings: dict[str, Any]) -> dict[str, Any]:
        """The flags of a training run with this method: of the estimators' flags those that its own takes."""
        taken = experiment.estimator_flags(self.estimator)
        fixed = {"temperature": self.temperature}
        fixed["learn_temperature"] = False if self.temperature is not None and "learn_temperature" in taken else None
        others = {name: None for name in experiment.ESTIMATOR_FLAGS if name not in taken}
        return {**settings, **others, **fixed, "estimator": self.estimator}


def parse(settings: dict[str, Any]) -> list[Method]:
    """The methods of the flags, each once.

    Raises:
        BadInput: for a method, a followed one, or a flag of an estimator that there is none of.
    """
    methods = parse_methods(settings["methods"])
    if settings["follow"] not in settings["methods"]:
        names = ", ".join(settings["methods"])
        raise BadInput(f"flag --follow={settings['follow']}: accepted is one of --methods, {names}")
    flags.check_names({**settings, "estimator": methods[0].estimator})
    for name in experiment.ESTIMATOR_FLAGS:
        if settings.get(name) is not None and not any(_takes(method.estimator, name) for method in methods):
            takers = [estimator for estimator in _accepted() if _takes(estimator, name)]
            raise BadInput(f"flag --{name}={settings[name]}: accepted where --methods has one of {', '.join(takers)}")
    return methods


def parse_methods(given: list[str]) -> list[Method]:
    """The methods of `--methods`, each once.

    Raises:
        BadInput: where there is none, or one that is no estimator's name, alone or with a temperature.
    """
    if not given:
        raise BadInput(f"flag --methods=: accepted is one or more of {', '.join(_accepted())}")
    return [_method(text, given) for text in dict.fromkeys(given)]


def _method(text: str, given: list[str]) -> Method:
    estimator, colon, number = text.partition(":")
    prefix = f"flag --methods={','.join(given)}: {text!r}"
    if estimator not in _accepted():
        raise BadInput(f"{prefix} is none; accepted are {', '.join(_accepted())}, each alone or as name:temperature")
    if not colon:
        return Method(text, estimator)
    if not _takes(estimator, "temperature"):
        takers = ", ".join(name for name in _accepted() if _takes(name, "temperature"))
        raise BadInput(f"{prefix} has no temperature; those with one are {takers}")
    try:
        temperature = float(number)
    except ValueError:
        temperature = math.nan
    if not 0.0 < temperature < math.inf:
        raise BadInput(f"{prefix}: accepted after the colon is a positive number")
    return Method(text, estimator, temperature)


def _takes(estimator: str, name: str) -> bool:
    return name in experiment.estimator_flags(estimator)


def _accepted() -> list[str]:
    """Estimators of the gradient of `E[f]` from samples.

    VIMCO's objective is another one, and enumeration is for a few units.
    """
    from rebar_tf.estimators import Estimator, get, names

    return [name for name in names() if name != "exact" and type(get(name)).exact_target is Estimator.exact_target]


def build_comparison(
    settings: dict[str, Any], methods: list[Method], dataset: rt.datasets.Dataset
) -> rt.diagnostics.EstimatorComparison:
    """The compiled comparison of the flags, at its initial weights.

    Raises:
        BadInput: for values that model or estimators do not take.
    """
    import rebar_tf as rt

    models = {method.name: experiment.build_network(method.settings(settings), dataset) for method in methods}
    comparison = rt.diagnostics.EstimatorComparison(models, settings["follow"])
    experiment.compile_model(settings, comparison)
    return comparison
