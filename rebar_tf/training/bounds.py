"""Multi-sample bounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from rebar_tf.sampling import HardSampler
from rebar_tf.training.keras_loss import refusing_coupled, refusing_sums
from rebar_tf.validation import check_integer

_BOUND_STREAM = 2  # sets the noise of bounds apart from that of training (0) and evaluation (1)
_SAMPLES_PER_PROGRAM = 500  # of a chunk: a signal waits for the program that runs


class HasObjective(Protocol):
    """What a bound asks of a model."""

    def evaluation_objective(self, x: Any, y: Any = None) -> tuple[tf.Tensor, Any]:
        """`(f, y_pred)`, f `[batch]` in nats, under the active sampler, with other layers as in inference."""


def multi_sample_bound(
    model: HasObjective,
    x: Any,
    y: Any = None,
    num_samples: int = 100,
    seed: int = 0,
    batch_size: int = 500,
    progress: Callable[[int], Any] | None = None,
) -> np.ndarray:
    """`log 1/K sum_k exp(-f(b_k))` for each example, with K hard samples from the model.

    For a generative model f is `log q(b|x) - log p(x, b)` and this is the K-sample bound of Burda et al.; for
    structured prediction f is `-log p(y|b)`. A proper bound whatever estimator trained the model: the samples are
    discrete also where training relaxes them. Memory does not grow with K. The sum is taken in float64: in float32 it
    would lose weights below a millionth of itself, of which many samples have many.

    Args:
        model: a model whose `evaluation_objective(x, y)` returns `(f, y_pred)`, f `[batch]` in nats.
        x: `[examples, ...]` inputs, an array or a structure of arrays.
        y: targets likewise, or None.
        num_samples: K, 1 or more.
        seed: integer; the same seed draws the same samples.
        batch_size: examples computed at a time.
        progress: called now and then with the number of samples drawn since the last call, those of each example
            counted; they add up to examples times K.

    Returns:
        `[examples]` float32, in nats.

    Raises:
        ValueError: for a `num_samples` below 1, for an objective that mixes the examples of a batch or is their sum,
            and for losses that layers add, which are of the whole batch.

    Example:
    >>> import numpy as np, rebar_tf as rt
    >>> model = rt.models.SigmoidBeliefNetwork(hidden_units=8, visible_units=16, seed=0)
    >>> rt.diagnostics.multi_sample_bound(model, np.zeros([4, 16]), num_samples=10).shape
    (4,)

    Reference: Burda et al. 2015, eq. 8; Tucker et al. 2017, table App.2.
    """
    check_integer("num_samples", num_samples, least=1)
    data = keras.tree.map_structure(as_in_fit, (x,) if y is None else (x, y))
    examples = len(keras.tree.flatten(data)[0])
    bounds = [np.zeros([0], np.float32)]
    for start in range(0, examples, batch_size):
        rows = slice(start, start + batch_size)
        chunk = keras.tree.map_structure(lambda part, rows=rows: tf.convert_to_tensor(part[rows]), data)
        # The chunk's place enters the noise: no two examples share theirs.
        first = seed * 2_000_003 + start * int(num_samples)
        log_sum = _log_sum(model, chunk, first, int(num_samples), progress)
        bounds.append((log_sum.numpy() - np.log(num_samples)).astype(np.float32))
    return np.concatenate(bounds)


def _log_sum(
    model: HasObjective,
    data: tuple[Any, ...],
    first: int,
    num_samples: int,
    progress: Callable[[int], Any] | None,
) -> tf.Tensor:
    """`log sum_k exp(-f(b_k))`, `[batch]` float64; the samples are those of the steps from `first` on."""
    batch = keras.tree.flatten(data)[0].shape[0]
    log_sum = tf.fill([batch], tf.constant(-1e300, tf.float64))
    for start in range(0, num_samples, _SAMPLES_PER_PROGRAM):
        count = min(_SAMPLES_PER_PROGRAM, num_samples - start)
        places = tf.constant(first + start, tf.int64), tf.constant(count, tf.int64)
        # One program for what the model is compiled with now, of which a trace holds the loss.
        compiled = getattr(model, "_compile_loss", None), getattr(model, "coupled_batch", None)
        texts = any(part.dtype == tf.string for part in keras.tree.flatten(data))
        log_sum = (_add_samples if texts else _add_samples_by_xla)(model, compiled, data, log_sum, *places)
        if progress is not None:
            log_sum.numpy()  # waits for the program
            progress(batch * count)
    return log_sum


def as_in_fit(part: Any) -> Any:
    """An array or tensor whose numbers have the type that Keras's `fit` gives them."""
    part = part if hasattr(part, "dtype") else np.asarray(part)
    kind, floatx = tf.as_dtype(part.dtype), keras.config.floatx()
    return tf.cast(part, floatx) if kind.is_floating and kind.name != floatx else part


def _add_samples_plainly(
    model: HasObjective,
    compiled: tuple[Any, ...],
    data: tuple[Any, ...],
    log_sum: tf.Tensor,
    first: tf.Tensor,
    count: tf.Tensor,
) -> tf.Tensor:
    """`log_sum` with `count` more samples in it. Neither number is compiled in: one program serves every K."""
    del compiled  # another one is another program

    def add_sample(k: tf.Tensor, log_sum: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        what = "A multi-sample bound"
        added = keras.StatelessScope(collect_losses=True)
        with HardSampler(first + k, _BOUND_STREAM, training=False), refusing_coupled(what), refusing_sums(what), added:
            log_weight = -tf.cast(model.evaluation_objective(*data)[0], tf.float64)
        if added.losses:
            raise ValueError(
                f"{what} takes the examples one by one, and layers of the model add losses of the whole batch: "
                "override `objective`, with what they add to each example"
            )
        return k + 1, tf.maximum(log_sum, log_weight) + tf.nn.softplus(-tf.abs(log_sum - log_weight))

    return tf.while_loop(lambda k, _: k < count, add_sample, [tf.constant(0, tf.int64), log_sum])[1]


_add_samples = tf.function(_add_samples_plainly, autograph=False, reduce_retracing=False)  # XLA takes no texts
_add_samples_by_xla = tf.function(_add_samples_plainly, autograph=False, jit_compile=True, reduce_retracing=False)
