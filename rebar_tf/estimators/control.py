"""Which variables are an estimator's own, its control variables: temperature, scales, baseline, networks."""

from __future__ import annotations

from collections.abc import Iterable

import keras


def mark_control(variables: Iterable[keras.Variable]) -> None:
    """Marks variables as an estimator's own."""
    for variable in variables:
        vars(variable)["of_an_estimator"] = True


def is_control(variable: keras.Variable) -> bool:
    """Whether a variable is an estimator's own, whatever it is named."""
    return getattr(variable, "of_an_estimator", False)
