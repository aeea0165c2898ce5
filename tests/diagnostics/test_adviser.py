"""The adviser: what it measures, against enumeration and against the other diagnostics, and what it concludes."""

import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import rebar_tf as rt
from rebar_tf.diagnostics import Advice, Measured
from rebar_tf.diagnostics.adviser import drawn
from rebar_tf.diagnostics.memory import working_megabytes
from rebar_tf.diagnostics.twin import trained, with_estimator

RNG = np.random.default_rng(0)
X = RNG.normal(size=(4, 3)).astype(np.float32)
Y = RNG.normal(size=(4, 2)).astype(np.float32)


def network(estimator="rebar", family="bernoulli"):
    keras.utils.set_random_seed(1)
    x = keras.Input((3,))
    if family == "bernoulli":
        units = rt.layers.StochasticBinary(estimator, values=(0, 1), seed=1)
    else:
        units = rt.layers.StochasticCategorical(2, estimator, seed=1)
    h = keras.layers.Dense(4, activation="tanh")(units(keras.layers.Dense(4)(x)))
    model = rt.StochasticModel(x, keras.layers.Dense(2)(h))
    model.compile(rt.optimizers.Adam(1e-3), loss="mse")
    return model


def matrix(rows, columns):
    return tf.Variable(tf.ones([rows, columns]))


def test_working_memory_is_that_of_the_values_within():
    a, b, c = matrix(1000, 500), matrix(500, 1000), matrix(1000, 100)
    for function, megabytes in (
        (lambda: a @ b, 0.0),  # its result
        (lambda: (a @ b) @ c, 4.0),  # a million floats
        (lambda: tf.sin(a) @ b, 2.0),
    ):
        assert working_megabytes(function) == pytest.approx(megabytes, abs=0.1)


