"""In models as users write them the gradient is that of what Keras would minimise, by enumeration."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.marks import slow_but
from helpers.oracle import assert_unbiased

import rebar_tf as rt

ESTIMATORS = ["rebar", "rloo", "disarm", "muprop", "relax"]
RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 3)).astype(np.float32)
Y = RNG.normal(size=(3, 2)).astype(np.float32)
REPEATS = 16  # of the examples in a batch, where the loss is their mean


def finish(inputs, outputs, **compiled):
    model = rt.StochasticModel(inputs, outputs)
    model.compile(optimizer=rt.optimizers.Adam(1e-3), **{"loss": "mse", **compiled})
    rng = np.random.default_rng(1)
    for variable in model.model_variables:
        variable.assign(rng.normal(size=variable.shape))
    return model


def units(estimator, inputs, count=2):
    return rt.layers.StochasticBinary(estimator, values=(0, 1), seed=1)(keras.layers.Dense(count)(inputs))


@pytest.mark.parametrize("estimator", slow_but(("rebar", "disarm"), ESTIMATORS))
def test_loss_weights(estimator):
    inputs = keras.Input((3,))
    b = units(estimator, inputs)
    outputs = {"a": keras.layers.Dense(2, name="a")(b), "b": keras.layers.Dense(2, name="b")(b)}
    model = finish(inputs, outputs, loss={"a": "mse", "b": "mae"}, loss_weights={"a": 0.1, "b": 3.0})
    assert_unbiased(model, X, {"a": Y, "b": -Y}, repeats=REPEATS)


@pytest.mark.parametrize("estimator", slow_but(("rebar", "disarm"), ESTIMATORS))
def test_batch_normalization_after_the_layer(estimator):
    inputs = keras.Input((3,))
    h = keras.layers.BatchNormalization()(units(estimator, inputs))
    assert_unbiased(finish(inputs, keras.layers.Dense(2)(h)), X, Y, count=12000, power=0.1)


class MeanActivity(keras.layers.Layer):
    """Adds a loss that mixes the examples."""

    def call(self, x):
        self.add_loss(5.0 * tf.square(tf.reduce_mean(x) - 0.3))
        return x


@pytest.mark.parametrize("estimator", slow_but(("rebar", "disarm"), ESTIMATORS))
@pytest.mark.parametrize("how", ["add_loss", "regularizer", "regularizer of the units"])
def test_added_losses_of_samples(estimator, how):
    inputs = keras.Input((3,))
    b = units(estimator, inputs)
    if how == "add_loss":
        outputs = keras.layers.Dense(2)(MeanActivity()(b))
    elif how == "regularizer of the units":
        penalty = keras.regularizers.L1(0.5)
        b = rt.layers.StochasticBinary(estimator, values=(0, 1), activity_regularizer=penalty)(
            keras.layers.Dense(2)(inputs)
        )
        outputs = keras.layers.Dense(2)(b)
    else:
        outputs = keras.layers.Dense(2, activity_regularizer=keras.regularizers.L2(0.5))(b)
    assert_unbiased(finish(inputs, outputs), X, Y)


def test_an_added_loss_as_the_only_one():
    inputs = keras.Input((3,))
    model = finish(inputs, MeanActivity()(units("rebar", inputs)), loss=None)
    assert_unbiased(model, X)


@pytest.mark.parametrize("estimator", ["rebar", "rloo"])
def test_a_loss_added_before_the_layer_stays_out_of_the_learning_signal(estimator):
    inputs = keras.Input((3,))
    h = MeanActivity()(keras.layers.Dense(2)(inputs))
    b = rt.layers.StochasticBinary(estimator, values=(0, 1), seed=1)(h)
    model = finish(inputs, keras.layers.Dense(2)(b))
    assert_unbiased(model, X, Y)


@pytest.mark.parametrize("estimator", ["rebar", "disarm", "arm"])
def test_noise_before_the_layer_is_the_same_in_every_pass(estimator):
    """A dropout layer drops one set of units in a step, which the antithetic pass meets, too."""
    inputs = keras.Input((3,))
    kept = keras.layers.Dropout(0.5, seed=3)(inputs)
    seen = []

    class Watch(keras.layers.Layer):
        def call(self, x):
            seen.append(x)
            return x

    model = finish(inputs, keras.layers.Dense(2)(units(estimator, Watch()(kept))))
    model.mixes_examples(X, Y)  # has passes of its own
    seen.clear()
    model.estimate_gradients(X, Y)
    assert len(seen) >= 2
    for other in seen[1:]:
        np.testing.assert_array_equal(other, seen[0])
    first = seen[0].numpy()
    model.estimate_gradients(X, Y)
    assert np.abs(seen[-1] - first).max() > 0  # and another one in the next step


def test_moving_statistics_move_once_a_step_as_in_keras():
    inputs = keras.Input((3,))
    normalise = keras.layers.BatchNormalization()
    model = finish(inputs, keras.layers.Dense(2)(units("rebar", normalise(inputs))))
    model.fit(X, Y, batch_size=3, epochs=2, verbose=0)
    plain = keras.layers.BatchNormalization()
    for _ in range(2):
        plain(X, training=True)
    np.testing.assert_allclose(normalise.moving_mean, plain.moving_mean, rtol=1e-5)
    before = np.array(normalise.moving_mean)
    model.evaluate(X, Y, verbose=0)
    np.testing.assert_array_equal(normalise.moving_mean, before)


@pytest.mark.parametrize("estimator", slow_but(("rebar", "disarm"), ESTIMATORS))
@pytest.mark.parametrize("reduction", ["sum", "sum_over_batch_size", "mean_with_sample_weight"])
def test_reductions_and_sample_weights(estimator, reduction):
    inputs = keras.Input((3,))
    loss = keras.losses.MeanSquaredError(reduction=reduction)
    model = finish(inputs, keras.layers.Dense(2)(units(estimator, inputs)), loss=loss)
    repeats = 1 if reduction == "sum" else REPEATS
    assert_unbiased(model, X, Y, np.array([0.5, 2.0, 1.0], np.float32), repeats=repeats)


@pytest.mark.parametrize(
    ("loss", "targets"),
    [
        (keras.losses.Circle(), np.array([0, 1, 0])),
        (keras.losses.circle, np.array([0, 1, 0])),
        (keras.losses.CosineSimilarity(axis=0), Y),
        (keras.losses.CosineSimilarity(axis=-2), Y),
    ],
    ids=["Circle", "circle", "axis 0", "axis -2"],
)
def test_a_loss_that_compares_the_examples(loss, targets):
    inputs = keras.Input((3,))
    model = finish(inputs, keras.layers.Dense(2)(units("rloo", inputs)), loss=loss)
    assert_unbiased(model, X, targets, count=12000, power=0.3)


@pytest.mark.parametrize("coupled", [None, True])
@pytest.mark.parametrize("reduction", [None, "none"])
def test_a_loss_without_a_reduction_is_refused(reduction, coupled):
    inputs = keras.Input((3,))
    model = finish(inputs, keras.layers.Dense(2)(units("rloo", inputs)), loss=keras.losses.Huber(reduction=reduction))
    model.coupled_batch = coupled
    with pytest.raises(ValueError, match="Loss 'huber_loss' must have a reduction: 'sum_over_batch_size', 'sum' or"):
        model.fit(X, Y, verbose=0)


def test_a_compute_loss_of_several_values_is_refused():
    class OfExamples(rt.StochasticModel):
        def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
            return tf.reduce_mean(tf.square(y - y_pred), axis=1)

    inputs = keras.Input((3,))
    model = OfExamples(inputs, keras.layers.Dense(2)(units("rloo", inputs)), name="own")
    model.compile("sgd")
    with pytest.raises(
        ValueError, match=r"`compute_loss` of model 'own' must return a scalar. Received: shape \(None,\)"
    ):
        model.fit(X, Y, verbose=0)


def test_a_compute_loss_of_numpys_is_taken_where_keras_takes_it():
    class OfNumpy(rt.StochasticModel):
        def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
            return np.float32(np.mean(np.square(y - y_pred)))

    inputs = keras.Input((3,))
    model = OfNumpy(inputs, keras.layers.Dense(2)(units("rloo", inputs)))
    model.compile("sgd", run_eagerly=True)
    before = model.get_weights()[0]
    with pytest.warns(UserWarning, match="Gradients do not exist for variables"):  # of the layer after the units
        model.fit(X, Y, verbose=0)
    assert np.abs(model.get_weights()[0] - before).max() > 0.0


def test_integer_targets():
    inputs = keras.Input((3,))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model = finish(inputs, keras.layers.Dense(3)(units("rebar", inputs)), loss=loss)
    assert_unbiased(model, X, np.array([0, 2, 1]), count=50_000, power=0.2, repeats=200)


def test_a_loss_that_returns_a_scalar():
    def worst(y, y_pred):
        return tf.reduce_max(tf.square(y - y_pred))

    inputs = keras.Input((3,))
    model = finish(inputs, keras.layers.Dense(2)(units("rloo", inputs)), loss=worst)
    assert_unbiased(model, X, Y, count=8000, power=0.1)


@pytest.mark.parametrize("estimator", ["rebar", "rloo"])
def test_an_overridden_compute_loss_is_what_is_minimised(estimator):
    class Own(rt.StochasticModel):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return tf.reduce_sum(tf.square(y_pred)) + 0.0 * super().compute_loss(x, y, y_pred, sample_weight)

    inputs = keras.Input((3,))
    model = Own(inputs, keras.layers.Dense(2)(units(estimator, inputs)))
    model.compile(optimizer=rt.optimizers.Adam(1e-3), loss="mse")
    assert_unbiased(model, X, Y)


@pytest.mark.parametrize("estimator", ["vimco", "exact"])
def test_an_estimator_that_takes_examples_one_by_one_refuses_an_objective_that_mixes_them(estimator):
    inputs = keras.Input((3,))
    model = finish(inputs, keras.layers.Dense(2)(keras.layers.BatchNormalization()(units(estimator, inputs))))
    with pytest.raises(ValueError, match=rf"'{estimator}' takes the examples of a batch one by one.*rebar or rloo"):
        model.estimate_gradients(X, Y)


@pytest.mark.parametrize("estimator", ["rebar", "relax", "rloo"])
def test_rows_looked_up_in_an_embedding(estimator):
    inputs = keras.Input((2,), dtype="int32")
    rows = keras.layers.Flatten()(keras.layers.Embedding(4, 2)(inputs))
    model = finish(inputs, keras.layers.Dense(2)(units(estimator, rows)))
    assert_unbiased(model, np.array([[0, 1], [3, 1], [2, 0]]), Y, repeats=REPEATS)


@pytest.mark.parametrize("estimator", ["rebar", "rloo"])
def test_masked_steps_of_a_sequence(estimator):
    inputs = keras.Input((2, 3))
    h = keras.layers.Dense(2)(keras.layers.Masking()(inputs))
    b = rt.layers.StochasticBinary(estimator, values=(0, 1), seed=1)(h)
    model = finish(inputs, keras.layers.Dense(1)(b))
    x = np.random.default_rng(2).normal(size=(2, 2, 3)).astype(np.float32)
    x[1, 1] = 0.0
    assert_unbiased(model, x, x[..., :1], repeats=REPEATS)


@pytest.mark.parametrize("estimator", ["rebar", "rloo"])
def test_outputs_that_broadcast_over_the_targets_mix_the_examples(estimator):
    """A target `[batch, 1, units]` for outputs `[batch, units]`: Keras compares each output with every target."""
    inputs = keras.Input((3,))
    model = finish(inputs, keras.layers.Dense(2)(units(estimator, inputs)))
    assert_unbiased(model, X, Y[:, np.newaxis], count=12000, power=0.5)
