"""Models of many kinds, as users write them, each with two estimators, held to enumeration."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.marks import slow_but
from helpers.oracle import assert_unbiased
from keras import layers, ops

import rebar_tf as rt

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 3)).astype(np.float32)
Y = RNG.normal(size=(2, 2)).astype(np.float32)
LABELS = np.array([1, 0])
IMAGES = RNG.normal(size=(2, 2, 2, 1)).astype(np.float32)
ROWS = RNG.normal(size=(2, 3, 2)).astype(np.float32)
SEQUENCES = RNG.normal(size=(2, 2, 3)).astype(np.float32)


def binary(estimator, h, units=2, values=(0, 1)):
    return rt.layers.StochasticBinary(estimator, values=values, seed=1)(layers.Dense(units)(h))


def categorical(estimator, h, classes=3):
    return rt.layers.StochasticCategorical(classes, estimator, seed=1)(layers.Dense(classes)(h))


def compiled(model, loss="mse", **options):
    model.compile(optimizer=rt.optimizers.Adam(1e-3), loss=loss, **options)
    rng = np.random.default_rng(1)
    for variable in model.model_variables:
        variable.assign(rng.normal(size=variable.shape))
    return model


def skip_connection(estimator):
    """The loss sees the inputs beside the samples; cosine similarity."""
    first, second = keras.Input((3,)), keras.Input((3,))
    b = binary(estimator, layers.Add()([first, second]))
    outputs = layers.Dense(2)(layers.Concatenate()([b, second]))
    model = rt.StochasticModel([first, second], outputs)
    return compiled(model, keras.losses.CosineSimilarity()), [X, X[::-1].copy()], Y


def convolutions(estimator):
    """Feature maps of binary units between two convolutions; labels."""
    inputs = keras.Input((2, 2, 1))
    maps = rt.layers.StochasticBinary(estimator, seed=1)(layers.Conv2D(1, 2, padding="same")(inputs))
    outputs = layers.Dense(2)(layers.Flatten()(layers.Conv2D(2, 2)(maps)))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return compiled(rt.StochasticModel(inputs, outputs), loss), IMAGES, LABELS


def hard_attention(estimator):
    """A one-hot sample picks a step of a sequence."""
    inputs = keras.Input((3, 2))
    chosen = categorical(estimator, layers.Flatten()(inputs))
    outputs = layers.Dense(2, activation="tanh")(layers.Dot(axes=1)([chosen, inputs]))
    return compiled(rt.StochasticModel(inputs, outputs)), ROWS, Y


def mixture_of_experts(estimator):
    """A one-hot sample picks one of three networks."""
    inputs = keras.Input((3,))
    gate = layers.Reshape((3, 1))(categorical(estimator, inputs))
    experts = layers.Reshape((3, 2))(layers.Dense(6)(inputs))
    outputs = layers.Lambda(lambda parts: ops.sum(parts[0] * parts[1], axis=1), output_shape=(2,))([gate, experts])
    return compiled(rt.StochasticModel(inputs, outputs), keras.losses.Huber()), X, Y


def siamese(estimator):
    """One encoder and one stochastic layer, called on two inputs; the loss is of the difference."""
    first, second = keras.Input((3,)), keras.Input((3,))
    encoder, units = layers.Dense(2), rt.layers.StochasticBinary(estimator, seed=1)
    difference = layers.Subtract()([units(encoder(first)), units(encoder(second))])
    model = rt.StochasticModel([first, second], layers.Dense(2)(difference))
    return compiled(model, "log_cosh"), [X, -X[::-1].copy()], Y


def normalised_by_example(estimator):
    """Layer normalisation and an activity penalty behind the samples: neither is batch normalisation."""
    inputs = keras.Input((3,))
    h = layers.Dense(3, activity_regularizer=keras.regularizers.L1(0.3))(binary(estimator, inputs))
    return compiled(rt.StochasticModel(inputs, layers.Dense(2)(layers.LayerNormalization()(h)))), X, Y


def products(estimator):
    """Two groups of units that only their products reach the loss by; counts."""
    inputs = keras.Input((3,))
    pair = layers.Multiply()([binary(estimator, inputs), binary(estimator, inputs, values=(-1, 1))])
    outputs = layers.Dense(2, activation="softplus")(pair)
    return compiled(rt.StochasticModel(inputs, outputs), keras.losses.Poisson()), X, np.abs(np.round(2 * Y))


def three_kinds_deep(estimator):
    """Binary, categorical, binary, each on the one before, with all of them in the loss."""
    inputs = keras.Input((3,))
    first = binary(estimator, inputs, units=1)
    second = categorical(estimator, layers.Concatenate()([first, inputs]), classes=2)
    third = binary(estimator, second, units=1)
    return compiled(rt.StochasticModel(inputs, layers.Dense(2)(layers.Concatenate()([first, second, third])))), X, Y


def recurrent_reader(estimator):
    """A GRU reads a sequence of samples."""
    inputs = keras.Input((2, 3))
    b = rt.layers.StochasticBinary(estimator, seed=1)(layers.Dense(1)(inputs))
    outputs = layers.Dense(2)(layers.GRU(2, unroll=True)(b))
    return compiled(rt.StochasticModel(inputs, outputs), "mse"), SEQUENCES, 3.0 * Y


class HandElbo(rt.training.StochasticTraining, keras.Model):
    """A variational autoencoder whose divergence at the sample is an added loss, and whose prior is trained."""

    def __init__(self, estimator):
        super().__init__()
        self.encoder, self.decoder = layers.Dense(2), layers.Dense(2)
        self.units = rt.layers.StochasticBinary(estimator, values=(0, 1), seed=1)
        self.prior = self.add_weight(shape=(2,), initializer="zeros", name="prior")

    def call(self, x, training=None):
        logits = self.encoder(x)
        b = self.units(logits, training=training)

        def log_p(logits):
            return tf.reduce_sum(b * logits - tf.nn.softplus(logits), axis=-1)

        self.add_loss(tf.reduce_mean(log_p(logits) - log_p(self.prior.value)))
        return self.decoder(b)


def hand_elbo(estimator):
    model = HandElbo(estimator)
    model.compile(loss="mse", optimizer="sgd")
    model.estimate_gradients(X, Y)
    return compiled(model), X, Y


def contrast_in_the_batch(estimator):
    """Each example against the other ones of its batch: a loss of the whole batch."""

    def contrast(y, y_pred):
        return tf.reduce_mean(
            tf.nn.sparse_softmax_cross_entropy_with_logits(tf.range(tf.shape(y)[0]), y_pred @ tf.transpose(y))
        )

    inputs = keras.Input((3,))
    return compiled(rt.StochasticModel(inputs, layers.Dense(2)(binary(estimator, inputs))), contrast), X, Y


def pooled_and_centred(estimator):
    """A layer of the user's own takes the mean over the batch from the samples."""

    class Centre(layers.Layer):
        def call(self, x):
            return x - ops.mean(x, axis=0, keepdims=True)

    inputs = keras.Input((3,))
    model = rt.StochasticModel(inputs, layers.Dense(2)(Centre()(binary(estimator, inputs))), coupled_batch=True)
    return compiled(model), X, Y


