"""What an argument may be: Python's numbers and NumPy's alike."""

from __future__ import annotations

import math
import numbers
from typing import Any


def is_integer(value: Any, least: int) -> bool:
    """Whether `value` is an integer of `least` or more, Python's or NumPy's; a bool is none.

    Example:
    >>> import numpy as np
    >>> from rebar_tf.validation import is_integer
    >>> is_integer(np.int32(4), least=2), is_integer(4.0, least=2), is_integer(True, least=1)
    (True, False, False)
    """
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and int(value) >= least


def is_positive(value: Any) -> bool:
    """Whether `value` is a finite number above 0, Python's or NumPy's; a bool is none.

    Example:
    >>> import numpy as np
    >>> from rebar_tf.validation import is_positive
    >>> is_positive(np.float32(0.5)), is_positive(0), is_positive(float("inf"))
    (True, False, False)
    """
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and 0.0 < float(value) < math.inf
