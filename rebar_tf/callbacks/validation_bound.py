"""The bound of held-out examples."""

from __future__ import annotations

import keras
import numpy as np

from rebar_tf.callbacks.reports import Logs


class ValidationBound(keras.callbacks.Callback):
    """Adds the mean bound of held-out examples, in nats, to each epoch's logs as `valid_bound`.

    Put it before the callbacks that report. Its samples are the same at every epoch.

    Args:
        x: `[examples, ...]` inputs, a NumPy array.
        y: targets likewise, or None.
        num_samples: samples of the bound, 1 for the bound that is trained.

    Example:
    >>> import numpy as np, rebar_tf as rt
    >>> callback = rt.callbacks.ValidationBound(np.zeros([10, 784], "float32"))
    """

    def __init__(self, x: np.ndarray, y: np.ndarray | None = None, num_samples: int = 1):
        super().__init__()
        self.x, self.y, self.num_samples = x, y, num_samples

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        if logs is not None:
            logs["valid_bound"] = self.value()

    def value(self) -> float:
        """The mean bound under the model as it is now, in nats."""
        return float(np.mean(self.model.bound(self.x, self.y, num_samples=self.num_samples), dtype=np.float64))
