"""Training of models with stochastic layers: the estimator, and Keras's `fit` around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.src.losses.loss import unscale_loss_for_distribution

from rebar_tf.estimators import ControlSpec, names
from rebar_tf.sampling import HardSampler, current
from rebar_tf.training.bounds import multi_sample_bound
from rebar_tf.training.gradients import Gradient, MaybeTensor
from rebar_tf.training.metrics import LogGradientVariance, run_if
from rebar_tf.training.multi_step import leaves_its_logs
from rebar_tf.training.objective import BatchObjective
from rebar_tf.training.step import all_finite, estimate_step, optimizer_scale
from rebar_tf.training.variables import ModelVariables, without

_EVALUATION_STREAM = 1  # evaluation draws other numbers than training, which draws from stream 0


class StochasticTraining(ModelVariables):
    """Gives a Keras model the training of its stochastic layers: derive from this and from `keras.Model`.

    The estimator is the one that the model's stochastic layers name; it lives at `model.estimator`, and its trainable
    variables are the model's *control variables*. `fit`, `evaluate`, `predict`, callbacks and saving are Keras's.

    A subclass whose objective is not its compiled loss overrides `objective`; one whose baseline should see something
    else than the flattened inputs overrides `baseline_context`.

    Example:
    >>> import keras, rebar_tf as rt
    >>> class Autoencoder(rt.training.StochasticTraining, keras.Model):
    ...     def __init__(self, **kwargs):
    ...         super().__init__(**kwargs)
    ...         self.encoder = keras.layers.Dense(200)
    ...         self.units = rt.layers.StochasticBinary()
    ...         self.decoder = keras.layers.Dense(784)
    ...     def call(self, x, training=None):
    ...         return self.decoder(self.units(self.encoder(x), training=training))
    """

    def baseline_context(self, x: Any, y: Any = None) -> tf.Tensor | None:
        """`[batch, size]` float32, what input-dependent baselines see: the inputs that are numbers, flattened.

        None where none are; there then is no baseline.
        """
        flat = [flattened(part) for part in keras.tree.flatten(x) if is_of_numbers(part)]
        return tf.concat(flat, axis=-1) if len(flat) > 1 else flat[0] if flat else None

    def build_estimator(self, context_size: int | None, seed: int | None = None) -> None:
        """Creates the estimator that the stochastic layers name, with its variables; all state exists from then on.

        Args:
            context_size: length of one example's `baseline_context`; None for no baseline.
            seed: integer for the estimator's initial weights; None draws one.

        Raises:
            ValueError: if the model has no stochastic layer, or its layers name different estimators.
        """
        layers = self.stochastic_layers
        scored = [layer for layer in layers if layer.local is None]
        local = [layer.local for layer in layers if layer.local is not None]
        if not layers:
            raise ValueError(
                f"Model {self.name!r} has no stochastic layer. Add one, such as rebar_tf.layers.StochasticBinary, or "
                "use keras.Model."
            )
        if any(layer.estimator_config != scored[0].estimator_config for layer in scored):
            found = ", ".join(f"{layer.name}: {layer.make_estimator().estimator_name}" for layer in layers)
            raise ValueError(
                "All stochastic layers of a model must name the same estimator with the same options, but for those "
                f"with a local one ({', '.join(names(local=True))}). Received: {found}"
            )
        variables = self.all_model_variables
        estimator = scored[0].make_estimator() if scored else max(local, key=lambda each: each.relaxes)
        estimator.build_control(
            ControlSpec(
                variable_shapes=tuple(tuple(variable.shape) for variable in variables),
                layer_shapes=tuple(layer.sample_shape for layer in scored),
                families=tuple(layer.family for layer in scored),
                layer_names=tuple(layer.name for layer in scored),
                context_size=context_size,
                seed=seed,
            )
        )
        for i, layer in enumerate([*scored, *without(layers, scored)]):
            layer.index = i
        gradient_variance = LogGradientVariance()
        gradient_variance.build_moments(variables)
        locked = self._tracker.locked  # Keras closes a built model to new state
        self._tracker.unlock()
        self.estimator, self.gradient_variance, self.context_size = estimator, gradient_variance, context_size
        if locked:
            self._tracker.lock()

    def _build_from(self, x: Any) -> None:
        """Builds the model and its estimator at the first batch, for a subclassed model that was not built before."""
        if self.estimator is not None:
            return
        with tf.init_scope():
            example = one_of_zeros(x)
            if not self.built:
                self(example)
            context = self.baseline_context(example)
            self.build_estimator(None if context is None else context.shape[-1])

    def _check_variables(self) -> None:
        """ValueError if layers have got other variables since the estimator was built, as by `enable_lora`."""
        now = [(variable.path, tuple(variable.shape)) for variable in self.all_model_variables]
        before = [tuple(moment.shape) for moment in self.gradient_variance.first]
        if [shape for _, shape in now] != before:
            raise ValueError(
                f"Layers of model {self.name!r} have other variables than when it was made, for which there are no "
                "scales and moments: change layers first, and make a new model of them, as in "
                f"`rt.StochasticModel(model.inputs, model.outputs)`. Received: {len(now)} variables where there were "
                f"{len(before)}: {', '.join(path for path, _ in now)}"
            )

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        # Keras takes the mean of what the replicas get, which there is none of for boolean inputs.
        if self._distribute_strategy is not None and iterator is not None:
            _, _, batches = next(iter(iterator))
            data_batch = keras.tree.map_structure(self._of_one_replica, next(batches))
            iterator = None
        super()._maybe_symbolic_build(iterator, data_batch)

    def _of_one_replica(self, value: Any) -> Any:
        return self.distribute_strategy.experimental_local_results(value)[0]

    def _symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        # Keras calls this before the first batch where there is a distribution strategy, and builds the optimizer here.
        if data_batch is None:
            super()._symbolic_build(iterator, data_batch)
            return
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data_batch)
        self._build_from(x)
        super()._symbolic_build(iterator, data_batch)
        if self._compile_loss is not None or self.has_own_objective:
            self.mixes_examples(x, y)  # for replicas to look up

    def has_all_variables(self) -> bool:
        return self.estimator is not None

    def get_build_config(self) -> dict[str, Any] | None:
        """Keras's, with what the estimator was built for: a model without a graph is loaded with its state."""
        config = super().get_build_config()
        if config is None or self.estimator is None:
            return config
        return {**config, "context_size": self.context_size, "coupled_batch": self.coupled_batch}

    def build_from_config(self, config: dict[str, Any]) -> None:
        config = dict(config)
        context_size, coupled_batch = config.pop("context_size", None), config.pop("coupled_batch", None)
        if coupled_batch is not None:
            self.coupled_batch = coupled_batch
        super().build_from_config(config)
        if self.estimator is None and all(layer.built for layer in self.stochastic_layers):
            self.build_estimator(context_size)

    def estimate_gradients(
        self, x: Any, y: Any = None, sample_weight: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, list[tf.Tensor | None]]:
        """One estimate of the gradient of the expected objective, at fresh samples.

        For model variables `g_k = f_k + eta_k h_k`: the plain estimate and the control variate, each a vector-Jacobian
        product of the layer's cotangents. For control variables the gradient of what trains them: the variance
        objective `mean g^2`, or the baseline's squared error.

        Args:
            x: a batch of inputs.
            y: a batch of targets.
            sample_weight: `[batch]`, a weight for each example.

        Returns:
            `(loss, gradients)`: the objective's batch mean at hard samples, float32 scalar; and one gradient for each
            of `model.trainable_variables`, in that order, None where the objective does not depend on the variable.

        Raises:
            ValueError: if the objective is not `[batch]`, or has no derivative that the estimator needs.

        Example:
        >>> import keras, numpy as np, rebar_tf as rt
        >>> x = keras.Input((4,))
        >>> b = rt.layers.StochasticBinary(estimator="rebar")(keras.layers.Dense(3)(x))
        >>> model = rt.StochasticModel(x, keras.layers.Dense(4)(b))
        >>> model.compile(optimizer=rt.optimizers.Adam(3e-4), loss="mse")
        >>> loss, gradients = model.estimate_gradients(np.ones([2, 4]), np.ones([2, 4]))
        >>> len(gradients) == len(model.trainable_variables)
        True
        """
        self._build_from(x)
        self._check_variables()
        estimate = estimate_step(self, x, y, sample_weight)
        return estimate.loss, estimate.gradients

    def apply_gradients(self, gradients: list[tf.Tensor | None]) -> None:
        """One step of the optimizer along the gradients of `estimate_gradients`.

        A loss-scaling optimizer skips it on all replicas where a gradient overflowed on one.
        """
        if not self.trainable_variables:
            return
        # It divides by its scale: hand it what it expects.
        scaled = [g if g is None else self.optimizer.scale_loss(g) for g in gradients]
        if optimizer_scale(self) is not None:
            # It looks at its own replica's gradients, before they are added up.
            finite = all_finite(over_replicas(gradients))
            scaled = [g if g is None else tf.where(finite, g, np.nan) for g in scaled]
        self.optimizer.apply_gradients(zip(scaled, self.trainable_variables, strict=True))

    @leaves_its_logs
    def train_step(self, data: Any) -> dict[str, Any]:
        """One step of `fit`."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        self._build_from(x)
        self._check_variables()
        estimate = estimate_step(self, x, y, sample_weight)
        with self.updates_after_passes([estimate]):
            self.apply_gradients(estimate.gradients)
        self.update_gradient_variance(estimate.model_gradients, control_gradients=estimate.control_gradients)
        logs = self.update_metrics(estimate.loss, x, y, estimate.y_pred, sample_weight)
        return {**logs, **self.watched_scalars()}

    def update_gradient_variance(
        self,
        gradients: list[Gradient | None],
        computed_anew: bool = False,
        control_gradients: Sequence[MaybeTensor] = (),
    ) -> None:
        """Takes one step's gradients, aligned with `model_variables`, into the moments; a frozen variable's is 0.

        Of what the replicas of a distribution strategy estimate together. Not of a step that a loss-scaling optimizer
        skips, as a gradient overflowed.

        Args:
            gradients: of the step.
            computed_anew: whether nothing else needs them, so that they are best computed where the moments need them.
            control_gradients: of the control variables, which may overflow too.
        """
        values = over_replicas([gradient and gradient.value for gradient in gradients])
        taken_in = [g and g.computed_anew for g in gradients] if computed_anew else values
        found = iter(taken_in)
        aligned = [next(found) if variable.trainable else None for variable in self.all_model_variables]
        if optimizer_scale(self) is None:
            self.gradient_variance.update_state(aligned)
            return
        finite = all_finite([*values, *over_replicas(list(control_gradients))])
        run_if(finite, lambda: self.gradient_variance.update_state(aligned))
        self.gradient_variance.overflows.assign_add(1.0 - tf.cast(finite, tf.float32))

    @leaves_its_logs
    def test_step(self, data: Any) -> dict[str, Any]:
        """One step of `evaluate`: the objective at hard samples, drawn from a stream of its own."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        self._build_from(x)
        step = self.estimator.evaluation_step.value.assign_add(1)
        with HardSampler(step, stream=_EVALUATION_STREAM, training=False):
            if self.has_own_objective:
                objective = BatchObjective(self, x, y, sample_weight)
                objective.of_pass(whole=False)  # which is the same mean
                objective.assign_counts()
                loss, y_pred = objective.keras_loss(), objective.y_pred
            else:
                y_pred = self(x, training=False)
                loss = self._compute_loss(x, y, y_pred, sample_weight, training=False)
                loss = unscale_loss_for_distribution(loss)
        logs = self.update_metrics(loss, x, y, y_pred, sample_weight)
        logs.pop(self.gradient_variance.name, None)
        return logs

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        """Keras's `predict`; ValueError under a sampler, of which a function that is compiled takes no notice."""
        self._see_sampler()
        return super().predict(*args, **kwargs)

    def predict_on_batch(self, x: Any) -> Any:
        """Keras's `predict_on_batch`, with the error of `predict`."""
        self._see_sampler()
        return super().predict_on_batch(x)

    def _see_sampler(self) -> None:
        if current() is None:
            return
        if not self.run_eagerly:
            raise ValueError(
                "`predict` is a compiled function, and takes no notice of the sampler around it. Call the model "
                "itself: `with HardSampler(step, training=False): y = model(x)`."
            )
        self.make_predict_function(force=True)  # Keras keeps one that was compiled before

    def bound(self, x: Any, y: Any = None, num_samples: int = 100, seed: int = 0) -> np.ndarray:
        """`[examples]` multi-sample bound in nats; see `rebar_tf.training.multi_sample_bound`."""
        return multi_sample_bound(self, x, y, num_samples, seed)


