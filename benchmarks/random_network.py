"""The network of the paper, with random images to train it on: speed does not ask what is in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # TensorFlow takes seconds: the function imports it
    import tensorflow as tf

    import rebar_tf as rt


def build(settings: dict[str, Any], steps: int) -> tuple[rt.models.SigmoidBeliefNetwork, tf.data.Dataset]:
    """A model that trains `steps` steps in a program, and its batches.

    Args:
        settings: the flags of `trainers.train`.
        steps: of one program.
    """
    import numpy as np

    import rebar_tf as rt
    from trainers import experiment

    images = np.random.default_rng(0).uniform(size=(4800, 784)) < 0.13
    dataset = rt.datasets.Dataset("random", train=images, valid=images, test=images)
    model = experiment.build_model({**settings, "task": "generative"}, dataset)
    model.steps_per_execution = steps
    return model, rt.datasets.batches(images, settings["batch_size"])
