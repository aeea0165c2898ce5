"""Every estimator measured on a user's model: how noisy, how slow, how biased."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rebar_tf import estimators
from rebar_tf.diagnostics.advice import Advice, Measured
from rebar_tf.diagnostics.memory import working_megabytes
from rebar_tf.diagnostics.twin import trained, with_estimator
from rebar_tf.optimizers import Adam
from rebar_tf.sampling import uniform
from rebar_tf.training import StochasticTraining
from rebar_tf.training.objective import pass_scope
from rebar_tf.training.parts import map_parts
from rebar_tf.validation import check_integer, is_positive

_CHUNKS = 10  # by whose spread standard errors are known
_TRIAL = 5  # estimates by which the time of one is guessed
_LEAST, _MOST = 5, 5000  # estimates of a chunk
_EXAMPLES = 7  # the key of their choice
_APART = 2**24  # steps between two estimators, so that no two draw the same noise
_RATE = 3e-3  # at which temperature, scales and baseline are adapted


def compare(
    model: StochasticTraining,
    x: Any,
    y: Any = None,
    names: Sequence[str] | None = None,
    seconds: float = 60.0,
    batch_size: int | None = None,
    steps: int = 0,
    progress: Callable[[Measured], Any] | None = None,
) -> Advice:
    """Measures estimators on a model, and says which one to take.

    Of each the variance of the gradient, the time and the memory of an estimate under XLA, and variance times time: at
    equal time, the noise that is left in a mean of estimates. With a `batch_size` the noise is that of training, of the
    samples and of the choice of examples: what an estimator saves of the former counts as far as the latter leaves it
    to be seen. Temperature, scales and baseline are adapted first, at frozen weights. Other random layers, such as
    dropout, draw the same throughout. The model itself is left as it is.

    It holds for the weights that are measured: initial ones say little of the rest of a training, `steps` goes on from
    them. docs/estimators.md has how far the advice holds on four models.

    The mean of a biased estimator is compared with the pooled mean of the unbiased ones, whose noise says how small a
    bias can be seen.

    Args:
        model: built and compiled, of whose class Keras can make another from its configuration.
        x: inputs: a batch, or the examples that batches are drawn from.
        y: targets.
        names: of the estimators; None for all that are registered.
        seconds: for the measurements, all together, half of them for adapting. Each estimator is compiled besides,
            twice, which takes some seconds, and makes a hundred estimates at least.
        batch_size: examples of an estimate, drawn anew for each; None takes all in each.
        steps: of training before the measurement, of a copy, by the estimator and the optimizer of the model, in
            batches of the same size.
        progress: called with each estimator when it is measured, its bias not known yet.

    Returns:
        An `Advice`: print it, `plot` it, or take its `rows`.

    Raises:
        ValueError: for `seconds` or a `batch_size` that are not positive, negative `steps`, a name that is not
            registered, a model that is not compiled or of which Keras cannot make another, and data that it cannot be
            called with.

    Example:
    >>> import keras, numpy as np, rebar_tf as rt
    >>> x = keras.Input((4,))
    >>> b = rt.layers.StochasticBinary(estimator="rebar")(keras.layers.Dense(3)(x))
    >>> model = rt.StochasticModel(x, keras.layers.Dense(4)(b))
    >>> model.compile(optimizer=rt.optimizers.Adam(3e-4), loss="mse")
    >>> batch = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    >>> advice = rt.diagnostics.compare(model, batch, batch, names=["reinforce", "rebar"], seconds=1.0)
    >>> sorted(row["estimator"] for row in advice.rows)
    ['rebar', 'reinforce']
    """
    if not is_positive(seconds):
        raise ValueError(f"`seconds` must be a positive number. Received: seconds={seconds!r}")
    names = estimators.names() if names is None else list(names)
    for name in names:
        estimators.get(name)  # an unknown one is refused before the first is compiled
    adviser = Adviser(model, x, y, batch_size, steps)
    found: list[Finding] = []
    for name in names:
        found.append(adviser.measure(name, seconds / len(names)))
        if progress is not None:
            progress(found[-1].measured)
    return conclude(found)


@dataclasses.dataclass(frozen=True)
class Means:
    """The mean of an estimator's estimates, all weights in one, and the variance of that mean, by entry."""

    mean: np.ndarray
    variance: np.ndarray


