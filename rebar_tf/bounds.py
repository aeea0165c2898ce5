"""Multi-sample bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from rebar_tf.arguments import is_integer
from rebar_tf.sampling import HardSampler

if TYPE_CHECKING:  # it imports this module
    from rebar_tf.models.training import StochasticTraining

_BOUND_STREAM = 2  # sets the noise of bounds apart from that of training (0) and evaluation (1)


def multi_sample_bound(
    model: StochasticTraining, x: Any, y: Any = None, num_samples: int = 100, seed: int = 0, batch_size: int = 500
) -> np.ndarray:
    """`log 1/K sum_k exp(-f(b_k))` for each example, with K hard samples from the model.

    For a generative model f is `log q(b|x) - log p(x, b)` and this is the K-sample bound of Burda et al.; for
    structured prediction f is `-log p(y|b)`. A proper bound whatever estimator trained the model. Memory does not grow
    with K.

    Args:
        model: a model whose `objective(x, y)` returns `(f, y_pred)`, f `[batch]` in nats.
        x: `[examples, ...]` inputs, an array or a structure of arrays.
        y: targets likewise, or None.
        num_samples: K, 1 or more.
        seed: integer; the same seed draws the same samples.
        batch_size: examples computed at a time.

    Returns:
        `[examples]` float32, in nats.

    Raises:
        ValueError: for a `num_samples` below 1.

    Reference: Burda et al. 2015, eq. 8; Tucker et al. 2017, table App.2.
    """
    if not is_integer(num_samples, least=1):
        raise ValueError(f"`num_samples` must be an integer of 1 or more. Received: num_samples={num_samples!r}")
    data = (x,) if y is None else (x, y)
    examples = len(keras.tree.flatten(data)[0])
    bounds = []
    for start in range(0, examples, batch_size):
        rows = slice(start, start + batch_size)
        chunk = keras.tree.map_structure(lambda part, rows=rows: tf.convert_to_tensor(part[rows]), data)
        # The chunk's place enters the noise: no two examples share theirs.
        bounds.append(_chunk_bound(model, chunk, int(num_samples), tf.constant([seed, start], tf.int64)))
    return np.concatenate(bounds)


@tf.function(jit_compile=True, reduce_retracing=False)
def _chunk_bound(model: StochasticTraining, data: tuple[Any, ...], num_samples: int, seed: tf.Tensor) -> tf.Tensor:
    steps = seed[0] * 2_000_003 + seed[1] * num_samples  # one for each sample of each chunk

    def add_sample(k: tf.Tensor, log_sum: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with HardSampler(steps + k, stream=_BOUND_STREAM):
            f, _ = model.objective(*data)
        return k + 1, tf.maximum(log_sum, -f) + tf.nn.softplus(-tf.abs(log_sum + f))

    first = tf.fill([keras.tree.flatten(data)[0].shape[0]], -1e30)
    log_sum = tf.while_loop(lambda k, _: k < num_samples, add_sample, [tf.constant(0, tf.int64), first])[1]
    return log_sum - tf.math.log(tf.cast(num_samples, tf.float32))
