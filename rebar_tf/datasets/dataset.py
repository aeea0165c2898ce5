"""What a loaded dataset is."""

import dataclasses
import functools

import numpy as np

from rebar_tf.datasets.binarization import check_binarization
from rebar_tf.datasets.validation import validate_images


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Three splits of flat images, and how their pixels were made binary.

    Args:
        name: What the dataset is called.
        train: `[n_train, 784]`, float32: values in {0, 1} for a fixed binarization, pixel
            probabilities in [0, 1] for a dynamic one.
        valid: `[n_valid, 784]`, likewise.
        test: `[n_test, 784]`, likewise.
        binarization: "fixed" or "dynamic".
        binarization_seed: The seed of the fixed draw.

    Raises:
        ValueError: If a split is no matrix of 784 values in [0, 1] a row, a fixed split is not
            binary, or `binarization` is unknown.

    Example:
        >>> images = np.eye(784)
        >>> Dataset("mine", train=images, valid=images, test=images).train.shape
        (784, 784)
    """

    name: str
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    binarization: str = "fixed"
    binarization_seed: int = 0

    def __post_init__(self) -> None:
        check_binarization(self.binarization)
        for split in ("train", "valid", "test"):
            images = validate_images(getattr(self, split), name=split)
            if self.binarization == "fixed" and not is_binary(images):
                raise ValueError(
                    f"{split} must have values in {{0, 1}} when binarization='fixed'. Received: values "
                    "between 0 and 1 (rebar_tf.datasets.binarize draws binary images from such)"
                )
            object.__setattr__(self, split, images)

    @functools.cached_property
    def mean(self) -> np.ndarray:
        """The mean image of the training split, `[784]`, float32."""
        return self.train.mean(axis=0, dtype=np.float64).astype(np.float32)


def is_binary(images: np.ndarray) -> bool:
    """Whether all values of a matrix in [0, 1] are 0 or 1."""
    # In parts: the first one with a value in between settles it, and nothing copies the whole.
    return all(np.array_equal(rows, rows.astype(bool)) for rows in np.array_split(images, len(images) // 4096 + 1))
