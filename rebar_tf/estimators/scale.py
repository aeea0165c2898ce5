"""Control-variate scales."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf

GROUPS = ("shared", "variable", "unit")


class Scale(keras.layers.Layer):
    """The scales `eta = 2 sigmoid(raw)` of a control variate, raw from 0, in groups of parameters.

    Args:
        group: `"shared"`, one scale for the model; `"variable"`, one for each variable (the paper's); or `"unit"`, one
            for each entry of a variable's last axis.
        name: of the layer.

    Raises:
        ValueError: for an unknown group.
    """

    def __init__(self, group: str = "variable", name: str = "scale"):
        super().__init__(name=name, dtype="float32")
        if group not in GROUPS:
            raise ValueError(f"`eta` must be one of {', '.join(GROUPS)}. Received: eta={group!r}")
        self.group = group

    def build(self, variable_shapes: Sequence[tuple[int, ...]]) -> None:
        """Creates the scales of variables of these shapes."""
        self.units = [shape[-1] if shape else 1 for shape in variable_shapes]
        size = {"shared": 1, "variable": len(self.units), "unit": sum(self.units)}[self.group]
        self.raw_eta = self.add_weight(shape=(size,), initializer="zeros", name="raw_eta")

    def etas(self) -> list[tf.Tensor]:
        """Eta of each variable, in their order: a scalar, or one for each entry of the variable's last axis."""
        raw = self.raw_eta.value
        if self.group == "shared":
            groups = [raw[0]] * len(self.units)
        elif self.group == "variable":
            groups = [raw[i] for i in range(len(self.units))]
        else:
            starts = [sum(self.units[:i]) for i in range(len(self.units))]
            groups = [raw[start : start + units] for start, units in zip(starts, self.units, strict=True)]
        return [2.0 * tf.sigmoid(group) for group in groups]
