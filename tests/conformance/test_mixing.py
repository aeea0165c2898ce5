"""Layers, losses and objectives of one's own that mix the examples of a batch are found, and only those."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.marks import slow_but
from helpers.oracle import assert_unbiased
from keras import layers

import rebar_tf as rt
from rebar_tf.training import mixing

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 3)).astype(np.float32)
Y = RNG.normal(size=(3, 2)).astype(np.float32)


class Centred(layers.Layer):
    """Takes the mean of the batch away."""

    def call(self, x):
        return x - tf.reduce_mean(x, axis=0)


class BelowLargest(layers.Layer):
    """How far below the largest value of the batch, which a change of single samples seldom moves."""

    def call(self, x):
        return x - tf.reduce_max(x, axis=0)


class Halves(layers.Layer):
    """Each example sees its counterpart in the other half of the batch."""

    def call(self, x):
        return x - 0.5 * tf.roll(x, tf.shape(x)[0] // 2, axis=0)


class Slightly(layers.Layer):
    """Takes a tenth of the mean away, which does not turn a unit that follows."""

    def call(self, x):
        return x - 0.1 * tf.reduce_mean(x, axis=0)


class WarmedUp(layers.Layer):
    """Takes away a share of the mean that is 0 at first."""

    def build(self, shape):
        self.share = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x):
        return x - self.share * tf.reduce_mean(x, axis=0)


class Rolled(layers.Layer):
    """Each example sees the one before it."""

    def call(self, x):
        return tf.concat([x, tf.roll(x, 1, axis=0)], axis=-1)


def agreement(y, y_pred):
    """A loss of one's own that has a value for each example, and compares the examples."""
    likeness = tf.matmul(y_pred, y_pred, transpose_b=True) - tf.matmul(y, y, transpose_b=True)
    return tf.reduce_mean(tf.square(likeness), axis=-1)


def within_classes(y, y_pred):
    """Draws examples of equal targets together."""
    same = tf.cast(tf.reduce_all(y[:, None] == y[None], axis=-1), tf.float32)
    return tf.reduce_mean(same * tf.reduce_sum(tf.square(y_pred[:, None] - y_pred[None]), axis=-1), axis=-1)


def beside_a_large_loss(y, y_pred):
    """A little of a loss that compares the examples, beside the nats of an image."""
    return 540.0 + tf.reduce_sum(tf.square(y - y_pred), axis=-1) + 0.01 * agreement(y, y_pred)


class OwnObjective(rt.StochasticModel):
    def objective(self, x, y=None):
        y_pred = self(x, training=True)
        return agreement(y, y_pred), y_pred


class LateObjective(rt.StochasticModel):
    """Compares the examples after ten steps."""

    def objective(self, x, y=None):
        y_pred = self(x, training=True)
        late = tf.cast(self.optimizer.iterations > 10, tf.float32)
        return tf.reduce_mean(tf.square(y - y_pred), axis=-1) + late * agreement(y, y_pred), y_pred


def of_kind(kind, estimator="rebar"):
    plain = functional(estimator=estimator)
    model = kind(plain.inputs[0], plain.outputs[0])
    model.compile(rt.optimizers.Adam(1e-3))
    return model


def binary(estimator="rebar", **options):
    return rt.layers.StochasticBinary(estimator, values=(0, 1), seed=1, **options)


def functional(*middle, loss="mse", estimator="rebar", units=2, before=lambda x: x, **options):
    inputs = keras.Input((3,))
    h = before(layers.Dense(units)(inputs))
    for layer in [binary(estimator), *middle]:
        h = layer(h)
    model = rt.StochasticModel(inputs, layers.Dense(2, name="out")(h), **options)
    model.compile(rt.optimizers.Adam(1e-3), loss=loss)
    return model


class Subclassed(rt.training.StochasticTraining, keras.Model):
    def __init__(self, *middle):
        super().__init__()
        self.hidden, self.units, self.out = layers.Dense(2), binary(), layers.Dense(2)
        self.middle = list(middle)

    def call(self, x, training=None):
        h = self.units(self.hidden(x), training=training)
        for layer in self.middle:
            h = layer(h)
        return self.out(h)


def subclassed(*middle):
    model = Subclassed(*middle)
    model.compile(rt.optimizers.Adam(1e-3), loss="mse")
    model._build_from(X)
    return model


def largest_error(y, y_pred):
    """A loss of one's own that returns a scalar."""
    return tf.reduce_max(tf.square(y - y_pred))


