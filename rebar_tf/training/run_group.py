"""Several runs of one network in one program: all variables with the runs as their first axis.

A small network leaves an accelerator idle. Seeds and learning rates of one network take the same operations on other
numbers, so that one program computes them at once. Between two programs each run is a model like any other: it can be
saved, evaluated, and go on alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from rebar_tf.optimizers import Adam
from rebar_tf.sampling import SeedOfRun
from rebar_tf.training.functional import StochasticModel
from rebar_tf.training.gradients import MaybeTensor
from rebar_tf.training.metrics import moved
from rebar_tf.training.model import StochasticTraining
from rebar_tf.training.multi_step import Logs, MultiStepTraining, multi_step_function
from rebar_tf.training.step import estimate_step
from rebar_tf.training.variables import without

State = dict[str, list[Any]]  # by what it is for, variables of one run, or tensors `[runs, ...]`


class NotOneGroupError(ValueError):
    """Models, or data, that one program cannot train as runs."""


class RunGroup(MultiStepTraining, keras.Model):
    """Trains several models at once, each as it would train alone; `fit` takes batches `[runs, batch, ...]`.

    The models have one architecture and one estimator, and differ in seeds, learning rates and weights. Each step's
    estimates are vectorized over them (`tf.vectorized_map`). To float precision every model comes to what it would come
    to alone. A run that diverges leaves the others as they are. A group is only trained: its models are evaluated,
    saved, and hold the learning rates.

    Args:
        models: built and compiled with `rebar_tf.optimizers.Adam`, all after the same number of steps.

    Raises:
        ValueError: for models that differ in more, or have what no run of a group can have: another optimizer or a step
            of their own, metrics, several outputs, constraints, a state that passes update, such as moving statistics;
            and from `fit` for data that is no `tf.data.Dataset` of batches of one size.

    Example:
    >>> import numpy as np, tensorflow as tf, rebar_tf as rt
    >>> models = []
    >>> for seed, rate in ((0, 3e-4), (1, 3e-4), (0, 1e-3)):
    ...     models.append(rt.models.SigmoidBeliefNetwork(hidden_units=4, visible_units=6, seed=seed))
    ...     models[-1].compile(optimizer=rt.optimizers.Adam(rate), jit_compile=True)
    >>> group = rt.training.RunGroup(models)
    >>> batches = tf.data.Dataset.from_tensors(np.ones([3, 2, 6], "float32")).repeat()
    >>> history = group.fit(batches, steps_per_epoch=5, shuffle=False, verbose=0)
    >>> [int(model.estimator.step) for model in models]
    [5, 5, 5]
    """

    def __init__(self, models: Sequence[StochasticTraining], **kwargs: Any):
        super().__init__(**kwargs)
        for model in models:
            model.build_optimizer()
        check_group(models)
        self.models = list(models)
        self.built = True
        super().compile(optimizer=self.models[0].optimizer, jit_compile=True)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        raise NotOneGroupError("A group is compiled as its models are: compile them, and make a new group")

    def call(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("A group of runs is only trained, by `fit`: ask its `models` for all else")

    def train_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        return self.call()

    def fit(self, x: tf.data.Dataset, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """Keras's, on a dataset of batches `[runs, batch, ...]`, all of one size."""
        specs = tf.nest.flatten(x.element_spec) if isinstance(x, tf.data.Dataset) else []
        if not specs or not all(spec.shape.is_fully_defined() for spec in specs):
            raise NotOneGroupError(
                "`fit` of a group must be given a tf.data.Dataset whose batches all have one size, as those of "
                f"`batch(..., drop_remainder=True)`. Received: {x!r}"
            )
        if kwargs.get("validation_data") is not None:
            self.call()
        for callback in kwargs.get("callbacks") or []:
            if isinstance(callback, (keras.callbacks.LearningRateScheduler, keras.callbacks.ReduceLROnPlateau)):
                raise NotOneGroupError(
                    "The learning rates of a group are its models'. Received: a callback "
                    f"{type(callback).__name__}, which would set that of the group"
                )
        return super().fit(x, *args, **kwargs)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """Those of all models, which an epoch begins by resetting."""
        return [metric for model in self.models for metric in model.metrics]

    def runs_many_steps(self) -> bool:
        return True

    def make_train_function(self, force: bool = False) -> None:
        if self.train_function is None or force:
            self.train_function = multi_step_function(self.program, self.steps_per_execution)

    def program(self, batches: Any, count: tf.Tensor) -> Logs:
        """Takes the state of all models, steps, and gives it back."""
        self.check_batches(batches)
        states = [state_of(model) for model in self.models]
        state = tf.nest.map_structure(lambda *of_runs: tf.stack([v.value for v in of_runs]), *states)
        constants = [
            tf.stack([v.value for v in of_runs]) for of_runs in zip(*map(constants_of, self.models), strict=True)
        ]
        rates = tf.stack([model.optimizer.learning_rate.value for model in self.models])

        def one_step(i: tf.Tensor, state: State) -> tuple[tf.Tensor, State]:
            batch = tf.nest.map_structure(lambda part: part[i], batches)
            return i + 1, self.step(state, constants, rates, batch)

        _, state = tf.while_loop(lambda i, _: i < count, one_step, [tf.constant(0), state])
        for run, variables in enumerate(states):
            tf.nest.map_structure(lambda variable, values, run=run: variable.assign(values[run]), variables, state)
        return self.get_metrics_result()

    def check_batches(self, batches: Any) -> None:
        """Raises `NotOneGroupError` unless stacked batches have a second axis of runs."""
        for part in tf.nest.flatten(batches):
            if part.shape.rank < 3 or part.shape[1] != len(self.models):
                raise NotOneGroupError(
                    f"`fit` must be given batches `[{len(self.models)} runs, batch, ...]`. "
                    f"Received: batches of shape {tuple(part.shape[1:])}"
                )

    def step(self, state: State, constants: list[tf.Tensor], rates: tf.Tensor, batch: Any) -> State:
        """The state after one step of every run."""
        places = tf.range(len(self.models))
        arguments = (places, state["weights"], constants, state["steps"], batch)
        loss, gradients, model_gradients = self.vectorized(arguments)
        size = tf.cast(tf.shape(tf.nest.flatten(batch)[0])[1], tf.float32)
        means = [state["loss"][0] + loss * size, state["loss"][1] + size]
        return {
            **updated_weights(self.models[0].optimizer, state, rates, gradients),
            **self.updated_averages(state, model_gradients),
            "steps": [steps + 1 for steps in state["steps"]],
            "loss": means,
        }

    def vectorized(self, arguments: tuple) -> tuple[tf.Tensor, list[MaybeTensor], list[MaybeTensor]]:
        """Loss and gradients of all runs, each with the runs as first axis; None where there is no gradient."""
        present: list[bool] = []
        updated: list[str] = []

        def of_run(arguments: tuple) -> list[tf.Tensor]:
            found, updated[:] = self.estimate(*arguments)
            present[:] = [tensor is not None for tensor in found]
            return [tensor for tensor in found if tensor is not None]

        try:
            tensors = iter(tf.vectorized_map(of_run, arguments, fallback_to_while_loop=False))
        except Exception as error:
            if updated or not present:  # of the estimate itself
                _check_no_updates(updated)
                raise
            raise NotOneGroupError(
                f"Estimator {self.models[0].estimator.estimator_name!r} cannot be trained in one program with other "
                f"runs, as TensorFlow cannot vectorize it: {_reason(error)}. Train the models one by one."
            ) from error
        _check_no_updates(updated)
        loss, *gradients = [next(tensors) if there else None for there in present]
        count = len(self.models[0].trainable_variables)
        return loss, gradients[:count], gradients[count:]

    def estimate(
        self, run: tf.Tensor, weights: list[tf.Tensor], constants: list[tf.Tensor], steps: list[tf.Tensor], batch: Any
    ) -> tuple[list[MaybeTensor], list[str]]:
        """The loss of one run, its gradients, and those of its model variables; and the paths of what passes update."""
        template = self.models[0]
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        fixed = constants_of(template)
        read = zip([*template.trainable_variables, *fixed], [*weights, *constants], strict=True)
        with keras.StatelessScope(list(read)) as scope, self.seeds_of(run):
            estimate = estimate_step(template, x, y, sample_weight, steps[1] + 1)
        pairs = zip(fixed, constants, strict=True)
        updated = [v.path for v, constant in pairs if scope.get_current_value(v) is not constant]
        values = [gradient and gradient.value for gradient in estimate.model_gradients]
        return [estimate.loss, *estimate.gradients, *values], updated

    @contextlib.contextmanager
    def seeds_of(self, run: tf.Tensor) -> Iterator[None]:
        """A block in which the first model's layers have the seeds of a run."""
        layers = list(zip(*(model.stochastic_layers for model in self.models), strict=True))
        seeds = [[layer.seed for layer in of_runs] for of_runs in layers]
        for (layer, *_), of_runs in zip(layers, seeds, strict=True):
            layer.seed = SeedOfRun(tuple(of_runs), run)
        try:
            yield
        finally:
            for (layer, *_), (own, *_) in zip(layers, seeds, strict=True):
                layer.seed = own

    def updated_averages(self, state: State, gradients: list[MaybeTensor]) -> State:
        """The averages of `LogGradientVariance`, after a step; see there."""
        metric = self.models[0].gradient_variance
        total, count, skipped = state["variance"]
        steps = skipped + 1.0
        due = tf.logical_or(steps >= metric.every, count == 0.0)[0]  # of all runs, as they are at the same step
        size = sum(variable.value.shape.num_elements() for variable in metric.first)

        def take_in(_: tf.Tensor, state: State) -> tuple[tf.Tensor, State]:
            weight, variance = metric.weight(steps), 0.0
            first, second = list(state["first"]), list(state["second"])
            for i, gradient in enumerate(gradients):
                if gradient is not None:
                    first[i], second[i] = moved(first[i], second[i], gradient, along(weight, gradient))
                    variance += tf.reduce_sum(second[i] - tf.square(first[i]), axis=range(1, gradient.shape.rank))
            taken = [total + variance / size, count + 1.0, tf.zeros_like(steps)]
            return tf.constant(False), {"first": first, "second": second, "variance": taken}

        averages = {"first": state["first"], "second": state["second"], "variance": [total, count, steps]}
        return tf.while_loop(lambda due, _: due, take_in, [due, averages])[1]

    def get_metrics_result(self) -> Logs:
        """The loss, the mean over the runs."""
        total, count = (
            tf.add_n([v.value for v in of_runs]) for of_runs in zip(*map(loss_of, self.models), strict=True)
        )
        return {"loss": tf.math.divide_no_nan(total, count)}


