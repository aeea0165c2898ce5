"""Everything public that Keras meets, each a row of the conformance table: once, as a part of a small model."""

import dataclasses
import functools
import inspect
import math
import pathlib
import zlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

import rebar_tf as rt
from tests.helpers.networks import randomize_control

RNG = np.random.default_rng(0)
# Small multiples of powers of two, which half precision holds: logits, and with them the samples, are the same in any.
X = RNG.integers(-2, 3, size=(8, 3)).astype(np.float32)
Y = RNG.integers(-8, 9, size=(8, 2)).astype(np.float32) / 8
PIXELS = RNG.integers(0, 2, size=(8, 3)).astype(np.float32)


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """One public thing, and how a model is made with it.

    Attributes:
        name: where a user finds it in `rebar_tf`; an estimator by its own name.
        kind: estimator, layer, initializer, model, optimizer, metric or callback.
        part: takes the thing out of a model, for its configuration.
        layers: makes the layers of a chain from `x` to `y`; None for a model that is none.
        model: makes that model, whose objective is its own.
        form: of `FORMS`, how a model is made of the layers.
        optimizer: makes the optimizer.
        plain_optimizer: makes Keras's own that does the same, where it is another one.
        callbacks: makes the callbacks of `fit`, which may write to the folder given.
        x: inputs.
        y: targets.
    """

    name: str
    kind: str
    part: Callable[[keras.Model], Any]
    layers: Callable[[], list[keras.layers.Layer]] | None = None
    model: Callable[[], keras.Model] | None = None
    form: str = "functional"
    optimizer: Callable[[], keras.optimizers.Optimizer] = lambda: keras.optimizers.SGD(0.125, momentum=0.5)
    plain_optimizer: Callable[[], keras.optimizers.Optimizer] | None = None
    callbacks: Callable[[pathlib.Path], list[keras.callbacks.Callback]] = lambda folder: []
    x: np.ndarray = dataclasses.field(default_factory=lambda: X)
    y: np.ndarray | None = dataclasses.field(default_factory=lambda: Y)

    @property
    def has_own_objective(self):
        return self.model is not None


def dense(name, units=2, **options):
    return keras.layers.Dense(units, name=name, **options)


def binary(estimator="rebar", **options):
    return rt.layers.StochasticBinary(estimator, values=(0, 1), seed=1, **options)


def around(*layers):
    """Makes the layers of a chain in which these, made anew, stand between two dense ones."""
    return lambda: [dense("first"), *(make() for make in layers), dense("last")]


def chain(layers, inputs):
    """The layers, one after the other."""
    for layer in layers:
        inputs = layer(inputs)
    return inputs


@keras.saving.register_keras_serializable("conformance")
class Wrapped(keras.layers.Layer):
    """A layer that holds others."""

    def __init__(self, layers, **kwargs):
        super().__init__(**kwargs)
        self.inner = layers

    def build(self, shape):
        for layer in self.inner:
            layer.build(shape)
            shape = layer.compute_output_shape(shape)

    def call(self, inputs, training=None):
        for layer in self.inner:
            inputs = layer(inputs, training=training) if takes_training(layer) else layer(inputs)
        return inputs

    def compute_output_shape(self, shape):
        for layer in self.inner:
            shape = layer.compute_output_shape(shape)
        return shape


def takes_training(layer):
    return "training" in inspect.signature(layer.call).parameters


@keras.saving.register_keras_serializable("conformance")
class Subclassed(rt.training.StochasticTraining, keras.Model):
    """A model without a graph."""

    def __init__(self, layers, **kwargs):
        super().__init__(**kwargs)
        self.inner = [
            keras.saving.deserialize_keras_object(layer) if isinstance(layer, dict) else layer for layer in layers
        ]

    def call(self, inputs, training=None):
        return Wrapped.call(self, inputs, training)

    def get_config(self):
        layers = [keras.saving.serialize_keras_object(layer) for layer in self.inner]
        return {**super().get_config(), "layers": layers}


@keras.saving.register_keras_serializable("conformance")
class Sequential(rt.training.StochasticTraining, keras.Sequential):
    """Keras's sequential model, trained by an estimator."""


@keras.saving.register_keras_serializable("conformance")
class GroupedSGD(rt.optimizers.LearningRateGroups, keras.optimizers.SGD):
    """One of Keras's optimizers, with learning-rate groups."""


def functional(layers, shape=(3,)):
    inputs = keras.Input(shape)
    return rt.StochasticModel(inputs, chain(layers, inputs), coupled_batch=False)


