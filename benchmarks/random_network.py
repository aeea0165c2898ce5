"""The network of the paper, with random images to train it on: speed does not ask what is in them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from trainers.common import flags
from trainers.common.errors import BadInput
from trainers.common.experiment import FLAGS, Experiment

if TYPE_CHECKING:  # TensorFlow takes seconds: the function imports it
    import tensorflow as tf

    import rebar_tf as rt


def parse(argv: Sequence[str], documentation: str) -> Experiment:
    """The experiment of a command line that has the flags of `trainers.train`."""
    values = flags.Flags()
    flags.define_experiment(values, *FLAGS)
    experiment = Experiment.from_flags(flags.parse(values, argv, documentation, options_without=()))
    if experiment.distribution is not None:
        raise BadInput(f"flag --distribution={experiment.distribution}: expected none, as one program is measured")
    return experiment


def build(experiment: Experiment, steps: int) -> tuple[rt.models.SigmoidBeliefNetwork, tf.data.Dataset]:
    """A model that trains `steps` steps in a program, and its batches.

    Args:
        experiment: what is trained.
        steps: of one program.
    """
    import numpy as np

    import rebar_tf as rt
    from trainers.common.build import build_model

    images = np.random.default_rng(0).uniform(size=(4800, 784)) < 0.13
    dataset = rt.datasets.Dataset("random", train=images, valid=images, test=images)
    model = build_model(dataclasses.replace(experiment, task="generative"), dataset)
    model.steps_per_execution = steps
    return model, rt.datasets.batches(images, experiment.batch_size, dtype="bool")
