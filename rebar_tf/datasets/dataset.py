"""A loaded dataset."""

import dataclasses
import functools

import numpy as np

from rebar_tf.datasets.binarization import check_binarization
from rebar_tf.validation import check_images


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Three splits of flat images, and how their pixels were made binary.

    A fixed split is boolean, which takes a quarter of the memory of float32. Arithmetic with it cannot overflow, as
    it would with bytes (`2 * x - 1`).

    Args:
        name: What the dataset is called.
        train: `[n_train, 784]`, boolean for a fixed binarization, float32 pixel probabilities in [0, 1]
            for a dynamic one. Numbers of other types are converted.
        valid: `[n_valid, 784]`, likewise.
        test: `[n_test, 784]`, likewise.
        binarization: "fixed" or "dynamic".
        binarization_seed: The seed of the fixed draw, None where the images were binary before.

    Raises:
        ValueError: If a split is no matrix of 784 values in [0, 1] a row, a fixed split is not
            binary, or `binarization` is unknown.

    Example:
        >>> images = np.eye(784)
        >>> dataset = Dataset("mine", train=images, valid=images, test=images)
        >>> dataset.train.shape, dataset.train.dtype
        ((784, 784), dtype('bool'))
    """

    name: str
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    binarization: str = "fixed"
    binarization_seed: int | None = 0

    def __post_init__(self) -> None:
        check_binarization(self.binarization)
        for split in ("train", "valid", "test"):
            images = check_images(getattr(self, split), name=split, units=784)
            if self.binarization == "fixed" and not is_binary(images):
                raise ValueError(
                    f"{split} must have values in {{0, 1}} when binarization='fixed'. Received: values "
                    "between 0 and 1 (rebar_tf.datasets.binarize draws binary images from such)"
                )
            dtype = bool if self.binarization == "fixed" else np.float32
            object.__setattr__(self, split, images.astype(dtype, copy=False))

    @functools.cached_property
    def mean(self) -> np.ndarray:
        """The mean image of the training split, `[784]`, float32."""
        return self.train.mean(axis=0, dtype=np.float64).astype(np.float32)


def is_binary(images: np.ndarray) -> bool:
    """Whether all values of a matrix in [0, 1] are 0 or 1."""
    if images.dtype.kind != "f":
        return True
    # In parts: the first one with a value in between settles it, and nothing copies the whole.
    return all(np.array_equal(rows, rows.astype(bool)) for rows in np.array_split(images, len(images) // 4096 + 1))
