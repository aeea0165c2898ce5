"""Both Omniglot sets, which differ in drawings, scaling and splits, so that their numbers cannot be compared."""

from __future__ import annotations

import os

import numpy as np

from rebar_tf.datasets.binarization import draw, probabilities, random_state

_NUM_VALID = 1345
_SHUFFLE_SEED = 123


def omniglot_pixels(
    data_dir: str | os.PathLike | None, verify: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read the original drawings of Omniglot, brought from 105x105 to 28x28.

    The drawings of the 30 background alphabets, shuffled, are the training split, and their last 1,345 the validation
    split; those of the 20 evaluation alphabets are the test split. So a model is tested on
    alphabets that it has not seen.

    Args:
        data_dir: The folder with `images_background.zip` and `images_evaluation.zip`, in it or in its folder
            `omniglot`; else the folder of tensorflow-datasets. None is the latter's default folder.
        verify: Whether the raw files must hold the published drawings.

    Returns:
        The training, validation and test split: `[17935, 784]`, `[1345, 784]` and `[13180, 784]`, uint8, 255 is ink.

    Raises:
        ValueError: If a raw file is missing, damaged or not the published one.
        OSError: If the prepared copy cannot be written.
        DatasetUnavailableError: If there is nothing on disk and the download fails.
    """
    from rebar_tf.datasets.sources import builders  # imported here: it imports tensorflow-datasets

    ways_out = "--dataset=mnist_5k, which needs no download"
    images = builders.load_images(builders.Omniglot28x28, "omniglot", data_dir, verify, ways_out)
    return *_split(images["train"]), images["test"]


def omniglot_burda_splits(
    data_dir: str | os.PathLike | None, verify: bool, binarization: str, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read Burda's Omniglot, split and binarized as in the authors' code.

    The fixed draw is `numpy.random.RandomState(seed).uniform`, first for all training drawings in file order, then for
    the test drawings. After it the training drawings are shuffled, and their last 1,345 set apart for validation.

    Args:
        data_dir: The folder with `chardata.mat`, in it or in its folder `omniglot`; else the folder of
            tensorflow-datasets. None is the latter's default folder.
        verify: Whether the raw file must be the published one.
        binarization: "fixed" or "dynamic".
        seed: The seed of the fixed draw; the authors' is 5.

    Returns:
        The training, validation and test split: `[23000, 784]`, `[1345, 784]` and `[8070, 784]`, boolean for a fixed
        binarization, float32 for a dynamic one.

    Raises:
        ValueError: If the raw file is damaged or not the published one.
        OSError: If the prepared copy cannot be written.
        DatasetUnavailableError: If there is nothing on disk and the download fails.
    """
    from rebar_tf.datasets.sources import builders  # imported here: it imports tensorflow-datasets

    ways_out = "--dataset=omniglot, the original drawings, whose bounds cannot be compared with Burda's"
    images = builders.load_images(builders.OmniglotBurda, "omniglot_burda", data_dir, verify, ways_out)
    random = random_state(seed)
    train, test = (
        draw(images.pop(split), random) if binarization == "fixed" else probabilities(images.pop(split))
        for split in ("train", "test")
    )
    return *_split(train), test


def _split(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shuffle, and set the last ones apart for validation."""
    shuffled = images[np.random.RandomState(_SHUFFLE_SEED).permutation(len(images))]
    # A copy, so that the bytes of all drawings are not kept in memory.
    return shuffled[:-_NUM_VALID], shuffled[-_NUM_VALID:].copy()