def _check_no_updates(paths: list[str]) -> None:
    if paths:
        raise NotOneGroupError(f"Runs of a group have no state that a pass updates. Received: {', '.join(paths)}")


def _reason(error: Exception) -> str:
    """What happened, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if not line.startswith("in user code")), type(error).__name__)


def state_of(model: StochasticTraining) -> State:
    """The variables of a run that training moves."""
    optimizer, variance = model.optimizer, model.gradient_variance
    return {
        "weights": list(model.trainable_variables),
        "momentums": list(optimizer._momentums),
        "velocities": list(optimizer._velocities),
        "first": [first for first, trained in zip(variance.first, _trained(model), strict=True) if trained],
        "second": [second for second, trained in zip(variance.second, _trained(model), strict=True) if trained],
        "variance": [variance.total, variance.count, variance.skipped],
        "steps": [optimizer.iterations, model.estimator.step],
        "loss": loss_of(model),
    }


def _trained(model: StochasticTraining) -> list[bool]:
    """Of the variables that scales and averages exist for, whether they are trained."""
    return [variable.trainable for variable in model.all_model_variables]


def constants_of(model: StochasticTraining) -> list[keras.Variable]:
    """The variables of a run that steps only read: frozen weights, data means, a temperature that is not trained."""
    counters = [model.estimator.step, model.estimator.evaluation_step]
    return [*model.state_variables, *without(model.estimator.non_trainable_variables, counters)]


def loss_of(model: StochasticTraining) -> list[keras.Variable]:
    """Sum and count of the mean of the loss."""
    return list(model._loss_tracker.variables)


def updated_weights(optimizer: Adam, state: State, rates: tf.Tensor, gradients: list[MaybeTensor]) -> State:
    """Weights and Adam's moments after a step with these gradients."""
    step = tf.cast(state["steps"][0] + 1, tf.float32)
    weights, momentums, velocities = [], [], []
    moments = zip(state["weights"], state["momentums"], state["velocities"], gradients, optimizer._factors, strict=True)
    for weight, first, second, gradient, factor in moments:
        if gradient is not None:
            rate = optimizer.corrected(rates if factor == 1.0 else rates * factor, step)
            first, second = optimizer.new_moments(gradient, first, second)
            weight -= optimizer.change(along(rate, weight), first, second)
        weights.append(weight)
        momentums.append(first)
        velocities.append(second)
    return {"weights": weights, "momentums": momentums, "velocities": velocities}


