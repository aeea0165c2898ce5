"""What is said of numbers with one value for each image."""

from __future__ import annotations

from typing import Any

import numpy as np


def mean_and_error(values: Any) -> tuple[float | None, float | None]:
    """Mean over images and its standard error; None for what is not finite, and for the error of a single image."""
    values = np.asarray(values, np.float64)
    with np.errstate(invalid="ignore"):  # infinite values have no deviation
        error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return _finite(values.mean()), _finite(error)


def _finite(number: float) -> float | None:
    return float(number) if np.isfinite(number) else None