FORMS = {
    "functional": functional,
    "sequence": functools.partial(functional, shape=(None, 3)),
    "in a layer": lambda layers: functional([layers[0], Wrapped(layers[1:-1]), layers[-1]]),
    "in a model": lambda layers: functional([keras.Sequential([keras.Input((3,)), *layers[:-1]]), layers[-1]]),
    "stochastic model in a model": lambda layers: functional([functional(layers[:-1]), layers[-1]]),
    "Sequential": lambda layers: Sequential([keras.Input((3,)), *layers]),
    "subclassed": Subclassed,
}


def build(row, form=None, **compiled):
    """A compiled model with the row's thing in it, with weights that the row alone decides."""
    keras.utils.set_random_seed(0)
    model = row.model() if row.has_own_objective else FORMS[form or row.form](row.layers())
    loss = {} if row.has_own_objective else {"loss": "mse"}
    model.compile(optimizer=row.optimizer(), **{"run_eagerly": True, **loss, **compiled})
    if model.estimator is None:
        model(row.x)
        model.build_estimator(3)
    for i, variable in enumerate(model.model_variables):
        name = str(i) if row.has_own_objective else own_name(variable)
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        variable.assign(rng.integers(-8, 9, size=variable.shape) / 8)
    randomize_control(model.control_variables)
    model.optimizer.build(model.trainable_variables)
    return model


def own_name(variable):
    """Of a variable and its layer, wherever they are: the layers of a row are named."""
    return "/".join(variable.path.split("/")[-2:])


class Certain(keras.layers.Layer):
    """What a stochastic layer with certain units outputs."""

    def __init__(self, layer):
        super().__init__()
        self.low, self.high = getattr(layer, "values", (0.0, 1.0))

    def call(self, logits):
        ones = keras.ops.cast(logits > 0, self.compute_dtype)  # one class of each variable has a positive logit
        return self.low + (self.high - self.low) * ones


def forced(row, run_eagerly=True):
    """The row's model with certain units, and the one of plain Keras that does the same, from the same weights."""
    ours = build(row)
    last = max(i for i, layer in enumerate(ours.layers) if isinstance(layer, rt.layers.StochasticLayer))
    for layer in ours.layers[:last]:
        if isinstance(layer, keras.layers.Dense):
            layer.kernel.assign(np.zeros(layer.kernel.shape))
            layer.bias.assign(np.where(np.arange(layer.units) % 3 == 0, 64.0, -64.0))
    made = row.layers()
    layers = [Certain(layer) if isinstance(layer, rt.layers.StochasticLayer) else layer for layer in made]
    plain = keras.Sequential([keras.Input(row.x.shape[1:]), *layers])
    for layer, other in pairs(plain, ours):
        layer.set_weights(other.get_weights())
    for layer in layers[: max(i for i, layer in enumerate(layers) if isinstance(layer, Certain))]:
        layer.trainable = False  # has no gradient
    for model, optimizer in ((ours, row.optimizer), (plain, row.plain_optimizer or row.optimizer)):
        model.compile(optimizer=optimizer(), loss="mse", metrics=["mae"], run_eagerly=run_eagerly)
    return ours, plain


def units(model):
    return model.stochastic_layers[0]


def whole(model):
    return model


def scheduled():
    return rt.layers.StochasticBinary(rt.estimators.Rebar(0.5, learn_temperature=False), values=(0, 1), seed=1)


def pairs(plain, ours):
    """The layers of `forced` models that have weights of the model."""
    own = [layer for layer in ours.layers if not isinstance(layer, keras.layers.InputLayer)]
    return [(a, b) for a, b in zip(plain.layers, own, strict=False) if a.weights and not isinstance(a, Certain)]


def callback(name, make, *middle):
    """A row of a callback that `make` makes for a folder."""
    return Row(
        f"callbacks.{name}", "callback", whole, around(*middle or (binary,)), callbacks=lambda folder: [make(folder)]
    )