def beside_a_scalar(h, *middle):
    """A model of two losses, one of which mixes the examples openly."""
    inputs = keras.Input((3,))
    b = h(inputs)
    mixed = b
    for layer in middle:
        mixed = layer(mixed)
    model = rt.StochasticModel(inputs, [layers.Dense(2)(b), layers.Dense(2)(mixed)])
    model.compile(rt.optimizers.Adam(1e-3), loss=[largest_error, "mse"], loss_weights=[0.7, 2.0])
    return model


class Gated(layers.Layer):
    """Units that the batch shares."""

    def __init__(self):
        super().__init__()
        self.units = binary("rloo", shared=True)

    def build(self, shape):
        self.logits = self.add_weight(shape=(3,), name="logits")
        self.units.build((3,))

    def call(self, x, training=None):
        return x * self.units(self.logits.value, training=training)


def dead_units():
    return layers.Dense(2, activation="relu", bias_initializer=keras.initializers.Constant(-8.0))


MIXED = {
    "layer": lambda: functional(Centred()),
    "first of two": lambda: functional(Centred(), layers.Dense(1), binary()),
    "an operation": lambda: functional(lambda h: h - keras.ops.mean(h, axis=0)),
    "nested": lambda: functional(keras.Sequential([keras.Input((2,)), Rolled()])),
    "unseen at most samples": lambda: functional(BelowLargest()),
    "batch normalization": lambda: functional(layers.BatchNormalization()),
    "loss": lambda: functional(loss=agreement),
    "subclassed": lambda: subclassed(Centred()),
    "subclassed, batch normalization": lambda: subclassed(layers.BatchNormalization()),
    "beside a scalar": lambda: beside_a_scalar(keras.Sequential([layers.Dense(2), binary()]), Centred()),
    "saturated units": lambda: functional(Centred(), before=layers.Rescaling(1e4)),
    "halves": lambda: functional(Halves()),
    "warmed up": lambda: functional(WarmedUp()),
    "behind much dropout": lambda: functional(Centred(), layers.Dropout(0.8, seed=1), units=4),
    "behind dead units": lambda: functional(dead_units(), layers.BatchNormalization()),
    "within classes": lambda: functional(loss=within_classes),
    "a little of the loss": lambda: functional(loss=beside_a_large_loss),
    "a little, before local units": lambda: functional(Slightly(), layers.Dense(2), binary("straight_through")),
    "own objective": lambda: of_kind(OwnObjective),
    "late objective": lambda: of_kind(LateObjective),
}


def with_weights(model):
    rng = np.random.default_rng(1)
    for variable in model.model_variables:
        variable.assign(rng.normal(size=variable.shape))
    return model


def targets(model):
    return [Y, Y] if len(getattr(model, "outputs", [1])) == 2 else Y


# Enumeration refuses to take an objective of one's own as a whole; the others have no mixing to speak of with these
# weights and targets, or a local estimator, which is biased.
NOT_ENUMERATED = (
    *("own objective", "late objective", "saturated units", "warmed up", "behind much dropout", "behind dead units"),
    *("a little of the loss", "within classes", "a little, before local units"),
)
ENUMERATED = [case for case in MIXED if case not in NOT_ENUMERATED]


@pytest.mark.parametrize("case", slow_but(("first of two", "loss", "subclassed", "beside a scalar"), ENUMERATED))
def test_the_gradient_is_that_of_the_batch(case):
    model = with_weights(MIXED[case]())
    assert_unbiased(model, X, targets(model), count=12000, power=0.6)


def test_units_that_the_batch_shares_have_its_signal_beside_a_scalar():
    assert_unbiased(with_weights(beside_a_scalar(Gated())), X, [Y, Y], count=12000, power=0.6)


@pytest.mark.parametrize("case", MIXED)
def test_it_is_found_where_the_last_weights_are_zero(case):
    model = MIXED[case]()
    for variable in model.layers[-1].variables:
        variable.assign(tf.zeros_like(variable))
    assert model.mixes_examples(X, targets(model))


def test_each_example_has_the_signal_of_the_batch_in_an_objective_of_ones_own():
    """REINFORCE of the mean of f, by hand."""
    model = functional(estimator="reinforce")
    model = with_weights(OwnObjective(model.inputs[0], model.outputs[0]))
    _, (gradient, *_) = model.estimate_gradients(X, Y)
    with rt.sampling.HardSampler(model.estimator.step.value) as trace:
        f, _ = model.objective(X, Y)
    np.testing.assert_allclose(gradient, X.T @ (np.mean(f) * trace.sites[0].score), rtol=1e-4)


