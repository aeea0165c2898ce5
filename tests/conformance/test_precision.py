"""Under any dtype policy the estimate is that of float32, up to the rounding of the policy; tiny gradients survive."""

import functools

import keras
import numpy as np
import pytest
from helpers.marks import slow_but
from helpers.networks import belief_network, check

import rebar_tf as rt
from rebar_tf.training.factored_dense import FactoredDense

RNG = np.random.default_rng(0)
X = RNG.normal(size=(16, 3)).astype(np.float32)
Y = RNG.normal(size=(16, 2)).astype(np.float32)


@pytest.fixture(autouse=True)
def float32_afterwards():
    yield
    keras.config.set_dtype_policy("float32")


def make_model(policy, estimator, dense=keras.layers.Dense, optimizer=None, loss_weights=None):
    keras.config.set_dtype_policy(policy)
    inputs = keras.Input((3,))
    b = rt.layers.StochasticBinary(estimator, seed=1)(dense(4)(inputs))
    model = rt.StochasticModel(inputs, dense(2)(dense(4, activation="tanh")(b)))
    model.compile(optimizer or rt.optimizers.Adam(0.01), loss="mse", loss_weights=loss_weights)
    return model


def pair(policy, *args, **options):
    """A model under the policy, and one in float32 of the same weights."""
    plain, model = make_model("float32", *args, **options), make_model(policy, *args, **options)
    rng = np.random.default_rng(1)
    for variable, other in zip(plain.model_variables, model.model_variables, strict=True):
        value = rng.normal(size=variable.shape)
        variable.assign(value)
        other.assign(value)
    for variable, other in zip(plain.estimator.weights, model.estimator.weights, strict=True):
        other.assign(variable)
    return model, plain


def assert_close(model, plain, tolerance):
    """Each gradient, in units of its largest entry; those of the estimator's variables included."""
    (loss, gradients), (expected, others) = (made.estimate_gradients(X, Y) for made in (model, plain))
    assert float(loss) == pytest.approx(float(expected), rel=tolerance)
    for gradient, other, variable in zip(gradients, others, model.trainable_variables, strict=True):
        assert (gradient is None) == (other is None)
        if other is not None:
            assert gradient.dtype == variable.dtype
            size = np.abs(other).max()
            np.testing.assert_allclose(gradient / size, other / size, atol=tolerance, err_msg=variable.path)


@pytest.mark.parametrize("estimator", ["rebar", "relax", "rloo", "muprop", "straight_through", "vimco"])
def test_float64(estimator):
    """Objective and estimate are float32, as Keras's loss is."""
    assert_close(*pair("float64", estimator), 1e-5)


def test_float64_with_factored_gradients():
    model, plain = pair("float64", "rebar", FactoredDense)
    assert_close(model, plain, 1e-5)
    histories = [made.fit(X, Y, epochs=2, shuffle=False, verbose=0).history for made in (model, plain)]
    for name, values in histories[1].items():
        np.testing.assert_allclose(histories[0][name], values, rtol=1e-4, err_msg=name)


@pytest.mark.parametrize("estimator", ["rebar", "rloo", "concrete"])
def test_bfloat16(estimator):
    assert_close(*pair("mixed_bfloat16", estimator), 0.05)


@pytest.mark.parametrize(
    ("estimator", "dense"),
    [("rebar", keras.layers.Dense), ("rebar", FactoredDense), ("rloo", FactoredDense)]
    + [(name, keras.layers.Dense) for name in ("concrete", "muprop")],
)
def test_tiny_gradients_survive_float16(estimator, dense):
    """At 1e-6 of a loss near 1 the cotangents within the layers are below what float16 can hold."""
    model, plain = pair("mixed_float16", estimator, dense, loss_weights=1e-6)
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert_close(model, plain, 0.01)


def test_the_best_scales_of_tiny_gradients_are_those_of_float32():
    pairs = [
        rt.diagnostics.optimal_scales(made, X, Y, 50) for made in pair("mixed_float16", "rebar", loss_weights=1e-6)
    ]
    np.testing.assert_allclose(*pairs, rtol=0.02)


def test_an_optimizer_with_a_fixed_scale_takes_the_step_of_one_without():
    weights = []
    for scale in (None, 256.0):
        optimizer = keras.optimizers.SGD(0.1, loss_scale_factor=scale)
        keras.utils.set_random_seed(0)
        model = make_model("float32", "rebar", optimizer=optimizer)
        model.fit(X, Y, epochs=1, verbose=0)
        weights.append(model.get_weights()[0])
    np.testing.assert_allclose(*weights, rtol=1e-5)