def over_replicas(tensors: list[MaybeTensor]) -> list[MaybeTensor]:
    """The means over the replicas of a distribution strategy, in which None stays None."""
    replica = tf.distribute.get_replica_context()
    present = [tensor for tensor in tensors if tensor is not None]
    if replica is None or replica.num_replicas_in_sync == 1 or not present:
        return tensors
    means = iter(replica.all_reduce(tf.distribute.ReduceOp.MEAN, present))
    return [tensor if tensor is None else next(means) for tensor in tensors]


def is_of_numbers(part: Any) -> bool:
    """Whether an input is a tensor of numbers, dense or sparse, that a baseline can see."""
    return tf.as_dtype(part.dtype) != tf.string and not isinstance(part, tf.RaggedTensor)


def flattened(part: Any) -> tf.Tensor:
    """`[batch, size]` float32."""
    dense = tf.sparse.to_dense(part) if isinstance(part, tf.SparseTensor) else part
    return tf.reshape(tf.cast(dense, tf.float32), [tf.shape(dense)[0], -1])


def one_of_zeros(x: Any) -> Any:
    """An example of zeros, for each part of a model's input; axes of any size have one entry."""
    return keras.tree.map_structure(lambda part: tf.zeros([1, *(size or 1 for size in part.shape[1:])], part.dtype), x)
