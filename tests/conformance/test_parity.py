"""Where the units are forced, `fit`, `evaluate` and their logs are plain Keras's."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.marks import slow_but

import rebar_tf as rt
from rebar_tf.estimators.control import mark_control

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3)).astype(np.float32)  # a ragged last batch of 8
Y = RNG.normal(size=(40, 2)).astype(np.float32)
WEIGHTS = RNG.uniform(0.5, 2.0, size=40).astype(np.float32)


class Threshold(keras.layers.Layer):
    """What a stochastic layer with certain units outputs."""

    def call(self, logits):
        return tf.cast(logits > 0.0, tf.float32)


def network(units, model, wrap=lambda b: keras.layers.Dense(2, name="out")(b), inputs=None):
    """Logits of 60 and -60, whose units are certain."""
    inputs = keras.Input((3,)) if inputs is None else inputs
    logits = keras.layers.Dense(2, kernel_initializer="zeros", name="logits")(inputs)
    made = model(inputs, wrap(units(keras.layers.Rescaling(60.0)(logits))))
    rng = np.random.default_rng(1)
    made.set_weights(
        [rng.normal(size=w.shape) * 0.5 for w in made.get_weights()] if model is keras.Model else made.get_weights()
    )
    return made


def pair(wrap=lambda b: keras.layers.Dense(2, name="out")(b), **compiled):
    """A stochastic model and the plain one, with the same weights and certain units; the logits are not trained."""
    ours = network(rt.layers.StochasticBinary("rloo", values=(0, 1), seed=1), rt.StochasticModel, wrap)
    plain = network(Threshold(), keras.Model, wrap)
    for layer, other in zip(ours.layers, [*plain.layers], strict=False):
        if layer.weights and not isinstance(layer, rt.layers.StochasticBinary):
            layer.set_weights(other.get_weights())
    for made in (ours, plain):
        made.get_layer("logits").bias.assign([1.0, -1.0])
        made.get_layer("logits").kernel.assign(np.zeros([3, 2]))
        made.get_layer("logits").trainable = False
        made.compile(optimizer=keras.optimizers.SGD(0.05), **{"loss": "mse", **compiled})
    return ours, plain


def two_outputs(b):
    return {"a": keras.layers.Dense(2, name="a")(b), "b": keras.layers.Dense(2, name="b")(b)}


CASES = {
    "one loss": ({}, Y, None),
    "metrics": ({"metrics": ["mae"], "weighted_metrics": ["mse"]}, Y, WEIGHTS),
    "sum": ({"loss": keras.losses.MeanSquaredError(reduction="sum")}, Y, WEIGHTS),
    "mean of weights": ({"loss": keras.losses.MeanSquaredError(reduction="mean_with_sample_weight")}, Y, WEIGHTS),
    "two losses": ({"loss": {"a": "mse", "b": "mae"}, "loss_weights": {"a": 0.3, "b": 2.0}}, {"a": Y, "b": -Y}, None),
    "one of two": ({"loss": {"a": "mse", "b": None}}, {"a": Y, "b": -Y}, None),
}


@pytest.mark.filterwarnings("ignore:Gradients do not exist")  # of an output without a loss, by plain Keras
@pytest.mark.parametrize("case", CASES)
def test_fit_and_evaluate_are_those_of_keras(case):
    compiled, y, weights = CASES[case]
    options = {"wrap": two_outputs} if isinstance(y, dict) else {}
    ours, plain = pair(**options, **compiled)
    logs = [
        m.fit(X, y, sample_weight=weights, batch_size=16, epochs=2, shuffle=False, verbose=0).history
        for m in (ours, plain)
    ]
    assert set(logs[0]) == {*logs[1], "log_grad_variance"}
    for name, values in logs[1].items():
        np.testing.assert_allclose(logs[0][name], values, rtol=1e-4, err_msg=name)
    results = [
        m.evaluate(X, y, sample_weight=weights, batch_size=16, verbose=0, return_dict=True) for m in (ours, plain)
    ]
    assert results[0].keys() == results[1].keys()
    for name, value in results[1].items():
        np.testing.assert_allclose(results[0][name], value, rtol=1e-4, err_msg=name)
    for layer in ("out",) if not options else ("a", "b"):
        for w, other in zip(ours.get_layer(layer).get_weights(), plain.get_layer(layer).get_weights(), strict=True):
            np.testing.assert_allclose(w, other, rtol=1e-4, atol=1e-6)


def two_steps(b):
    return keras.layers.RepeatVector(2)(keras.layers.Dense(2, name="out")(b))


CLASSES = (Y[:, 0] > 0).astype(np.int32)
SPARSE = {"loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True)}
WEIGHTED = {
    "of each output": (
        two_outputs,
        {"loss": {"a": "mse", "b": "mae"}},
        {"y": {"a": Y, "b": -Y}, "sample_weight": {"a": WEIGHTS, "b": WEIGHTS[::-1]}},
    ),
    "of each step": (
        two_steps,
        {},
        {"y": np.stack([Y, Y], axis=1), "sample_weight": np.stack([WEIGHTS, WEIGHTS[::-1]], axis=1)},
    ),
    "of each class": (lambda b: keras.layers.Dense(2, name="out")(b), SPARSE, {"class_weight": {0: 0.3, 1: 2.0}}),
}


@pytest.mark.parametrize("case", WEIGHTED)
def test_weights_are_those_of_keras(case):
    wrap, compiled, data = WEIGHTED[case]
    data = {"y": CLASSES, **data}
    ours, plain = pair(wrap, **compiled)
    logs = [made.fit(X, **data, batch_size=16, shuffle=False, verbose=0).history for made in (ours, plain)]
    for name, values in logs[1].items():
        np.testing.assert_allclose(logs[0][name], values, rtol=1e-4, err_msg=name)
    for w, other in zip(ours.model_variables, plain.trainable_variables, strict=True):
        np.testing.assert_allclose(w.numpy(), other.numpy(), rtol=1e-4, atol=1e-6)


def test_lists_of_values_are_keras_s():
    """Of as many values as names, where each metric has one."""
    for model in pair(metrics=["mae"]):
        assert model.metrics_names == ["loss", "compile_metrics"]
        values = model.train_on_batch(X, Y), model.test_on_batch(X, Y), model.evaluate(X, Y, verbose=0)
        assert [len(each) for each in values] == [2, 2, 2]
    inputs = keras.Input((3,))
    b = rt.layers.StochasticBinary("rebar", seed=1)(keras.layers.Dense(3)(inputs))
    model = rt.StochasticModel(inputs, keras.layers.Dense(2)(b))
    model.compile(rt.optimizers.Adam(0.01), loss="mse")
    assert np.ndim(model.train_on_batch(X, Y)) == 0
    assert set(model.train_on_batch(X, Y, return_dict=True)) == {"loss", "log_grad_variance", "temperature"}


class OwnObjective(rt.StochasticModel):
    def objective(self, x, y=None):
        y_pred = self(x, training=True)
        return tf.reduce_mean(tf.square(y - y_pred), axis=1), y_pred


@pytest.mark.parametrize("weights", [WEIGHTS[:, None], [WEIGHTS]])
def test_an_own_objective_takes_a_weight_for_each_example(weights):
    model = network(rt.layers.StochasticBinary("rloo", values=(0, 1), seed=1), OwnObjective)
    with pytest.raises(
        ValueError, match=r"overrides `objective`.*`sample_weight` must be one tensor of shape \[batch\]"
    ):
        model.estimate_gradients(X, Y, weights)


class OwnStep(rt.StochasticModel):
    def train_step(self, data):
        x, y = data
        loss, gradients = self.estimate_gradients(x, y)
        self.apply_gradients(gradients)
        return {"loss": loss}


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_a_training_step_of_ones_own_takes_the_steps_of_fit(policy):
    weights = []
    try:
        keras.config.set_dtype_policy(policy)  # under mixed_float16 the optimizer scales the loss
        for kind in (OwnStep, rt.StochasticModel):
            keras.utils.set_random_seed(0)
            inputs = keras.Input((3,))
            b = rt.layers.StochasticBinary("rebar", seed=1)(keras.layers.Dense(3)(inputs))
            model = kind(inputs, keras.layers.Dense(2)(b))
            model.compile(keras.optimizers.SGD(0.1), loss="mse")
            model.fit(X, Y, batch_size=8, shuffle=False, verbose=0)
            weights.append(model.get_weights()[0])
    finally:
        keras.config.set_dtype_policy("float32")
    np.testing.assert_array_equal(*weights)


def test_evaluate_drops_nothing():
    ours, plain = pair(lambda b: keras.layers.Dropout(0.5)(keras.layers.Dense(2, name="out")(b)))
    values = [made.evaluate(X, Y, batch_size=16, verbose=0) for made in (ours, plain)]
    np.testing.assert_allclose(*values, rtol=1e-5)


def test_weight_decay_and_clipping_are_keras_s_and_leave_the_estimator_alone():
    for options in ({"weight_decay": 0.1}, {"global_clipnorm": 1e-3}, {"clipnorm": 1e-3}, {"clipvalue": 1e-4}):
        values = []
        for kind in (rt.optimizers.Adam, keras.optimizers.Adam):
            model = keras.Variable([1.0, -2.0], name="kernel")
            control = keras.Variable([1.0], name="raw_eta")
            mark_control([control])
            optimizer = kind(0.1, beta_2=0.999, epsilon=1e-8, **options)
            trained = [model, control] if kind is rt.optimizers.Adam else [model]
            optimizer.build(trained)
            gradients = [np.array([3.0, -4.0], np.float32), np.array([50.0], np.float32)]
            for _ in range(3):
                optimizer.apply(gradients[: len(trained)], trained)
            values.append(model.numpy())
            if kind is rt.optimizers.Adam:
                assert control.numpy()[0] == pytest.approx(1.0 - 3 * 1.0, rel=1e-3)  # ten times 0.1 a step
        np.testing.assert_allclose(*values, rtol=1e-4, err_msg=str(options))


def test_two_layers_with_one_seed_predict_different_samples():
    inputs = keras.Input((8,))
    samples = [rt.layers.StochasticBinary(values=(0, 1), seed=5)(inputs) for _ in range(2)]
    model = rt.StochasticModel(inputs, samples)
    first, second = model.predict(np.zeros([50, 8], np.float32), verbose=0)
    assert not np.array_equal(first, second)


@keras.saving.register_keras_serializable("tests")
class Subclassed(rt.training.StochasticTraining, keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense, self.out = keras.layers.Dense(3), keras.layers.Dense(2)
        self.units = rt.layers.StochasticBinary("rebar", seed=1)

    def call(self, x, training=None):
        return self.out(self.units(self.dense(x), training=training))


def test_a_subclassed_model_is_loaded_with_its_estimator_and_goes_on(tmp_path):
    model = Subclassed()
    model.compile(optimizer=rt.optimizers.Adam(0.01), loss="mse")
    model.fit(X, Y, batch_size=8, epochs=2, verbose=0, shuffle=False)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for made in (model, loaded):
        made.fit(X, Y, batch_size=8, epochs=1, verbose=0, shuffle=False)
    assert int(loaded.estimator.step.value) == 15
    for w, other in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(w, other)
    for w, other in zip(model.optimizer.variables, loaded.optimizer.variables, strict=True):
        np.testing.assert_array_equal(w, other)


def test_a_bound_drops_nothing_and_moves_no_state():
    inputs = keras.Input((3,))

    def made(rate):
        h = keras.layers.BatchNormalization()(inputs)
        b = rt.layers.StochasticBinary("rebar", values=(0, 1), seed=1)(keras.layers.Dense(2)(h))
        model = rt.StochasticModel(inputs, keras.layers.Dense(2)(keras.layers.Dropout(rate)(b)))
        model.compile(loss="mse", optimizer="sgd")
        return model

    model, other = made(0.5), made(0.0)
    other.set_weights([w for w, v in zip(model.get_weights(), model.weights, strict=True) if "seed" not in v.name])
    before = model.get_weights()
    np.testing.assert_allclose(model.bound(X, Y, num_samples=5), other.bound(X, Y, num_samples=5), rtol=1e-5)
    for w, v in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(w, v)


class Activity(keras.layers.Layer):
    """A layer with a metric of its own."""

    def __init__(self):
        super().__init__()
        self.mean = keras.metrics.Mean(name="activity")

    def call(self, x):
        self.mean.update_state(x)
        return x


def with_loss_metric(kind):
    """A model that keeps a part of its loss, as variational autoencoders do."""

    class Tracking(kind):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.part = keras.metrics.Mean(name="part")

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            part = tf.reduce_mean(tf.square(y_pred))
            self.part.update_state(part)
            return part + super().compute_loss(x, y, y_pred, sample_weight)

    return Tracking


class OwnLogs:
    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        return {**super().compute_metrics(x, y, y_pred, sample_weight), "largest": tf.reduce_max(y_pred)}


HOW = {
    "step by step": {},
    "many steps": {"jit_compile": True, "steps_per_execution": 3},
    "eagerly": {"run_eagerly": True},
}


@pytest.mark.parametrize(
    ("of", "how"),
    slow_but(
        lambda of, how: how == "many steps" or of == "layer",
        list(itertools.product(["layer", "compute_loss", "compute_metrics"], HOW)),
    ),
)
def test_metrics_that_a_model_keeps_itself_are_those_of_keras(of, how):
    made = pair(lambda b: keras.layers.Dense(2, name="out")(Activity()(b) if of == "layer" else b), **HOW[how])
    if of != "layer":
        kinds = (rt.StochasticModel, keras.Model)
        of_kind = with_loss_metric if of == "compute_loss" else lambda kind: type("Own", (OwnLogs, kind), {})
        made = [of_kind(kind)(m.inputs[0], m.outputs[0]) for kind, m in zip(kinds, made, strict=True)]
        for model in made:
            model.compile(keras.optimizers.SGD(0.05), loss="mse", **HOW[how])
    ours, theirs = (m.fit(X, Y, batch_size=8, epochs=2, shuffle=False, verbose=0).history for m in made)
    for name, values in theirs.items():
        np.testing.assert_allclose(ours[name], values, rtol=1e-4, err_msg=name)
    ours, theirs = (m.evaluate(X, Y, batch_size=8, verbose=0, return_dict=True) for m in made)
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(value, rel=1e-4), name


@pytest.mark.parametrize("how", HOW)
def test_metrics_of_an_own_objective_count_the_hard_pass(how):
    class Tracking(rt.StochasticModel):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.part = keras.metrics.Mean(name="part")

        def objective(self, x, y=None):
            y_pred = self(x, training=True)
            part = tf.reduce_mean(tf.square(y - y_pred), axis=-1)
            self.part.update_state(part)
            return part, y_pred

    plain, _ = pair()
    model = Tracking(plain.inputs[0], plain.outputs[0])
    model.compile(keras.optimizers.SGD(0.05), **HOW[how])
    history = model.fit(X, Y, batch_size=8, shuffle=False, verbose=0).history
    np.testing.assert_allclose(history["part"], history["loss"], rtol=1e-5)
    logs = model.evaluate(X, Y, batch_size=8, verbose=0, return_dict=True)
    assert logs["part"] == pytest.approx(logs["loss"], rel=1e-5)


def test_weights_without_targets_are_an_error():
    """Keras drops them."""
    model = rt.models.SigmoidBeliefNetwork(hidden_units=2, visible_units=4, seed=0)
    model.compile(rt.optimizers.Adam(0.1), jit_compile=True, steps_per_execution=2)
    x, weights = np.ones([6, 4], np.float32), np.zeros(6, np.float32)
    for method in (model.fit, model.evaluate):
        with pytest.raises(ValueError, match=r"`sample_weight` needs targets.*pass `y` too.*Received: y=None"):
            method(x, sample_weight=weights, verbose=0)
    assert model.fit(x, x, sample_weight=weights, verbose=0).history["loss"] == [0.0]
    assert model.train_on_batch(x, sample_weight=weights) == 0.0


def test_a_model_of_which_nothing_is_trained_stays_as_it_is():
    ours, _ = pair()
    ours.trainable = False
    ours.compile("sgd", loss="mse")
    before = [variable.numpy() for variable in ours.all_model_variables]
    ours.fit(X, Y, verbose=0)
    for weight, was in zip(ours.all_model_variables, before, strict=True):
        np.testing.assert_array_equal(weight, was)
