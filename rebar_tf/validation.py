"""What an argument may be: numbers, Python's and NumPy's alike, and matrices of images."""

from __future__ import annotations

import math
import numbers
from typing import Any

import numpy as np
import numpy.typing as npt


def is_integer(value: Any, least: float) -> bool:
    """Whether `value` is an integer of `least` or more, Python's or NumPy's; a bool is not.

    Example:
    >>> import numpy as np
    >>> from rebar_tf.validation import is_integer
    >>> is_integer(np.int32(4), least=2), is_integer(4.0, least=2), is_integer(True, least=1)
    (True, False, False)
    """
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and int(value) >= least


def check_integer(name: str, value: Any, least: int) -> None:
    """Raise a ValueError that names the argument unless `value` is an integer of `least` or more.

    Args:
        name: The argument's name.
        value: What was passed.
        least: The smallest value that is allowed.

    Raises:
        ValueError: As `is_integer` decides.

    Example:
    >>> from rebar_tf.validation import check_integer
    >>> check_integer("num_layers", 2, least=1)
    """
    if not is_integer(value, least):
        raise ValueError(f"`{name}` must be an integer of {least} or more. Received: {name}={value!r}")


def is_positive(value: Any) -> bool:
    """Whether `value` is a finite number above 0, Python's or NumPy's; a bool is not.

    Example:
    >>> import numpy as np
    >>> from rebar_tf.validation import is_positive
    >>> is_positive(np.float32(0.5)), is_positive(0), is_positive(float("inf"))
    (True, False, False)
    """
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and 0.0 < float(value) < math.inf


def is_fraction(value: Any) -> bool:
    """Whether `value` is a number in [0, 1), Python's or NumPy's; a bool is not.

    Example:
    >>> from rebar_tf.validation import is_fraction
    >>> is_fraction(0.01), is_fraction(0), is_fraction(1.0), is_fraction(True)
    (True, True, False, False)
    """
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and 0.0 <= float(value) < 1.0


def validate_images(images: npt.ArrayLike, name: str = "images", units: int | None = 784) -> np.ndarray:
    """Check that `images` is a matrix of pixel probabilities, and return it as float32.

    Args:
        images: `[n, units]`, boolean, integer or floating, every value in [0, 1].
        name: The name of the argument, for errors.
        units: The number of pixels of an image; None allows any.

    Returns:
        `[n, units]`, float32; the array itself, not a copy, where it already is float32.

    Raises:
        ValueError: If the array is not numeric, not 2-d, empty, of another number of units, or
            has a value that is NaN or outside [0, 1].

    Example:
        >>> validate_images([[0, 1], [1, 0.5]], units=2).dtype
        dtype('float32')
    """
    return check_images(images, name, units).astype(np.float32, copy=False)


def check_images(images: npt.ArrayLike, name: str, units: int | None) -> np.ndarray:
    """Check as `validate_images` does, and return the array in the type that it has.

    Args:
        images: `[n, units]`, boolean, integer or floating, every value in [0, 1].
        name: The name of the argument, for errors.
        units: The number of pixels of an image; None allows any.

    Returns:
        `[n, units]`, the array itself where it is one.

    Raises:
        ValueError: As `validate_images` does.
    """
    array = np.asarray(images)
    if array.dtype.kind not in "buif":
        raise ValueError(f"{name} must be boolean, integer or floating. Received: dtype {array.dtype}")
    if array.ndim != 2 or 0 in array.shape or units not in (None, array.shape[1]):
        expected = "units" if units is None else units
        raise ValueError(f"{name} must have the shape [n, {expected}] with n > 0. Received: shape {array.shape}")
    # NaN is the minimum and the maximum of any array that has one, and no comparison with it holds.
    if not (array.min() >= 0 and array.max() <= 1):
        raise ValueError(_out_of_range(array, name))
    return array


def _out_of_range(array: np.ndarray, name: str) -> str:
    row, column = np.argwhere(~((array >= 0) & (array <= 1)))[0]
    hint = " (pixel bytes are to be divided by 255)" if array.dtype == np.uint8 else ""
    return f"{name} must have values in [0, 1]{hint}. Received: {array[row, column]} in row {row}, column {column}"
