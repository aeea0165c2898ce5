"""How much each stochastic layer is used: KL and active units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from rebar_tf.distributions import Bernoulli
from rebar_tf.models import SigmoidBeliefNetwork
from rebar_tf.sampling import HardSampler
from trainers.common.statistics import mean_and_error

_STREAM = 3  # sets these samples apart from those of training (0), evaluation (1) and bounds (2)
_SAMPLES = 10  # an image
_BATCH = 500
ACTIVE = 0.01  # variance over x of E[b | x] above which a unit is active


def layers(model: Any, examples: Sequence[Any], split: str) -> list[dict[str, Any]]:
    """A row for each stochastic layer, the one next to x first.

    Args:
        model: the trained model.
        examples: `(x,)` or `(x, y)`, images along the first axis.
        split: its name.

    Returns:
        `split`; `layer` from 1; `kl` and `kl_standard_error` in nats, None unless the model is a sigmoid belief
        network; `active_units`, `units`, `images`.
    """
    parts, means = [], []
    for start in range(0, len(examples[0]), _BATCH):
        chunk = tuple(tf.convert_to_tensor(part[start : start + _BATCH]) for part in examples)
        samples = [_one_sample(model, chunk, tf.constant(start * _SAMPLES + s, tf.int64)) for s in range(_SAMPLES)]
        parts.append(np.mean([kl.numpy() for kl, _ in samples], axis=0, dtype=np.float64))
        means.append([np.stack([m[i].numpy() for _, m in samples]) for i in range(len(samples[0][1]))])
    kl = np.concatenate(parts)
    rows = []
    for i in range(len(means[0])):
        active = active_units(np.concatenate([chunk[i] for chunk in means], axis=1))
        mean, error = mean_and_error(kl[:, i]) if kl.shape[1] else (None, None)
        row = {"split": split, "layer": i + 1, "kl": mean, "kl_standard_error": error}
        rows.append({**row, "active_units": int(active.sum()), "units": len(active), "images": len(examples[0])})
    return rows


def active_units(means: np.ndarray) -> np.ndarray:
    """Which units have a variance over x of `E[b | x]` above 0.01.

    Args:
        means: `[samples, images, units]`, `P(b = 1)` given samples of the layer below.

    Returns:
        `[units]` booleans. The variance is that of the averages over the samples, less what their own noise adds to
        it, the variance over samples divided by their number.
    """
    means = means.astype(np.float64)
    variance = means.mean(axis=0).var(axis=0)
    if len(means) > 1:
        variance -= means.var(axis=0, ddof=1).mean(axis=0) / len(means)
    return variance > ACTIVE


@tf.function(autograph=False, reduce_retracing=True)
def _one_sample(model: Any, data: tuple[Any, ...], step: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """KL terms `[batch, layers]`, no layers without a KL, and of each layer the units' means `[batch, units]`."""
    with HardSampler(step, stream=_STREAM, training=False) as trace:
        model.objective(*data)
    sites = list(trace)
    means = [tf.sigmoid(site.logits) for site in sites]
    if not isinstance(model, SigmoidBeliefNetwork):
        return tf.zeros([tf.shape(data[0])[0], 0]), means
    terms = []
    for i, site in enumerate(sites[:-1]):
        above = tf.cast(model.generator[i + 1](2.0 * sites[i + 1].sample - 1.0), tf.float32)
        terms.append(site.distribution.log_prob(site.sample) - Bernoulli(above).log_prob(site.sample))
    terms.append(bernoulli_kl(sites[-1].logits, model.prior_logits.value[tf.newaxis]))
    return tf.stack(terms, axis=1), means


def bernoulli_kl(q: tf.Tensor, p: tf.Tensor) -> tf.Tensor:
    """`KL(Bernoulli(sigmoid(q)) || Bernoulli(sigmoid(p)))` summed over the last axis, from logits."""
    return tf.reduce_sum(tf.sigmoid(q) * (q - p) - tf.nn.softplus(q) + tf.nn.softplus(p), axis=-1)
