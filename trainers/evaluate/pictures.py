"""Samples and reconstructions as pictures, and in TensorBoard."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from rebar_tf.datasets import Dataset
from rebar_tf.models import SigmoidBeliefNetwork
from rebar_tf.sampling import HardSampler
from trainers.common.files import replacing
from trainers.common.pictures import montage
from trainers.run.workdir import Workdir

_STREAM = 4  # sets these samples apart from those of training, evaluation, bounds and KL
_SIDE = 10  # images in a row and in a column
_DRAWS = 3
_MANY_DRAWS = 100  # in a mean
_ZOOM = 3


def write(workdir: Workdir, model: Any, dataset: Dataset, step: int) -> None:
    """Writes samples.png, for a generative model, and reconstructions.png; ink is black.

    samples.png: pixel probabilities p(x | b) of 100 samples b from the prior. reconstructions.png: pairs of rows, the
    first 50 test images and, below each, the mean of p(x | b) over 100 samples of b given it. For structured
    prediction four rows for each image: the mean over 100 samples, and 3 single ones, below the given top half.
    """
    pictures = {"reconstructions": reconstructions(model, dataset)}
    if isinstance(model, SigmoidBeliefNetwork):
        pictures["samples"] = montage(samples(model), _SIDE)
    writer = tf.summary.create_file_writer(str(workdir.tensorboard), filename_suffix=".pictures")
    with writer.as_default(step=step):
        for name, picture in pictures.items():
            pixels = np.rint(255 * (1.0 - picture.clip(0, 1))).astype(np.uint8)
            pixels = pixels.repeat(_ZOOM, axis=0).repeat(_ZOOM, axis=1)[..., np.newaxis]
            with replacing(workdir.path / f"{name}.png") as temporary:
                temporary.write_bytes(tf.io.encode_png(pixels).numpy())
            tf.summary.image(name, pixels[np.newaxis])
    writer.close()


def samples(model: SigmoidBeliefNetwork) -> np.ndarray:
    """`[100, 784]` pixel probabilities given samples from the prior."""
    drawn = model.prior().sample(_SIDE**2, seed=(0, _STREAM))
    return model.likelihood(tf.nest.flatten(drawn)[-1]).mean().numpy()


def reconstructions(model: Any, dataset: Dataset) -> np.ndarray:
    """Test images and what the model makes of their samples, as one picture."""
    half = dataset.test.shape[1] // 2
    generative = isinstance(model, SigmoidBeliefNetwork)
    count = _SIDE**2 // 2 if generative else 2 * _SIDE
    images = dataset.test[:count].astype(np.float32)
    draws = []
    for draw in range(_MANY_DRAWS):
        with HardSampler(draw, stream=_STREAM, training=False):
            logits = (
                model.objective(images)[1] if generative else model.objective(images[:, :half], images[:, half:])[1]
            )
        predicted = tf.sigmoid(logits).numpy()
        draws.append(predicted if generative else np.concatenate([images[:, :half], predicted], axis=1))
    rows = [images, np.mean(draws, axis=0), *([] if generative else draws[:_DRAWS])]
    # A row of the picture is ten images, ten times the same row of each kind below one another.
    blocks = [row[start : start + _SIDE] for start in range(0, len(images), _SIDE) for row in rows]
    return montage(np.concatenate(_padded(blocks)), _SIDE)


def _padded(blocks: list[np.ndarray]) -> list[np.ndarray]:
    """Blocks of `_SIDE` images, white where a dataset has fewer."""
    return [np.pad(block, [(0, _SIDE - len(block)), (0, 0)]) for block in blocks]