UNMIXED = {
    "dense": lambda: functional(layers.Dense(3, activation="relu"), layers.LayerNormalization()),
    "noise": lambda: functional(layers.Dropout(0.5), layers.GaussianNoise(0.3)),
    "attention": lambda: functional(
        layers.Reshape((2, 4)), layers.LSTM(3, return_sequences=True), SelfAttention(), layers.Flatten(), units=8
    ),
    "images": lambda: functional(layers.Reshape((4, 4, 1)), layers.Conv2D(2, 3), layers.Flatten(), units=16),
    "groups": lambda: functional(layers.Reshape((2, 2)), layers.GroupNormalization(2), layers.Flatten(), units=4),
    "a frozen normalization": lambda: functional(layers.BatchNormalization(trainable=False)),
    "before the units": lambda: centred_inputs(),
    "two layers": lambda: functional(layers.Dense(2), binary()),
    "a local layer": lambda: functional(layers.Dense(2), binary("straight_through")),
    "a local layer that is mixed": lambda: beside_mixed_local_units(),
    "float64 outputs": lambda: functional(layers.Dense(2, dtype="float64")),
    "subclassed": lambda: subclassed(),
    "float16": lambda: functional(layers.Dense(64, dtype="mixed_float16")),
}


class SelfAttention(layers.Layer):
    def __init__(self):
        super().__init__()
        self.attention = layers.MultiHeadAttention(2, 3)

    def build(self, shape):
        self.attention.build(shape, shape)

    def call(self, x):
        return self.attention(x, x)


def centred_inputs():
    inputs = keras.Input((3,))
    b = binary()(layers.Dense(2)(Centred()(layers.BatchNormalization()(inputs))))
    model = rt.StochasticModel(inputs, layers.Dense(2)(b))
    model.compile(loss="mse")
    return model


def beside_mixed_local_units():
    """Their samples have a derivative, which is right whatever they mix."""
    inputs = keras.Input((3,))
    h = layers.Dense(2)(inputs)
    b = layers.Add()([binary()(h), layers.BatchNormalization()(binary("straight_through")(h))])
    model = rt.StochasticModel(inputs, layers.Dense(2)(b))
    model.compile(loss="mse")
    return model


@pytest.mark.parametrize("case", UNMIXED)
def test_examples_that_are_apart_stay_so(case):
    assert not UNMIXED[case]().mixes_examples(X, Y)


@pytest.mark.parametrize("training", [True, False])
def test_layers_run_as_they_will(training):
    assert functional(layers.BatchNormalization()).mixes_examples(X, Y, training=training) == training


@pytest.mark.parametrize("seed", range(16))
def test_no_mask_of_dropout_hides_it(seed):
    assert functional(Centred(), layers.Dropout(0.85, seed=seed), units=3).mixes_examples(X, Y)


def test_classes_that_random_targets_seldom_share():
    one_hot = np.eye(10, dtype=np.float32)[[1, 1, 5]]
    assert functional(loss=within_classes).mixes_examples(X, one_hot)


def test_some_trial_changes_one_of_any_two_examples_and_not_the_other():
    halves = [mixing.half(4, seed) for seed in range(6)]
    for changed, stays in itertools.permutations(range(4), 2):
        assert any(half[changed] and not half[stays] for half in halves)


class Weighted(OwnObjective):
    weight = 0.0

    def objective(self, x, y=None):
        f, y_pred = super().objective(x, y)
        return self.weight * f, y_pred


def test_it_is_tried_anew_when_the_model_is_compiled():
    model = of_kind(Weighted)
    assert not model.mixes_examples(X, Y)
    model.weight = 1.0
    model.compile(rt.optimizers.Adam(1e-3))
    assert model.mixes_examples(X, Y)


def test_a_change_of_what_is_trained_or_minimised_is_seen():
    model = functional(layers.BatchNormalization())
    assert model.mixes_examples(X, Y)
    model.layers[-2].trainable = False
    assert not model.mixes_examples(X, Y)
    model.compile(loss=agreement)
    assert model.mixes_examples(X, Y)


def test_it_is_tried_once_for_each_kind_of_data(monkeypatch):
    model, tried = functional(), []
    trial = mixing.Trial.shows_mixing
    monkeypatch.setattr(mixing.Trial, "shows_mixing", lambda *args: tried.append(1) or trial(*args))
    for rows in (2, 3):
        model.fit(X[:rows], Y[:rows], epochs=2, verbose=0)
        model.estimate_gradients(X[:rows], Y[:rows])
    assert len(tried) == 1


