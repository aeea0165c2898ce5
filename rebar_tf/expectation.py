"""The expectation of a function of discrete samples, with a gradient."""

from __future__ import annotations

import functools
from collections.abc import Callable

import tensorflow as tf

from rebar_tf import estimators, sampling
from rebar_tf.distributions import FAMILIES
from rebar_tf.sampling import Source


def expectation(
    fn: Callable[[tf.Tensor], tf.Tensor],
    logits: tf.Tensor,
    estimator: str | estimators.Estimator = "rebar",
    *,
    family: str = "bernoulli",
    seed: int | tf.Tensor | None = None,
    context: tf.Tensor | None = None,
) -> tf.Tensor:
    """One sample of `f(b)`, b discrete with the given logits, whose gradient is the estimate of `d E[f(b)] / d logits`.

    Average the result over the batch, or sum it, and differentiate as usual. Variables that `fn` uses get the direct
    gradient. Inside a second tape the gradient can be differentiated once more with respect to the estimator's own
    variables, which is how a temperature or a control-variate scale is trained; by the logits that is no estimate of a
    second derivative.

    Args:
        fn: f; takes samples shaped like `logits`, in {0, 1} (relaxed ones in between, for estimators that relax), and
            returns `[batch]`, the value of an example at its own samples: where it depends on those of others, the
            gradient is biased, and nothing says so. Such a function is one of a single example: `[1, batch * units]`.
        logits: `[batch, units]`, float.
        estimator: a name of `rebar_tf.estimators.names()`, which means its defaults, held fixed; or an `Estimator`
            object, whose variables can be trained.
        family: `"bernoulli"`, or `"categorical"` for one-hot samples along the last axis of the logits.
        seed: integer scalar; the same seed draws the same samples. None draws a new one from TensorFlow's global
            generator, so `tf.random.set_seed` governs it.
        context: `[batch, size]`, input of the baseline for estimators that have one; None for no baseline.

    Returns:
        `[batch]` float32: f at the hard samples, or what the estimator makes of several (their mean, a bound, the
        exact sum). How often `fn` is called, and whether the gradient is unbiased, is the estimator's.

    Raises:
        ValueError: for an unknown estimator or family, logits of rank below 2, an `fn` that does not return `[batch]`,
            or one without the derivative that the estimator needs.

    Example:
    >>> import tensorflow as tf, rebar_tf as rt
    >>> logits = tf.zeros([4, 3])
    >>> with tf.GradientTape() as tape:
    ...     tape.watch(logits)
    ...     loss = tf.reduce_mean(rt.expectation(lambda b: tf.reduce_sum((b - 0.45) ** 2, 1), logits, "rebar"))
    >>> tape.gradient(loss, logits).shape.as_list()
    [4, 3]

    Reference: Tucker et al. 2017, eq. 4.
    """
    if family not in FAMILIES:
        raise ValueError(f"`family` must be one of {', '.join(FAMILIES)}. Received: family={family!r}")
    kind = FAMILIES[family]
    logits = kind.check_logits(tf.convert_to_tensor(logits))
    shape = tuple(logits.shape[1:])
    context_size = None if context is None else context.shape[-1]
    if isinstance(estimator, str):
        estimator = _default(estimator, family, shape, context_size)
    estimator = estimators.get(estimator)
    with tf.init_scope():  # variables live outside of a function that is being traced
        estimator.build_control(estimators.ControlSpec((shape,), (shape,), (kind,), ("expectation",), context_size))
    step = tf.random.uniform((), maxval=tf.int32.max, dtype=tf.int32) if seed is None else seed

    source = Source(
        "expectation", seed=0, local=estimator if isinstance(estimator, estimators.LocalEstimator) else None
    )

    def objective() -> tf.Tensor:
        return fn(sampling.active().sample(kind(logits), source))

    estimate = estimator.estimate(objective, step, context)
    return estimate.loss(estimator.etas()[0]) if estimate.variate else estimate.loss()


@functools.cache
def _default(name: str, family: str, shape: tuple[int, ...], context_size: int | None) -> estimators.Estimator:
    """The estimator of that name with its defaults, made once for each shape: its variables are constants."""
    return estimators.get(name)
