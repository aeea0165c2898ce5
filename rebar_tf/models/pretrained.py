"""Trained networks by name."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import keras

from rebar_tf.training import StochasticTraining

_FOLDER = pathlib.Path(__file__).parent / "trained"


def pretrained_models() -> dict[str, dict[str, Any]]:
    """The trained networks that come with the package.

    Returns:
        By name what `load_pretrained` gives: `command`, by which it was trained; `test_bound_100`, the mean 100-sample
        bound of MNIST's 10,000 test images, in nats, and `mnist_5k_bound_100`, that of the 500 of `mnist_5k`.

    Example:
    >>> import rebar_tf as rt
    >>> sorted(rt.models.pretrained_models())
    ['sbn_mnist_linear1_rebar', 'sbn_mnist_linear2_rebar', 'sbn_mnist_nonlinear1_rebar']
    """
    return dict(json.loads((_FOLDER / "models.json").read_text()))


def load_pretrained(name: str) -> StochasticTraining:
    """A trained network, in Keras's safe mode: the file can hold no code.

    Args:
        name: one of `pretrained_models()`.

    Returns:
        The model, not compiled: it has weights, but no optimizer and no moments of the gradient.

    Raises:
        ValueError: for another name.

    Example:
    >>> import rebar_tf as rt
    >>> model = rt.models.load_pretrained("sbn_mnist_linear1_rebar")
    >>> model.generate(16).shape
    TensorShape([16, 784])
    """
    names = sorted(pretrained_models())
    if name not in names:
        raise ValueError(f"`name` must be one of {', '.join(names)}. Received: name={name!r}")
    return keras.saving.load_model(_FOLDER / f"{name}.keras", safe_mode=True)