def test_the_state_of_the_model_stays():
    model = functional(layers.BatchNormalization(), layers.Dropout(0.5))
    before = [variable.numpy() for variable in model.variables]
    model.mixes_examples(X, Y)
    for variable, was in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable, was)


def test_what_it_was_told_is_not_tried(monkeypatch):
    monkeypatch.setattr(mixing, "Trial", None)
    for told in (True, False):
        assert functional(Centred(), coupled_batch=told).mixes_examples(X, Y) is told


@pytest.mark.parametrize(
    "part",
    [
        tf.zeros([2, 3]),
        tf.zeros([2, 3], tf.int32),
        tf.zeros([2, 3], tf.bool),
        tf.sparse.from_dense(tf.ones([2, 3])),
        tf.ragged.constant([[1.0, 2.0, 3.0], [4.0]]),
        tf.ragged.constant([[[1.0], [2.0, 3.0]], [[4.0]]]),
        tf.constant([["a"], ["b"]]),
    ],
    ids=lambda part: f"{type(part).__name__}, {part.dtype.name}",
)
def test_random_examples_are_of_the_kind_of_the_data(part):
    made = mixing.random_like(part, 4, np.random.default_rng(0))
    assert type(made).__name__.replace("Eager", "") == type(part).__name__.replace("Eager", "")
    assert (made.dtype, made.shape[0]) == (part.dtype, 4)
    assert getattr(made, "ragged_rank", 0) == getattr(part, "ragged_rank", 0)
    assert mixing.kind(made)[0] == mixing.kind(part)[0]


class Failing(layers.Layer):
    def call(self, x):
        tf.debugging.assert_less(tf.shape(x)[0], 4, "too many examples")
        return x


class Random(layers.Layer):
    def call(self, x):
        return x + tf.random.normal(tf.shape(x))


class Logarithm(layers.Layer):
    def call(self, x):
        return tf.math.log(-1.0 - tf.abs(x))


@pytest.mark.parametrize(
    ("layer", "why"),
    [(Failing, "too many examples"), (Random, "another one each time"), (Logarithm, "is not finite")],
)
def test_what_cannot_be_tried_asks(layer, why):
    model = functional(layer())
    message = rf"(?s)depends on the samples of others.*{why}.*Set `coupled_batch` .* to False .* to True otherwise"
    with pytest.raises(ValueError, match=message):
        model.fit(X, Y, verbose=0)
    model.coupled_batch = False
    model.fit(X, Y, verbose=0)


def after(inputs, h):
    model = rt.StochasticModel(inputs, layers.Dense(2)(binary()(layers.Dense(2)(h))))
    model.compile("sgd", loss="mse")
    return model


def masked_tokens():
    inputs = keras.Input((1,), dtype="int32")
    h = layers.GlobalAveragePooling1D()(layers.Embedding(3, 2, mask_zero=True)(inputs))
    return after(inputs, h), np.array([[1], [2], [1]]), Y


def texts():
    inputs = keras.Input((), dtype="string")
    tokens = layers.TextVectorization(output_sequence_length=3, vocabulary=["red", "blue"])(inputs)
    h = layers.GlobalAveragePooling1D()(layers.Embedding(5, 2, mask_zero=True)(tokens))
    return after(inputs, h), tf.constant(["red", "blue red", "blue"]), Y


class WithDensity(rt.StochasticModel):
    """Minimises `log q(b|x)` with its loss, which is -inf for a class that is never drawn."""

    def objective(self, x, y=None):
        y_pred, b, logits = self(x, training=True)
        b, logits = (tf.reshape(part, [-1, 20, 3]) for part in (b, logits))
        density = tf.reduce_sum(tf.math.multiply_no_nan(tf.nn.log_softmax(logits), b), axis=[1, 2])
        return tf.reduce_sum(tf.square(y - y_pred), axis=-1) + density, y_pred


def forbidden_classes():
    inputs = keras.Input((3,))
    logits = layers.Dense(60)(inputs) + tf.constant([0.0, 0.0, -np.inf] * 20)
    b, logits = rt.layers.StochasticCategorical(3, "rloo", seed=1, return_logits=True)(logits)
    model = WithDensity(inputs, [layers.Dense(2)(b), b, logits])
    model.compile("sgd")
    return model, X, Y


