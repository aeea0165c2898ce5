"""Several estimators along one trajectory: how noisy is each one's gradient at the same parameters?"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rebar_tf.metrics import LogGradientVariance, SavedMetric, run_if
from rebar_tf.models.multi_step import MultiStepTraining
from rebar_tf.models.training import StochasticTraining


@keras.saving.register_keras_serializable("rebar_tf")
class EstimatorComparison(MultiStepTraining, keras.Model):
    """Trains one model by the gradient of one estimator, and measures those of others at the same parameters.

    At each step every method estimates the gradient of the same batch, at the parameters of the followed method and
    with the same noise: all draw from the same seed and step. The followed gradient moves the parameters; each method's
    own objective moves its own temperature, scales and baseline. For the followed method that is plain training.

    The reports have, for each method and over the steps since the last report, `log_variance/METHOD`,
    `signal_to_noise/METHOD`, and both for each part of the model, `log_variance/METHOD/PART`; see `ComparedVariance`.
    A part is what the first component of its variables' paths names: a segment of a belief network, its prior.

    Args:
        models: from the name of a method to its model. All are built, have the same variables and seeds, and differ in
            their estimators. Between two executions they have the parameters of the followed one, too.
        follow: the method whose gradient the parameters follow.

    Raises:
        ValueError: for a `follow` that is not among the models, or models whose variables differ in shape.

    Example:
    >>> import numpy as np, rebar_tf as rt
    >>> models = {
    ...     name: rt.models.SigmoidBeliefNetwork(hidden_units=8, visible_units=16, estimator=name, seed=0)
    ...     for name in ("simple_muprop", "rebar")
    ... }
    >>> comparison = rt.models.EstimatorComparison(models, follow="simple_muprop")
    >>> comparison.compile(optimizer=rt.optimizers.Adam(3e-4))
    >>> logs = comparison.fit(np.zeros([32, 16]), batch_size=8, verbose=0).history
    >>> sorted(name for name in logs if name.endswith("/rebar"))
    ['log_variance/rebar', 'signal_to_noise/rebar', 'temperature/rebar']

    Reference: Tucker et al. 2017, figures App.1 and App.3.
    """

    def __init__(self, models: dict[str, StochasticTraining], follow: str, **kwargs):
        super().__init__(**kwargs)
        if follow not in models:
            raise ValueError(f"`follow` must be one of {', '.join(models)}. Received: follow={follow!r}")
        shapes = {name: [variable.shape for variable in model.model_variables] for name, model in models.items()}
        for name in models:
            if shapes[name] != shapes[follow]:
                raise ValueError(
                    f"`models` must all have variables of the shapes that those of the followed one have, "
                    f"{shapes[follow]}. Received: {name!r} with shapes {shapes[name]}"
                )
        self.models, self.follow = dict(models), follow
        self.compared_variance = ComparedVariance(
            methods=list(models),
            pooled=[model.estimator.unbiased for model in models.values()],
            parts=[part_of(variable, self.followed) for variable in self.followed.model_variables],
            sizes=[variable.value.shape.num_elements() for variable in self.followed.model_variables],
        )
        self.built = True

    @property
    def followed(self) -> StochasticTraining:
        """The model whose gradient the parameters follow."""
        return self.models[self.follow]

    @property
    def trainable_variables(self) -> list[keras.Variable]:
        """The variables of the followed model, and the control variables of the others."""
        others = [model for model in self.models.values() if model is not self.followed]
        return [
            *self.followed.trainable_variables,
            *(variable for model in others for variable in model.control_variables),
        ]

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """Keras's, and every method's averages: a report begins with a gradient that they take in."""
        return [*super().metrics, *(model.gradient_variance for model in self.models.values())]

    @property
    def parts(self) -> list[str]:
        """The names of the model's parts."""
        return list(dict.fromkeys(self.compared_variance.parts))

    def at_followed_parameters(self, model: StochasticTraining) -> keras.StatelessScope:
        """The scope in which `model` computes with the parameters of the followed one.

        The models then read one tensor, so that XLA does once what their passes have in common.
        """
        pairs = zip(model.model_variables, self.followed.model_variables, strict=True)
        return keras.StatelessScope([(own, followed.value) for own, followed in pairs])

    def train_step(self, data: Any) -> dict[str, Any]:
        """One step of every method."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        by_id = {}
        for model in self.models.values():
            with self.at_followed_parameters(model):
                loss, gradients = model.estimate_gradients(x, y, sample_weight)
            by_id |= {id(variable): g for variable, g in zip(model.trainable_variables, gradients, strict=True)}
            if model is self.followed:
                followed_loss = loss
        scaled = [(self._scaled(by_id[id(variable)]), variable) for variable in self.trainable_variables]
        self.optimizer.apply_gradients(scaled)
        for model in self.models.values():
            model.gradient_variance.update_state([by_id[id(variable)] for variable in model.model_variables])
        averages = [model.gradient_variance for model in self.models.values()]
        self.compared_variance.update_state(followed_loss, averages)
        return self.get_metrics_result()

    def _scaled(self, gradient: tf.Tensor | None) -> tf.Tensor | None:
        """What a loss-scaling optimizer expects, as it divides by its scale."""
        return None if gradient is None else self.optimizer.scale_loss(gradient)

    def runs_many_steps(self) -> bool:
        """Always: the end of a program is where the models come to the same parameters."""
        return True

    def read_logs(self) -> dict[str, tf.Tensor]:
        for model in self.models.values():
            for own, followed in zip(model.model_variables, self.followed.model_variables, strict=True):
                own.assign(followed.value)
        return self.get_metrics_result()

    def get_metrics_result(self) -> dict[str, tf.Tensor]:
        """The report of the steps since the last reset."""
        diagnostics = {
            f"{name}/{method}": value
            for method, model in self.models.items()
            for name, value in model.estimator.diagnostics().items()
        }
        return {**self.compared_variance.result(), **diagnostics}

    def bound(self, x: Any, y: Any = None, num_samples: int = 100, seed: int = 0) -> np.ndarray:
        """`[examples]` multi-sample bound of the followed model in nats; see `rebar_tf.bounds.multi_sample_bound`."""
        return self.followed.bound(x, y, num_samples, seed)

    def get_config(self) -> dict[str, Any]:
        models = {name: keras.saving.serialize_keras_object(model) for name, model in self.models.items()}
        return {"name": self.name, "models": models, "follow": self.follow}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> EstimatorComparison:
        models = {name: keras.saving.deserialize_keras_object(model) for name, model in config["models"].items()}
        return cls(**{**config, "models": models})


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


def part_of(variable: keras.Variable, model: keras.Model) -> str:
    """The part of the model that a variable belongs to: its layer in the model, or itself where it has none."""
    names = variable.path.split("/")
    return names[1] if names[0] == model.name and len(names) > 1 else names[0]