def test_a_step_that_overflows_is_skipped_and_leaves_the_moments_alone():
    scaled = keras.optimizers.LossScaleOptimizer(rt.optimizers.Adam(0.01), initial_scale=2.0**30)
    model = make_model("mixed_float16", "rebar", optimizer=scaled)
    before = model.get_weights()[0]
    model.train_on_batch(X, Y)
    np.testing.assert_array_equal(model.get_weights()[0], before)
    assert float(scaled.dynamic_scale.numpy()) == 2.0**29
    assert not any(np.any(moment.numpy()) for moment in model.gradient_variance.first)
    history = model.fit(X, Y, epochs=30, verbose=0).history
    assert np.isfinite(history["log_grad_variance"][-1])
    assert np.abs(model.get_weights()[0] - before).max() > 0.0


def test_skipped_steps_are_counted_and_are_steps():
    scaled = keras.optimizers.LossScaleOptimizer(rt.optimizers.Adam(0.01), initial_scale=2.0**30)
    model = make_model("mixed_float16", "rebar", optimizer=scaled)
    history = model.fit(X, Y, batch_size=4, epochs=10, verbose=0).history
    skipped = 40 - int(scaled.iterations.numpy())
    assert 0 < skipped < 40
    assert history["skipped_steps"][-1] == skipped
    assert rt.callbacks.global_step(model) == 40


@pytest.mark.parametrize(
    ("make", "shapes"),
    [
        (lambda **options: rt.models.SigmoidBeliefNetwork(1, 3, visible_units=5, seed=1, **options), [5]),
        (
            lambda **options: rt.models.StructuredPredictionNetwork(1, 3, input_units=5, output_units=2, **options),
            [5, 2],
        ),
    ],
    ids=["belief network", "structured prediction"],
)
@pytest.mark.parametrize("by_argument", [False, True])
def test_the_paper_s_networks_keep_their_precision(make, shapes, by_argument, tmp_path):
    """Whether it is the global policy or an argument, a file holds it, and a loss-scaling optimizer with its state."""
    keras.config.set_dtype_policy("float32" if by_argument else "mixed_float16")
    model = make(nonlinear=True, **({"dtype": "mixed_float16"} if by_argument else {}))
    model.compile(rt.optimizers.Adam(0.01))
    data = [np.ones([8, size], np.float32) for size in shapes]
    model.fit(*data, batch_size=4, verbose=0)
    model.save(tmp_path / "model.keras")
    for policy in ("float32", "mixed_bfloat16"):  # whatever is set when it is loaded
        keras.config.set_dtype_policy(policy)
        loaded = keras.models.load_model(tmp_path / "model.keras")
        assert isinstance(loaded.optimizer, keras.optimizers.LossScaleOptimizer)
        layers, others = ([layer for layer in made._flatten_layers() if layer.weights] for made in (model, loaded))
        assert [layer.dtype_policy.name for layer in layers] == [layer.dtype_policy.name for layer in others]
        assert sum(layer.compute_dtype == "float16" for layer in others) >= 6
        for ours, theirs in zip(model.optimizer.variables, loaded.optimizer.variables, strict=True):
            np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


LAYERS = 2
UNIT = 2.0**-9  # of bfloat16, which keeps 8 bits: half the distance of two neighbours, relative
ROUNDINGS = 6 * LAYERS  # on the way to a weight: 3 of each layer, inputs, weights and result, forwards and back


def network(estimator, policy):
    keras.config.set_dtype_policy(policy)
    return belief_network(estimator, LAYERS)


@functools.cache
def truth():
    """Of each variable the exact gradient, and the root mean square of one example's estimate by plain REINFORCE."""
    report = check(*network("reinforce", "float32"))
    examples = 4 * 512 * report.num_estimates
    moments = zip(report.standard_error, report.mean, strict=True)
    return report.exact, [np.sqrt(examples * np.square(error) + np.square(mean)) for error, mean in moments]


def bias_and_allowance(name, policy):
    """Of each coordinate the error of the mean of 128,000 estimates in units of what noise and rounding allow.

    An estimate is a sum of products of an objective and derivatives. Each factor of a product is rounded, which changes
    it by no more than its own size times `ROUNDINGS * UNIT`, to first order, and the mean by no more than that times
    the mean size. That of the terms of plain REINFORCE bounds it: other estimators subtract what has its size, and the
    root mean square of one example's estimate is no less than its mean size. To it comes what noise allows, with the
    threshold of `check_unbiased`: one false alarm in 10,000.
    """
    exact, sizes = truth()
    report = check(*network(name, policy))
    parts = zip(report.mean, exact, report.standard_error, sizes, strict=True)
    return max(
        np.max(np.abs(mean - right) / (report.threshold * error + ROUNDINGS * UNIT * size))
        for mean, right, error, size in parts
    )


@pytest.mark.parametrize("name", slow_but(["rebar", "disarm"], ["rebar", "relax", "disarm", "muprop", "rloo", "arms"]))
def test_unbiased_in_bfloat16_but_for_rounding(name):
    assert bias_and_allowance(name, "mixed_bfloat16") <= 1.0


@pytest.mark.parametrize("name", slow_but(["straight_through"], ["straight_through", "concrete"]))
def test_a_bias_that_is_not_rounding_is_seen_in_bfloat16(name):
    assert bias_and_allowance(name, "mixed_bfloat16") > 1.0