@dataclasses.dataclass(frozen=True)
class Finding:
    """What was measured of one estimator.

    Attributes:
        measured: without its bias, which takes the others.
        means: None if the estimator does not serve the model.
    """

    measured: Measured
    means: Means | None = None


class Adviser:
    """Measures one estimator after the other on a model, with the arguments and errors of `compare`."""

    def __init__(self, model: StochasticTraining, x: Any, y: Any, batch_size: int | None, steps: int):
        if batch_size is not None:
            check_integer("batch_size", batch_size, least=1)
        check_integer("steps", steps, least=0)
        self._data, self._batch_size = [map_parts(tf.identity, part) for part in (x, y)], batch_size
        rows = {int(part.shape[0]) for part in keras.tree.flatten(self._data) if part is not None}
        if len(rows) > 1:
            raise ValueError(f"`x` and `y` must have equally many examples. Received: {sorted(rows)}")
        own = with_estimator(model, model.estimator)
        with pass_scope(own):  # raises what is wrong with the model or the data, and not with an estimator
            own.estimate_gradients(*drawn(self._data, batch_size, tf.constant(0)))
        self._model = trained(model, x, y, batch_size, steps) if steps else model

    def measure(self, name: str, seconds: float) -> Finding:
        """One estimator, in so many seconds."""
        estimator = estimators.get(name)
        nothing = Measured(name, estimator.unbiased)
        if estimator.objective != "expectation":
            return _left_out(nothing, f"it minimises another objective, a {estimator.objective}")
        try:
            twin = with_estimator(self._model, name)
            twin.estimator.step.assign(_APART * estimators.names().index(name))
            estimate = estimate_of(twin, self._data, self._batch_size)
            run = repeated(estimate, twin)
            run(1, 0.0)  # compiles
            nothing = dataclasses.replace(nothing, megabytes=working_megabytes(estimate))
        except (ValueError, NotImplementedError, tf.errors.OpError) as error:  # the last from XLA
            return _left_out(nothing, " ".join(str(error).split()))
        each = _seconds(lambda: run(_TRIAL, _RATE))[0] / _TRIAL
        count = int(np.clip(seconds / 2 / _CHUNKS / each, _LEAST, _MOST))
        run(_CHUNKS * count, _RATE)
        chunks = [_seconds(lambda: run(count, 0.0)) for _ in range(_CHUNKS)]
        return _found(nothing, [variable.path for variable in twin.model_variables], chunks, count)


Sums = tuple[list[np.ndarray], list[np.ndarray]]


def _found(nothing: Measured, paths: list[str], chunks: list[tuple[float, Sums]], count: int) -> Finding:
    """What the seconds and the sums of several runs of so many estimates say."""
    first, second = (np.stack([np.concatenate(sums[k]) for _, sums in chunks]) for k in range(2))
    means = first / count
    variances = np.maximum(second / count - means**2, 0.0) * count / (count - 1)
    if not (np.isfinite(means).all() and np.isfinite(variances).all()):
        return _left_out(nothing, "its estimates are not finite")
    total, micro = variances.mean(axis=1), 1e6 * np.array([taken / count for taken, _ in chunks])
    sizes = [len(part) for part in chunks[0][1][0]]
    by_variable = np.split(variances, np.cumsum(sizes)[:-1], axis=1)
    measured = dataclasses.replace(
        nothing,
        variance=float(total.mean()),
        variance_error=_error(total),
        microseconds=float(np.median(micro)),
        microseconds_error=_error(micro),
        parts={path: float(values.mean()) for path, values in zip(paths, by_variable, strict=True)},
    )
    return Finding(measured, Means(means.mean(axis=0), variances.mean(axis=0) / (count * _CHUNKS)))


def _left_out(nothing: Measured, reason: str) -> Finding:
    return Finding(dataclasses.replace(nothing, reason=reason))