def along(of_runs: tf.Tensor, tensor: tf.Tensor) -> tf.Tensor:
    """`[runs]` in a shape that goes with `[runs, ...]`."""
    return tf.reshape(of_runs, [-1] + [1] * (tensor.shape.rank - 1))


def check_group(models: Sequence[StochasticTraining]) -> None:
    """Raises `NotOneGroupError` unless the models can be runs of one group."""
    if not models:
        raise NotOneGroupError("`models` must be one model or more. Received: none")
    for many in (models, [model.optimizer for model in models]):
        if len({id(one) for one in many}) < len(models):
            raise NotOneGroupError(f"`models` must be different models, with an optimizer each. Received: {list(many)}")
    for model in models:
        _check_can_be_a_run(model)
    first, *rest = map(_described, models)
    for name, value in first.items():
        for other in rest:
            if other[name] != value:
                raise NotOneGroupError(f"`models` must have the same {name}. Received: {value} and {other[name]}")


_ADAM = ("name", "learning_rate", "beta_1", "beta_2", "epsilon", "groups")  # what `updated_weights` goes by
_OWN_STEPS = ("train_step", "apply_gradients", "update_gradient_variance", "update_metrics", "compute_metrics")


def _check_can_be_a_run(model: StochasticTraining) -> None:
    optimizer = model.optimizer
    others = {name: value for name, value in optimizer.get_config().items() if name not in _ADAM}
    plain = Adam().get_config()
    if type(optimizer) is not Adam or others != {name: plain[name] for name in others}:
        raise NotOneGroupError(
            "`models` must be compiled with rebar_tf.optimizers.Adam, without clipping, decay or averages. "
            f"Received: {type(optimizer).__name__} with {others}"
        )
    if not isinstance(optimizer._learning_rate, keras.Variable):
        raise NotOneGroupError("`models` must have numbers for learning rates. Received: a schedule")
    if list(map(id, optimizer._trainable_variables)) != list(map(id, model.trainable_variables)):
        raise NotOneGroupError("`models` must be compiled after their layers were frozen or thawed. Received: others")
    changed = [name for name in _OWN_STEPS if getattr(type(model), name) is not getattr(StochasticModel, name)]
    if changed:
        raise NotOneGroupError(f"`models` must take the steps of StochasticModel. Received: {changed} of their own")
    if len(model.metrics) != 2 or len(keras.tree.flatten(getattr(model, "outputs", None))) > 1:
        names = ", ".join(metric.name for metric in model.metrics)  # the loss and the gradient's variance
        raise NotOneGroupError(f"`models` must be compiled without metrics, and have one output. Received: {names}")
    for variable in model.trainable_variables:
        if variable.constraint is not None or keras.backend.standardize_dtype(variable.dtype) != "float32":
            raise NotOneGroupError(
                f"`models` must have float32 variables without constraints. Received: {variable.path}, "
                f"{variable.dtype}, constraint={variable.constraint}"
            )