def test_working_memory_is_not_known_without_the_description_of_programs(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow.compiler.xla.service.hlo_pb2", None)
    assert np.isnan(working_megabytes(lambda: tf.ones([])))


def test_where_programs_are_not_described_estimators_are_measured_all_the_same(monkeypatch):
    def refused(stage):
        raise ValueError("Failed getting HLO text")

    describe = "experimental_get_compiler_ir"
    monkeypatch.setattr(type(tf.function(lambda: None)), describe, lambda self, *args, **kwargs: refused)
    advice = rt.diagnostics.compare(network(), X, Y, names=["reinforce"], seconds=0.1)
    assert advice.best == ["reinforce"]
    assert np.isnan(advice.rows[0]["megabytes"])


def measured(name, variance, error=0.0, microseconds=100.0, unbiased=True, **kwargs):
    return Measured(name, unbiased, None, variance, error, microseconds, 0.0, **kwargs)


def test_a_twin_has_the_weights_the_loss_and_another_estimator():
    model = network()
    model.fit(X, Y, verbose=0)
    twin = with_estimator(model, "rloo")
    assert twin.estimator.estimator_name == "rloo"
    assert model.estimator.estimator_name == "rebar"
    for own, other in zip(twin.model_variables, model.model_variables, strict=True):
        np.testing.assert_array_equal(own.numpy(), other.numpy())
    np.testing.assert_allclose(*(rt.diagnostics.exact_gradients(m, X, Y)[0] for m in (twin, model)), rtol=1e-5)


def test_a_twin_of_a_belief_network_is_one():
    model = rt.models.SigmoidBeliefNetwork(hidden_units=3, visible_units=5, data_mean=np.full(5, 0.3), seed=0)
    twin = with_estimator(model, "muprop")
    images = np.ones([2, 5], np.float32)
    assert twin.estimator.estimator_name == "muprop"
    np.testing.assert_array_equal(twin.generate(4), model.generate(4))
    np.testing.assert_allclose(twin.bound(images, num_samples=400), model.bound(images, num_samples=400), atol=0.3)


def test_the_least_variance_times_time_is_taken():
    advice = Advice(
        [
            measured("slow", 1.0, 0.01, microseconds=300.0),
            measured("good", 2.0, 0.02, megabytes=3.25),
            measured("noisy", 9.0, 0.1),
            measured("wrong", 0.1, 0.001, unbiased=False, bias=0.4, bias_error=0.01),
            Measured("unable", True, reason="serves other units only"),
        ]
    )
    assert [row["estimator"] for row in advice.rows] == ["good", "slow", "noisy", "wrong"]
    assert advice.best == ["good"]
    assert (
        advice.sentence == "Take good: variance times seconds is 0.0002 +- 2e-06, 1.5 times that with slow, the next."
    )
    assert advice.left_out == {"unable": "serves other units only"}
    for part in ("   3.25 ", "0.400 +- 0.010", "left out: serves other units only", advice.sentence):
        assert part in str(advice)
    assert advice.sentence in advice._repr_html_()
    assert advice.to_pandas().loc["wrong", "bias"] == 0.4


def test_those_that_cannot_be_told_apart_are_not_ranked():
    advice = Advice([measured("a", 1.0, 0.1), measured("b", 1.2, 0.1), measured("c", 2.0, 0.1)])
    assert advice.best == ["a", "b"]
    assert advice.sentence.startswith("Take one of a, b, which are alike here: ")
    assert "2 times that with c, the next." in advice.sentence


def test_without_an_unbiased_one_there_is_no_advice():
    assert Advice([measured("wrong", 1.0, unbiased=False)]).sentence == "No unbiased estimator serves this model."


def test_a_picture_is_drawn(tmp_path):
    Advice([measured("a", 1.0, 0.1), measured("b", 0.5, 0.1, unbiased=False)]).plot(tmp_path / "advice.png")
    assert (tmp_path / "advice.png").stat().st_size > 5000


def test_estimators_are_measured_and_the_unable_named():
    model = network(family="categorical")
    before = [variable.numpy() for variable in model.variables]
    said = []
    names = ["reinforce", "straight_through", "rodeo", "vimco"]
    advice = rt.diagnostics.compare(model, X, Y, names=names, seconds=0.5, progress=said.append)
    assert [each.estimator for each in said] == names
    assert "bernoulli units only" in advice.left_out["rodeo"]
    assert advice.left_out["vimco"] == "it minimises another objective, a bound"
    assert [row["estimator"] for row in advice.rows] == ["reinforce", "straight_through"]
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_memory_grows_with_the_batch():
    x = keras.Input((3,))
    b = rt.layers.StochasticBinary("rloo", seed=1)(keras.layers.Dense(4)(x))
    model = rt.StochasticModel(x, keras.layers.Dense(200)(b))
    model.compile(rt.optimizers.Adam(1e-3), loss="mse")
    few, many = (
        rt.diagnostics.compare(model, X, np.ones([4, 200], np.float32), ["rloo"], seconds=0.1, batch_size=size)
        for size in (100, 1000)
    )
    assert many.rows[0]["megabytes"] == pytest.approx(10 * few.rows[0]["megabytes"], rel=0.1)
    assert many.rows[0]["megabytes"] > 2 * 1000 * 200 * 4 / 1e6  # the outputs of both samples


def test_batches_are_drawn_from_all_examples():
    """Their choice is a part of the variance: of one example at a time more than of all of them."""
    model = network()
    names = ["reinforce"]
    single, whole = (
        rt.diagnostics.compare(model, X, Y, names=names, seconds=2.0, batch_size=size).rows[0]["variance"]
        for size in (1, None)
    )
    assert single > 2 * whole
    seen = [drawn([np.arange(5.0), None], 3, tf.constant(step)) for step in range(60)]
    assert set(np.concatenate([x for x, _ in seen])) == set(range(5))
    assert {y for _, y in seen} == {None}
    np.testing.assert_array_equal(drawn([X, Y], 3, tf.constant(4))[0], drawn([X, Y], 3, tf.constant(4))[0])


def test_a_copy_is_trained_before_the_measurement_and_the_model_stays():
    model = network()
    loss = model.evaluate(X, Y, verbose=0)
    before = [variable.numpy() for variable in model.variables]
    copy = trained(model, X, Y, 2, 30)
    assert copy.estimator.estimator_name == "rebar"
    assert int(copy.optimizer.iterations) == 30
    assert copy.evaluate(X, Y, verbose=0) < loss
    advice = rt.diagnostics.compare(model, X, Y, names=["reinforce"], seconds=0.1, batch_size=2, steps=3)
    assert advice.best == ["reinforce"]
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    bare = rt.models.SigmoidBeliefNetwork(hidden_units=3, visible_units=5, seed=0)
    with pytest.raises(ValueError, match="compiled with an optimizer"):
        rt.diagnostics.compare(bare, np.ones([2, 5], np.float32), steps=1)


def test_the_copy_has_the_estimator_of_the_model_with_its_options_and_lists_stay_lists():
    left, right = keras.Input((3,)), keras.Input((3,))
    units = rt.layers.StochasticBinary(rt.estimators.Rloo(num_samples=5), seed=1)
    b = units(keras.layers.Dense(4)(keras.layers.Concatenate()([left, right])))
    model = rt.StochasticModel([left, right], [keras.layers.Dense(2)(b), keras.layers.Dense(2)(b)])
    model.compile("sgd", loss=["mse", "mse"])
    copy = trained(model, [X, X], [Y, Y], 3, 5)
    assert copy.estimator.num_samples == 5
    assert int(copy.optimizer.iterations) == 5


def test_inputs_and_targets_of_different_number_are_refused():
    with pytest.raises(ValueError, match=r"equally many examples. Received: \[3, 4\]"):
        rt.diagnostics.compare(network(), X, Y[:3], names=["nvil"], batch_size=2)


@pytest.mark.parametrize(("name", "value", "least"), [("batch_size", 0, 1), ("batch_size", 2.5, 1), ("steps", -1, 0)])
def test_bad_sizes_of_batches_and_numbers_of_steps_are_named(name, value, least):
    with pytest.raises(ValueError, match=rf"`{name}` must be an integer of {least} or more. Received: {name}={value}"):
        rt.diagnostics.compare(network(), X, Y, names=["nvil"], **{name: value})


@pytest.mark.slow
def test_what_is_measured_is_the_variance_and_the_bias():
    """Against `gradient_variance`, within 10 %, and against enumeration, by which straight-through is biased."""
    model = network()
    for variable in model.model_variables:  # large ones, in which the loss is far from linear
        variable.assign(RNG.normal(scale=1.5, size=variable.shape))
    names = ["reinforce", "disarm", "rebar", "straight_through"]
    advice = rt.diagnostics.compare(model, X, Y, names=names, seconds=20.0)
    found = {each.estimator: each for each in advice.measured}
    for name in ("reinforce", "disarm"):
        variances = rt.diagnostics.gradient_variance(with_estimator(model, name), X, Y, num_estimates=20_000)
        mean = np.concatenate([np.ravel(v) for v in variances]).mean()
        assert found[name].variance == pytest.approx(mean, rel=0.1)
        assert found[name].variance_error < 0.1 * mean
    assert found["rebar"].variance < found["reinforce"].variance
    exact = np.concatenate([np.ravel(g) for g in rt.diagnostics.exact_gradients(model, X, Y)])
    twin = with_estimator(model, "straight_through")
    means, _ = rt.diagnostics.variance.sample_moments(twin, X, Y, None, 20_000, True)
    bias = np.linalg.norm(np.concatenate([np.ravel(m) for m in means[:-1]]) - exact) / np.linalg.norm(exact)
    assert found["straight_through"].bias == pytest.approx(bias, abs=3 * found["straight_through"].bias_error)
    assert found["straight_through"].bias > 3 * found["straight_through"].bias_error


@keras.saving.register_keras_serializable("test_adviser")
class Subclassed(rt.training.StochasticTraining, keras.Model):
    """Makes its layers by itself: its configuration does not name the estimator."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense, self.out = keras.layers.Dense(3), keras.layers.Dense(2)
        self.units = rt.layers.StochasticBinary("rebar", seed=1)

    def call(self, x, training=None):
        return self.out(self.units(self.dense(x), training=training))


def test_a_subclassed_model_s_twin_has_the_other_estimator():
    model = Subclassed()
    model.compile(rt.optimizers.Adam(1e-3), loss="mse")
    model.fit(X, Y, verbose=0)
    for name in ("rloo", "straight_through"):
        twin = with_estimator(model, name)
        twin.estimate_gradients(X, Y)
        assert twin.estimator.estimator_name == name
        np.testing.assert_array_equal(twin.dense.kernel, model.dense.kernel)


def test_frozen_layers_that_a_copy_would_thaw_are_named():
    model = Subclassed()
    model.compile(rt.optimizers.Adam(1e-3), loss="mse")
    model.fit(X, Y, verbose=0)
    model.dense.trainable = False
    with pytest.raises(ValueError, match="has frozen layers"):
        with_estimator(model, "rloo")


def test_one_without_noise_is_advised_as_such():
    advice = Advice([measured("exact", 0.0), measured("a", 1.0, 0.1)])
    assert "Take exact: " in advice.sentence
    assert "next to nothing beside 0.0001 with a, the next." in advice.sentence
    assert "exact" in str(advice)


def test_what_is_wrong_with_model_or_data_is_an_error_and_no_hole():
    with pytest.raises(ValueError):
        rt.diagnostics.compare(network(), X[:, :2], Y, names=["reinforce"])
    x = keras.Input((3,))
    bare = rt.StochasticModel(x, rt.layers.StochasticBinary("rebar")(keras.layers.Dense(2)(x)))
    with pytest.raises(ValueError, match="must be compiled"):
        rt.diagnostics.compare(bare, X, Y, names=["reinforce"])


def test_estimates_that_are_not_finite_leave_an_estimator_out():
    advice = rt.diagnostics.compare(network(), X, Y * np.float32(np.inf), names=["reinforce"], seconds=0.1)
    assert advice.left_out == {"reinforce": "its estimates are not finite"}


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan"), "60"])
def test_seconds_must_be_positive(seconds):
    with pytest.raises(ValueError, match="`seconds` must be a positive number"):
        rt.diagnostics.compare(network(), X, Y, seconds=seconds)


def test_an_unknown_estimator_is_refused_before_all_else():
    with pytest.raises(ValueError, match=r"`estimator` must be one of .* Received: estimator='unknown'"):
        rt.diagnostics.compare(network(), X, Y, names=["rebar", "unknown"])
