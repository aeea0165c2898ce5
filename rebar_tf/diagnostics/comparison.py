"""Several estimators along one trajectory: how noisy is each one's gradient at the same parameters?"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rebar_tf.diagnostics.compared_variance import ComparedVariance
from rebar_tf.training import MultiStepTraining, StochasticTraining
from rebar_tf.training.multi_step import leaves_its_logs
from rebar_tf.training.step import estimate_step
from rebar_tf.training.variables import part_of, without


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
    >>> comparison = rt.diagnostics.EstimatorComparison(models, follow="simple_muprop")
    >>> comparison.compile(optimizer=rt.optimizers.Adam(3e-4))
    >>> logs = comparison.fit(np.zeros([32, 16]), batch_size=8, verbose=0).history
    >>> sorted(name for name in logs if name.endswith("/rebar"))
    ['log_variance/rebar', 'signal_to_noise/rebar', 'temperature/rebar']

    Reference: Tucker et al. 2017, figures App.1 and App.3.
    """

    def __init__(self, models: dict[str, StochasticTraining], follow: str, **kwargs: Any):
        super().__init__(**kwargs)
        if follow not in models:
            raise ValueError(f"`follow` must be one of {', '.join(models)}. Received: follow={follow!r}")
        shapes = {name: [variable.shape for variable in shared_variables(model)] for name, model in models.items()}
        for name in models:
            if shapes[name] != shapes[follow]:
                raise ValueError(
                    f"`models` must all have variables of the shapes that those of the followed one have, "
                    f"{shapes[follow]}. Received: {name!r} with shapes {shapes[name]}"
                )
        self.models, self.follow = dict(models), follow
        self.compared_variance = ComparedVariance(
            methods=list(models),
            pooled=[m.estimator.unbiased and m.estimator.objective == "expectation" for m in models.values()],
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
        """The scope in which `model` computes with the parameters and state of the followed one, and changes neither.

        The models then read one tensor, so that XLA does once what their passes have in common.
        """
        pairs = zip(shared_variables(model), shared_variables(self.followed), strict=True)
        return keras.StatelessScope([(own, followed.value) for own, followed in pairs])

    @leaves_its_logs
    def train_step(self, data: Any) -> dict[str, Any]:
        """One step of every method."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        estimates, step = {}, self.followed.estimator.step.value + 1
        for model in self.models.values():
            model.estimator.step.value.assign(step)
        for name, model in self.models.items():
            if model is not self.followed:
                with self.at_followed_parameters(model):
                    estimates[name] = estimate_step(model, x, y, sample_weight, step)
        # Last, as it updates the state that the others read.
        estimates[self.follow] = followed = estimate_step(self.followed, x, y, sample_weight, step)
        others = [estimate.control_gradients for name, estimate in estimates.items() if name != self.follow]
        gradients = [*followed.gradients, *(gradient for control in others for gradient in control)]
        # A loss-scaling optimizer divides by its scale: hand it what it expects.
        scaled = [None if gradient is None else self.optimizer.scale_loss(gradient) for gradient in gradients]
        with self.updates_after_passes(estimates.values()):
            self.optimizer.apply_gradients(zip(scaled, self.trainable_variables, strict=True))
        for name, model in self.models.items():
            model.update_gradient_variance(estimates[name].model_gradients, computed_anew=model is not self.followed)
        averages = [model.gradient_variance for model in self.models.values()]
        self.compared_variance.update_state(followed.loss, averages)
        return self.get_metrics_result()

    def runs_many_steps(self) -> bool:
        """Always: the end of a program is where the models come to the same parameters."""
        return True

    def read_logs(self) -> dict[str, tf.Tensor]:
        for model in self.models.values():
            for own, followed in zip(shared_variables(model), shared_variables(self.followed), strict=True):
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
        """`[examples]` multi-sample bound of the followed model in nats; see `rebar_tf.training.multi_sample_bound`."""
        return self.followed.bound(x, y, num_samples, seed)

    def get_config(self) -> dict[str, Any]:
        models = {name: keras.saving.serialize_keras_object(model) for name, model in self.models.items()}
        return {"name": self.name, "models": models, "follow": self.follow}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> EstimatorComparison:
        models = {name: keras.saving.deserialize_keras_object(model) for name, model in config["models"].items()}
        return cls(**{**config, "models": models})


def shared_variables(model: StochasticTraining) -> list[keras.Variable]:
    """All that a pass of a model computes with, but for what its estimator has: its parameters and its state."""
    sampling = [variable for layer in model.stochastic_layers for variable in layer.variables]
    return [*model.model_variables, *without(model.state_variables, sampling)]
