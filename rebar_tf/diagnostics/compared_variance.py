"""How noisy the gradients of several methods are, as one metric."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import keras
import tensorflow as tf

from rebar_tf.training.metrics import LogGradientVariance, SavedMetric, run_if


class ComparedVariance(SavedMetric):
    """Log variance and signal-to-noise ratio of several methods' gradients, for the whole model and for each part.

    From each method's moving averages of `g` and `g^2` (`LogGradientVariance`: decay 0.999, from 0, not debiased), with
    sums over the entries of the model or of a part,

        variance = sum (average(g^2) - mean^2) / entries,      signal_to_noise = sqrt(signal / sum variance).

    Unbiased methods have the same expectation. Their `mean` is pooled, as in the paper's released code: the average of
    their averages of `g`. Its noise makes every variance smaller, by about the largest one over 2,000 times the number
    of methods squared. Their `signal` is the least of their `sum average(g)^2`: noise only adds to it, the more the
    noisier the method, and a ratio of 1/45 for the least noisy one is what noise alone would give. A biased method has
    its own average for a mean and for its signal. Variance and signal are averaged over the steps since the last reset.

    Args:
        methods: their names.
        pooled: for each method whether it is in the pool.
        parts: for each variable of the model the part that it belongs to.
        sizes: for each variable its number of entries.
    """

    def __init__(self, methods: list[str], pooled: list[bool], parts: list[str], sizes: list[int]):
        super().__init__(name="compared_variance")
        self.methods, self.pooled, self.parts, self.sizes = methods, pooled, parts, sizes
        shape = (len(methods), len(parts))
        self.variance = self.add_variable(shape, "zeros", name="variance")
        self.signal = self.add_variable(shape, "zeros", name="signal")
        self.loss = self.add_variable((), "zeros", name="loss")
        self.steps = self.add_variable((), "zeros", name="steps")
        self.count = self.add_variable((), "zeros", name="count")

    def update_state(self, loss: tf.Tensor, averages: list[LogGradientVariance]) -> None:
        """Takes in one step.

        Args:
            loss: scalar, the objective of the step.
            averages: of each method.
        """
        self.loss.assign_add(loss)
        self.steps.assign_add(1.0)
        run_if(averages[0].skipped.value == 0.0, lambda: self._take_in(averages))

    def _take_in(self, averages: list[LogGradientVariance]) -> None:
        self.count.assign_add(1.0)
        variances, signals = [], []
        for k in range(len(self.parts)):
            first = [average.first[k].value for average in averages]
            second = [average.second[k].value for average in averages]
            means = self._shared(first, lambda pool: tf.add_n(pool) / len(pool))
            variances.append([tf.reduce_sum(s - tf.square(mean)) for s, mean in zip(second, means, strict=True)])
            signals.append(self._shared([tf.reduce_sum(tf.square(mean)) for mean in first], tf.reduce_min))
        self.variance.assign_add(tf.transpose(tf.convert_to_tensor(variances)))
        self.signal.assign_add(tf.transpose(tf.convert_to_tensor(signals)))

    def _shared(self, values: list[tf.Tensor], pool: Callable[[list[tf.Tensor]], tf.Tensor]) -> list[tf.Tensor]:
        """For each method in the pool what `pool` makes of their values, for the others their own value."""
        pooled = [value for value, is_pooled in zip(values, self.pooled, strict=True) if is_pooled]
        shared = pool(pooled) if pooled else None
        return [shared if is_pooled else value for value, is_pooled in zip(values, self.pooled, strict=True)]

    def result(self) -> dict[str, tf.Tensor]:
        logs = {"loss": tf.math.divide_no_nan(self.loss.value, self.steps.value)}
        for part in (None, *dict.fromkeys(self.parts)):
            chosen = [k for k, name in enumerate(self.parts) if part in (None, name)]
            entries = float(sum(self.sizes[k] for k in chosen))
            variance, signal = (self._total(sums, chosen) for sums in (self.variance, self.signal))
            log_variance = tf.math.log(tf.math.divide_no_nan(variance / entries, self.count.value))
            ratio = tf.sqrt(tf.math.divide_no_nan(signal, variance))
            for i, method in enumerate(self.methods):
                logs[log_name("log_variance", method, part)] = log_variance[i]
                logs[log_name("signal_to_noise", method, part)] = ratio[i]
        return logs

    def _total(self, sums: keras.Variable, variables: Iterable[int]) -> tf.Tensor:
        return tf.add_n([sums.value[:, k] for k in variables])

    def reset_state(self) -> None:
        for variable in self.variables:
            variable.assign(tf.zeros_like(variable.value))


def log_name(quantity: str, method: str, part: str | None = None) -> str:
    """The name in the logs of a quantity of a method, of the whole model or of one part."""
    return "/".join([quantity, method] if part is None else [quantity, method, part])
