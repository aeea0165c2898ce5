"""Control-variate scales."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from rebar_tf.estimators.base import ControlSpec, Estimator

GROUPS = ("shared", "variable", "unit")


class ScaledEstimator(Estimator):
    """An estimator whose control variate is scaled by `eta = 2 sigmoid(raw)`, raw from 0, in groups of parameters.

    Args:
        eta: `"shared"`, one scale for the model; `"variable"`, one for each variable (the paper's); or `"unit"`, one
            for each entry of a variable's last axis.
    """

    def __init__(self, eta: str = "variable", **kwargs):
        super().__init__(**kwargs)
        if eta not in GROUPS:
            raise ValueError(f"`eta` must be one of {', '.join(GROUPS)}. Received: eta={eta!r}")
        self.eta_group = eta

    def build_variables(self, spec: ControlSpec) -> None:
        super().build_variables(spec)
        units = [shape[-1] if shape else 1 for shape in spec.variable_shapes]
        sizes = {"shared": [1], "variable": [len(units)], "unit": units}[self.eta_group]
        self.raw_eta = self.add_weight(shape=(sum(sizes),), initializer="zeros", name="raw_eta")
        self._unit_ranges = [(sum(units[:i]), sum(units[: i + 1])) for i in range(len(units))]

    def eta(self, variable: int) -> tf.Tensor:
        raw = self.raw_eta.value
        if self.eta_group == "shared":
            raw = raw[0]
        elif self.eta_group == "variable":
            raw = raw[variable]
        else:
            start, end = self._unit_ranges[variable]
            raw = raw[start:end]
        return 2.0 * tf.sigmoid(raw)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "eta": self.eta_group}
