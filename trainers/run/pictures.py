"""Pictures of a run: its curve, and what the model draws."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from rebar_tf.callbacks import read_curve
from rebar_tf.datasets import Dataset
from rebar_tf.models import SigmoidBeliefNetwork
from rebar_tf.sampling import HardSampler
from trainers.common.files import replacing
from trainers.common.methods import label
from trainers.common.pictures import montage
from trainers.run.workdir import Workdir

_STREAM = 4  # sets these samples apart from those of training, evaluation, bounds and KL
_SIDE = 10  # images in a row and in a column
_DRAWS = 3
_MANY_DRAWS = 100  # in a mean
FEW_DRAWS = 10  # in the means of pictures that are drawn while the model trains
_DRAWS_AT_A_TIME = 10
_ZOOM = 3
_PANELS = (  # columns of the curve, the legend of each, and the axis that they share
    ({"bound": "training", "valid_bound": "held out"}, "bound (nats)"),
    ({"log_grad_variance": ""}, "log variance of the gradient"),
    ({"temperature": ""}, "temperature"),
)


def write(workdir: Workdir, model: Any, dataset: Dataset) -> None:
    """Writes samples.png, for a generative model, and reconstructions.png; ink is black.

    samples.png: pixel probabilities p(x | b) of 100 samples b from the prior. reconstructions.png: pairs of rows, the
    first 50 test images and, below each, the mean of p(x | b) over 100 samples of b given it. For structured
    prediction four rows for each image: the mean over 100 samples, and 3 single ones, below the given top half.
    """
    for name, picture in drawn(model, dataset).items():
        pixels = np.rint(255 * picture).astype(np.uint8)
        with replacing(workdir.path / f"{name}.png") as temporary:
            temporary.write_bytes(tf.io.encode_png(pixels[..., np.newaxis]).numpy())


def drawn(model: Any, dataset: Dataset, draws: int = _MANY_DRAWS) -> dict[str, np.ndarray]:
    """The pictures of `write` by name, `[height, width]`, 1 is white; means are over `draws` samples."""
    pictures = {"reconstructions": reconstructions(model, dataset, draws)}
    if isinstance(model, SigmoidBeliefNetwork):
        pictures["samples"] = montage(model.generate(_SIDE**2).numpy(), _SIDE)
    white = {name: 1.0 - picture.clip(0, 1) for name, picture in pictures.items()}
    return {name: picture.repeat(_ZOOM, axis=0).repeat(_ZOOM, axis=1) for name, picture in white.items()}


def reconstructions(model: Any, dataset: Dataset, draws: int = _MANY_DRAWS) -> np.ndarray:
    """Test images and what the model makes of their samples, as one picture."""
    half = dataset.test.shape[1] // 2
    generative = isinstance(model, SigmoidBeliefNetwork)
    count = _SIDE**2 // 2 if generative else 2 * _SIDE
    images = dataset.test[:count].astype(np.float32)
    many = np.repeat(images, _DRAWS_AT_A_TIME, axis=0)
    found = []
    for first in range(0, draws, _DRAWS_AT_A_TIME):
        with HardSampler(first, stream=_STREAM, training=False):
            logits = (model.objective(many) if generative else model.objective(many[:, :half], many[:, half:]))[1]
        predicted = tf.sigmoid(logits).numpy()
        predicted = predicted if generative else np.concatenate([many[:, :half], predicted], axis=1)
        found += [*predicted.reshape(len(images), _DRAWS_AT_A_TIME, -1).swapaxes(0, 1)]
    rows = [images, np.mean(found[:draws], axis=0), *([] if generative else found[:_DRAWS])]
    # A row of the picture is ten images, ten times the same row of each kind below one another.
    blocks = [row[start : start + _SIDE] for start in range(0, len(images), _SIDE) for row in rows]
    return montage(np.concatenate(_padded(blocks)), _SIDE)


def _padded(blocks: list[np.ndarray]) -> list[np.ndarray]:
    """Blocks of `_SIDE` images, white where a dataset has fewer."""
    return [np.pad(block, [(0, _SIDE - len(block)), (0, 0)]) for block in blocks]


def write_curve(workdir: Workdir, estimator: str) -> None:
    """Writes curve.png: bounds, log variance of the gradient and temperature by step, as far as the run has them."""
    from trainers.common import plot  # imports matplotlib, which training does without

    rows = read_curve(workdir.curve)
    found = [(columns, axis) for columns, axis in _PANELS if any(name in row for row in rows for name in columns)]
    figure = plot.new_figure(4.0 * len(found), 3.2)
    figure.suptitle(label(estimator))
    for axes, (columns, axis) in zip(figure.subplots(1, len(found), squeeze=False)[0], found, strict=True):
        for number, (name, legend) in enumerate(columns.items()):
            points = [(row["step"], row[name]) for row in rows if name in row]
            axes.plot(*zip(*points, strict=True), label=legend, **plot.curve_style(number), markersize=3)
        axes.set_ylabel(axis)
        plot.label_steps(axes)
        if len(columns) > 1:
            axes.legend(frameon=False)
    with replacing(workdir.path / "curve.png") as temporary:
        figure.savefig(temporary, format="png", dpi=130)
