"""The two relaxations of a discrete sample."""

from __future__ import annotations

import tensorflow as tf

RELAXATIONS = ("eq7", "concrete")


def relaxed_logits(z: tf.Tensor, logits: tf.Tensor, temperature: tf.Tensor, relaxation: str) -> tf.Tensor:
    """The argument of the relaxed sample's sigmoid or softmax.

    Concrete: `z / lambda`. Eq. 7 adds `logits * lambda / (lambda + 1)`, which is its factor
    `(lambda^2 + lambda + 1) / (lambda + 1)` on the logit less the 1 that `z` already holds.
    """
    if relaxation == "concrete":
        return z / temperature
    return z / temperature + logits * (temperature / (temperature + 1.0))


def check_relaxation(relaxation: str) -> str:
    """Returns `relaxation`, or raises ValueError naming those that exist."""
    if relaxation not in RELAXATIONS:
        raise ValueError(f"`relaxation` must be one of {', '.join(RELAXATIONS)}. Received: relaxation={relaxation!r}")
    return relaxation