def drawn(data: list[Any], batch_size: int | None, step: tf.Tensor) -> list[Any]:
    """The batch of a step: so many examples of the data, drawn with replacement; all of them for None."""
    if batch_size is None:
        return data
    count = tf.shape(keras.tree.flatten(data)[0])[0]
    places = tf.cast(uniform([batch_size], step, _EXAMPLES) * tf.cast(count, tf.float32), tf.int32)
    return [map_parts(lambda part: tf.gather(part, places), each) for each in data]


def estimate_of(twin: StochasticTraining, data: list[Any], batch_size: int | None) -> Callable[[], list[Any]]:
    """What computes the gradients of one estimate."""

    def estimate() -> list[Any]:
        with pass_scope(twin):
            return twin.estimate_gradients(*drawn(data, batch_size, twin.estimator.step.value))[1]

    return estimate


def repeated(estimate: Callable[[], list[Any]], twin: StochasticTraining) -> Callable[[int, float], Sums]:
    """What runs so many estimates at frozen weights, and moves the control variables by Adam at a rate.

    It returns the sums of the gradients of each weight, and of their squares, flat.
    """
    variables, control = twin.model_variables, twin.control_variables
    optimizer = Adam(_RATE, groups={})
    optimizer.build(control)

    def one(i: tf.Tensor, *sums: tf.Tensor) -> tuple[tf.Tensor, ...]:
        gradients = estimate()
        present = [g for g in gradients[len(variables) :] if g is not None]
        if present:
            optimizer.apply_gradients(zip(gradients[len(variables) :], control, strict=True))
        found = [
            tf.zeros(v.shape, tf.float64) if g is None else tf.cast(g, tf.float64)
            for g, v in zip(gradients[: len(variables)], variables, strict=True)
        ]
        added = itertools.chain.from_iterable((g, tf.square(g)) for g in found)
        return i + 1, *(total + part for total, part in zip(sums, added, strict=True))

    @tf.function(autograph=False, jit_compile=True)
    def program(count: tf.Tensor) -> list[tf.Tensor]:
        zeros = [tf.zeros(v.shape, tf.float64) for v in variables for _ in range(2)]
        return tf.while_loop(lambda i, *_: i < count, one, [tf.constant(0), *zeros])[1:]

    def run(count: int, learning_rate: float) -> Sums:
        optimizer.learning_rate = learning_rate
        sums = [np.ravel(total) for total in program(tf.constant(count))]
        return sums[::2], sums[1::2]

    return run


def conclude(found: list[Finding]) -> Advice:
    """The advice of what was measured, with the bias of those that have one."""
    unbiased = [each.means for each in found if each.measured.unbiased and each.means is not None]
    return Advice([_with_bias(each.measured, each.means, unbiased) for each in found])


def _with_bias(measured: Measured, own: Means | None, unbiased: list[Means]) -> Measured:
    """What was measured, with the distance from the mean of the unbiased estimators, each by how sure it is."""
    if measured.unbiased or own is None or not unbiased:
        return measured
    weights = np.array([1.0 / max(each.variance.sum(), 1e-30) for each in unbiased])
    weights /= weights.sum()
    reference = sum(w * each.mean for w, each in zip(weights, unbiased, strict=True))
    noise = own.variance + sum(w**2 * each.variance for w, each in zip(weights, unbiased, strict=True))
    length = max(float(np.linalg.norm(reference)), 1e-30)
    squared = float(np.square(own.mean - reference).sum() - noise.sum())
    return dataclasses.replace(
        measured, bias=max(squared, 0.0) ** 0.5 / length, bias_error=float(noise.sum()) ** 0.5 / length
    )


def _seconds(run: Callable[[], Any]) -> tuple[float, Any]:
    """How long it takes, and what it returns."""
    begin = time.perf_counter()
    found = run()
    return time.perf_counter() - begin, found


def _error(values: np.ndarray) -> float:
    """The standard error of a mean."""
    return float(values.std(ddof=1) / np.sqrt(len(values)))