def weighted_ranking(estimator):
    """Three losses of one output tree, one without a target's loss, with weights of outputs and examples."""
    inputs = keras.Input((3,))
    b = binary(estimator, inputs)
    outputs = {
        "score": layers.Dense(1, activation="sigmoid", name="score")(b),
        "aside": layers.Dense(2, name="aside")(b),
    }
    losses = {"score": keras.losses.BinaryFocalCrossentropy(), "aside": keras.losses.CategoricalHinge()}
    model = compiled(rt.StochasticModel(inputs, outputs), losses, loss_weights={"score": 3.0, "aside": 0.5})
    return model, X, {"score": LABELS[:, None].astype("float32"), "aside": Y}, np.array([0.5, 2.0], np.float32)


class Penalty(layers.Layer):
    """A loss on what passes through."""

    def call(self, x):
        self.add_loss(ops.mean(ops.square(x - 0.3)))
        return x


def slices(estimator):
    """Parts of a sample, by indexing, which Keras takes as an operation and not a layer; a loss that a layer adds."""
    inputs = keras.Input((3,))
    b = binary(estimator, inputs, units=3)
    outputs = layers.Dense(2)(layers.Concatenate()([b[:, 2:], Penalty()(b[:, :2])]))
    return compiled(rt.StochasticModel(inputs, outputs)), X, Y


CASES = [
    (skip_connection, "rebar", "rodeo"),
    (convolutions, "relax", "arm"),
    (hard_attention, "rebar", "double_cv"),
    (mixture_of_experts, "muprop", "rloo"),
    (siamese, "rebar", "disarm"),
    (normalised_by_example, "relax", "simple_muprop"),
    (products, "rebar", "muprop"),
    (three_kinds_deep, "rebar", "lax"),
    (recurrent_reader, "rebar", "nvil"),
    (hand_elbo, "rebar", "disarm"),
    (contrast_in_the_batch, "relax", "rloo"),
    (pooled_and_centred, "rebar", "q_function"),
    (weighted_ranking, "rebar", "reinforce"),
    (slices, "rebar", "rloo"),
]
MIXED = [hand_elbo, contrast_in_the_batch, pooled_and_centred]  # their loss is not a mean over the examples


WITH_FIRST = [(build, first) for build, first, _ in CASES]
WITH_SECOND = [(build, second) for build, _, second in CASES]


QUICK = [
    *(case for case in WITH_FIRST if case[0] in (skip_connection, hard_attention, hand_elbo, pooled_and_centred)),
    *(case for case in WITH_SECOND if case[0] in (convolutions, mixture_of_experts, siamese, normalised_by_example)),
    *(case for case in WITH_SECOND if case[0] in (products, contrast_in_the_batch, weighted_ranking, slices)),
]


@pytest.mark.parametrize(("build", "estimator"), slow_but(QUICK, WITH_FIRST + WITH_SECOND))
def test_the_gradient_is_that_of_keras_s_loss(build, estimator):
    repeats = 1 if build in MIXED else 10
    assert_unbiased(*build(estimator), count=10_000 * repeats, power=0.6, repeats=repeats)
