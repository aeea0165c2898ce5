"""Binary image datasets: the digits and drawings on which estimators are compared, and batches of them."""

from rebar_tf.datasets.batches import batches
from rebar_tf.datasets.binarization import binarize
from rebar_tf.datasets.dataset import Dataset
from rebar_tf.datasets.errors import DatasetUnavailableError
from rebar_tf.datasets.loading import load, names
from rebar_tf.validation import validate_images

__all__ = [
    "Dataset",
    "DatasetUnavailableError",
    "batches",
    "binarize",
    "load",
    "names",
    "validate_images",
]