def _described(model: StochasticTraining) -> dict[str, Any]:
    """What the runs of a group have in common."""
    options, variance = model.optimizer.get_config(), model.gradient_variance
    return {
        "class": type(model),
        "shapes": tf.nest.map_structure(lambda variable: tuple(variable.shape), state_of(model)),
        "frozen variables": [not trained for trained in _trained(model)],
        "estimator": [layer.estimator_config for layer in model.stochastic_layers],
        "configuration": _configuration(model),
        "loss": _losses(model),
        "optimizer": {name: value for name, value in options.items() if name not in ("learning_rate", "name")},
        "factors of the learning rate": model.optimizer._factors,
        "averages of the gradient": (variance.decay, variance.every),
        "number of steps": int(model.optimizer.iterations.numpy()),
    }


def _configuration(model: StochasticTraining) -> Any:
    """The configuration, without seeds, and with places for names, which Keras numbers."""
    try:
        config = model.get_config()
    except NotImplementedError as error:
        raise NotOneGroupError(f"`models` must have a `get_config`, to be compared. Received: {error}") from error
    names = {layer.name: i for i, layer in enumerate(model._flatten_layers())}

    def plain(part: Any) -> Any:
        if isinstance(part, dict):
            return {key: plain(value) for key, value in part.items() if key not in ("seed", "shared_object_id")}
        if isinstance(part, (list, tuple)):
            return [plain(value) for value in part]
        return names.get(part, part) if isinstance(part, str) else part

    return plain(config)


def _losses(model: StochasticTraining) -> Any:
    """The compiled losses and their weights: functions are the same if they are one, others by what they are."""
    compiled = model._compile_loss
    if compiled is None:
        return None

    def described(loss: Any) -> Any:
        return (type(loss), loss.get_config()) if isinstance(loss, keras.losses.Loss) else loss

    return keras.tree.map_structure(described, compiled._user_loss), compiled._user_loss_weights