def fixed_batch():
    inputs = keras.Input(batch_shape=(3, 5, 2))
    return after(inputs, layers.LSTM(2, stateful=True)(inputs)), np.ones([3, 5, 2], np.float32), Y


def images_of_any_size():
    inputs = h = keras.Input((None, None, 1))
    for _ in range(4):
        h = layers.Conv2D(2, 3, strides=2)(h)
    h = layers.GlobalAveragePooling2D()(h)
    return after(inputs, h), np.ones([3, 40, 40, 1], np.float32), Y


class WeightedLoss(rt.StochasticModel):
    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return tf.reduce_mean(sample_weight * tf.reduce_sum(tf.square(y - y_pred), axis=-1))


def subsets():
    """Whose probabilities are a derivative, taken within the model."""
    inputs = keras.Input((3,))
    b, p = rt.layers.StochasticSubset(2, "rloo", seed=1, return_probs=True)(layers.Dense(4)(inputs))
    model = rt.StochasticModel(inputs, layers.Dense(2)(layers.Concatenate()([b, p])))
    model.compile("sgd", loss="mse")
    return model, X, Y


def weighted_loss():
    plain = functional()
    model = WeightedLoss(plain.inputs[0], plain.outputs[0])
    model.compile("sgd")
    return model, X, Y, np.ones(3, np.float32)


@pytest.mark.parametrize(
    "case",
    [masked_tokens, texts, forbidden_classes, subsets, fixed_batch, images_of_any_size, weighted_loss],
    ids=lambda f: f.__name__,
)
def test_it_can_be_tried(case):
    model, *data = case()
    loss = model.train_on_batch(*data)
    assert np.isfinite(loss).all()


def test_numbers_among_the_targets_are_as_they_are():
    class Scaled(rt.StochasticModel):
        def objective(self, x, y=None):
            assert y["scale"] == 0.5
            y_pred = self(x, training=True)
            return y["scale"] * tf.reduce_sum(tf.square(y["y"] - y_pred), axis=-1), y_pred

    assert np.isfinite(of_kind(Scaled).estimate_gradients(X, {"y": Y, "scale": 0.5})[0])


def test_an_objective_of_autograph():
    class Branching(rt.StochasticModel):
        def objective(self, x, y=None):
            y_pred = self(x, training=True)
            f = tf.reduce_sum(tf.square(y - y_pred), axis=-1)
            if tf.reduce_mean(y) > 100.0:
                f = 2.0 * f
            return f, y_pred

    model = of_kind(Branching, "reinforce")
    assert np.isfinite(tf.function(lambda: model.estimate_gradients(X, Y)[0])())


def test_an_evaluation_needs_no_answer():
    class Noisy(rt.StochasticModel):
        def objective(self, x, y=None):
            y_pred = self(x, training=True)
            return tf.reduce_sum(tf.square(y - y_pred), axis=-1) + tf.random.normal([tf.shape(x)[0]]), y_pred

    model = of_kind(Noisy)
    assert np.isfinite(model.evaluate(X, Y, verbose=0)).all()
    with pytest.raises(ValueError, match="another one each time"):
        model.fit(X, Y, verbose=0)


def test_an_estimator_that_takes_examples_one_by_one_refuses_them():
    with pytest.raises(ValueError, match=r"'local_expectation' takes the examples of a batch one by one"):
        functional(Centred(), estimator="local_expectation").fit(X, Y, verbose=0)


def test_a_bound_refuses_them():
    with pytest.raises(ValueError, match="A multi-sample bound takes the examples of a batch one by one"):
        functional(Centred()).bound(X, Y, num_samples=2)
    assert np.isfinite(functional(layers.BatchNormalization()).bound(X, Y, num_samples=2)).all()


@pytest.mark.parametrize("compiled", [{"jit_compile": True, "steps_per_execution": 2}, {"run_eagerly": True}])
def test_it_is_found_however_a_step_runs(compiled):
    model = functional(Centred(), estimator="vimco")
    model.compile("sgd", loss="mse", **compiled)
    with pytest.raises(ValueError, match="takes the examples of a batch one by one"):
        model.fit(np.tile(X, [4, 1]), np.tile(Y, [4, 1]), batch_size=3, verbose=0)


def test_it_is_found_under_a_strategy(two_devices):
    with two_devices.scope():
        model = functional(Centred(), layers.BatchNormalization())
    model.fit(X[:2], Y[:2], batch_size=2, verbose=0)
    assert list(mixing._found[model].values()) == [True]