ROWS = [
    *(
        Row(name, "estimator", lambda model: model.estimator, around(functools.partial(binary, name)))
        for name in rt.estimators.names()
    ),
    Row("layers.StochasticBinary", "layer", units, around(functools.partial(rt.layers.StochasticBinary, seed=1))),
    Row(
        "layers.StochasticCategorical",
        "layer",
        units,
        lambda: [dense("first", 6), rt.layers.StochasticCategorical(3, "rebar", seed=1), dense("last")],
    ),
    Row(
        "layers.StochasticSubset",
        "layer",
        units,
        lambda: [dense("first", 6), rt.layers.StochasticSubset(2, "rloo", seed=1), dense("last")],
    ),
    Row(
        "layers.InputDependentBaseline",
        "layer",
        lambda model: model.layers[3],
        lambda: [dense("first"), binary(), rt.layers.InputDependentBaseline(2), keras.layers.Reshape((1,))],
        y=Y[:, :1],
    ),
    Row(
        "training.FactoredDense",
        "layer",
        lambda model: model.layers[1],
        lambda: [
            rt.training.FactoredDense(2, name="first"),
            binary(),
            rt.training.FactoredDense(2, activation="tanh", name="last"),
        ],
    ),
    Row(
        "initializers.PaperInitializer",
        "initializer",
        lambda model: model.layers[1].kernel_initializer,
        lambda: [
            dense("first", kernel_initializer=rt.initializers.PaperInitializer(3)),
            binary(),
            dense("last"),
        ],
    ),
    Row("StochasticModel", "model", whole, around(binary, functools.partial(dense, "middle"), binary)),
    Row("training.StochasticTraining", "model", whole, around(binary), form="subclassed"),
    Row(
        "models.SigmoidBeliefNetwork",
        "model",
        whole,
        model=functools.partial(rt.models.SigmoidBeliefNetwork, num_layers=2, hidden_units=2, visible_units=3, seed=1),
        x=PIXELS,
        y=None,
    ),
    Row(
        "models.StructuredPredictionNetwork",
        "model",
        whole,
        model=functools.partial(
            rt.models.StructuredPredictionNetwork, 2, 2, generator="deep", input_units=3, output_units=3, seed=1
        ),
        x=PIXELS,
        y=PIXELS[::-1],
    ),
    Row(
        "optimizers.Adam",
        "optimizer",
        lambda model: model.optimizer,
        around(binary),
        optimizer=lambda: rt.optimizers.Adam(0.125, beta_2=0.75, epsilon=0.125),
        plain_optimizer=lambda: keras.optimizers.Adam(0.125, beta_2=0.75, epsilon=0.125),
    ),
    Row(
        "optimizers.LearningRateGroups",
        "optimizer",
        lambda model: model.optimizer,
        around(binary),
        optimizer=lambda: GroupedSGD(0.125, momentum=0.5),
        plain_optimizer=lambda: keras.optimizers.SGD(0.125, momentum=0.5),
    ),
    Row("training.LogGradientVariance", "metric", lambda model: model.gradient_variance, around(binary)),
    callback("Checkpoint", lambda folder: rt.callbacks.Checkpoint(folder / "model.keras")),
    callback("ContinueReport", lambda folder: rt.callbacks.ContinueReport(every=2)),
    callback("CurveCsv", lambda folder: rt.callbacks.CurveCsv(folder / "curve.csv")),
    callback("ProgressLine", lambda folder: rt.callbacks.ProgressLine(3)),
    callback("StepsPerSecond", lambda folder: rt.callbacks.StepsPerSecond()),
    callback("StopOnDivergence", lambda folder: rt.callbacks.StopOnDivergence()),
    callback("StopOnSignal", lambda folder: rt.callbacks.StopOnSignal()),
    callback("TemperatureScheduler", lambda folder: rt.callbacks.TemperatureScheduler(math.exp), scheduled),
    callback("TensorBoard", lambda folder: rt.callbacks.TensorBoard(folder)),
    callback("ValidationBound", lambda folder: rt.callbacks.ValidationBound(X, Y)),
]

NO_ROW = {
    "layers.StochasticLayer": "a base class",
    "callbacks.ReportTable": "a base class, of CurveCsv",
    "training.RunGroup": "trains models that have rows; it is no model of layers",
}

KERAS = (
    keras.layers.Layer,
    keras.optimizers.Optimizer,
    keras.metrics.Metric,
    keras.callbacks.Callback,
    keras.initializers.Initializer,
)


def keras_classes():
    """The public classes that derive from Keras's, by the names under which users find them."""
    modules = ("layers", "models", "optimizers", "callbacks", "training", "initializers")
    found = {f"{module}.{name}": value for module in modules for name, value in vars(getattr(rt, module)).items()}
    names = {name for name, value in found.items() if isinstance(value, type) and issubclass(value, KERAS)}
    return names - {"training.StochasticModel"} | {"StochasticModel"}
