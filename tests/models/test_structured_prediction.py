"""The structured prediction network: its objective in NumPy, its bound, proof of unbiasedness, what it refuses."""

import keras
import numpy as np
import pytest
import scipy.special
from helpers.marks import slow_but
from helpers.networks import check, dense, log_bernoulli, randomize, require_unbiased

import rebar_tf as rt
from rebar_tf.sampling import HardSampler

RNG = np.random.default_rng(0)
INPUT_MEAN, OUTPUT_MEAN = RNG.uniform(0.0, 1.0, 5), RNG.uniform(0.0, 1.0, 4)
OUTPUT_MEAN[0] = 0.0  # a pixel that is never on
X = (RNG.uniform(size=(8, 5)) < INPUT_MEAN).astype(np.float32)
Y = (RNG.uniform(size=(8, 4)) < OUTPUT_MEAN).astype(np.float32)

# What stands between x and y: the segments in order, with a stochastic layer between each two.
CHAINS = {
    ("paper", 1): ["encoder_0", "generator_0"],
    ("paper", 2): ["encoder_0", "encoder_1", "generator_0"],
    ("paper", 3): ["encoder_0", "encoder_1", "encoder_2", "generator_0"],
    ("deep", 1): ["encoder_0", "generator_0"],
    ("deep", 2): ["encoder_0", "encoder_1", "generator_1", "generator_0"],
    ("deep", 3): ["encoder_0", "encoder_1", "encoder_2", "generator_2", "generator_1", "generator_0"],
}

SMALL = pytest.mark.parametrize(("generator", "num_layers"), [("paper", 1), ("paper", 2), ("deep", 2)])


def network(generator="paper", num_layers=2, estimator="rebar", **arguments):
    """A small network with random weights and control variables."""
    sizes = dict(hidden_units=3, input_units=5, output_units=4, input_mean=INPUT_MEAN, output_mean=OUTPUT_MEAN)
    model = rt.models.StructuredPredictionNetwork(
        num_layers=num_layers, generator=generator, estimator=estimator, seed=0, **{**sizes, **arguments}
    )
    randomize(model, np.random.default_rng(0))
    return model


def logits_by_hand(model, samples):
    """Logits of each stochastic layer and of y; each sees the one before and nothing else."""
    inputs = [X - INPUT_MEAN, *(2.0 * sample - 1.0 for sample in samples)]
    *hidden, y_logits = (dense(segment, x) for segment, x in zip(model.segments, inputs, strict=True))
    return [*hidden, y_logits - np.log(1 / np.clip(OUTPUT_MEAN, 0.001, 0.999) - 1)]


@pytest.mark.parametrize("nonlinear", [False, True])
@pytest.mark.parametrize(("generator", "num_layers"), CHAINS)
def test_objective_by_hand(generator, num_layers, nonlinear):
    model = network(generator, num_layers, nonlinear=nonlinear)
    with HardSampler(3) as trace:
        f, y_logits = model.objective(X, Y)
    expected = logits_by_hand(model, [np.asarray(site.sample, np.float64) for site in trace])
    for ours, theirs in zip([*(site.logits for site in trace), y_logits], expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(f, -log_bernoulli(Y, expected[-1]), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("nonlinear", [False, True])
@pytest.mark.parametrize(("generator", "num_layers"), CHAINS)
def test_layers_of_both_generators(generator, num_layers, nonlinear):
    model = network(generator, num_layers, nonlinear=nonlinear)
    assert [segment.name for segment in model.segments] == CHAINS[generator, num_layers]
    assert [len(segment.layers) for segment in model.segments] == [3 if nonlinear else 1] * len(model.segments)
    assert len(model.stochastic_layers) == len(model.segments) - 1


def test_it_starts_as_the_belief_network_does():
    sizes = dict(hidden_units=300, seed=3)
    ours = rt.models.StructuredPredictionNetwork(input_units=200, output_units=200, **sizes)
    theirs = rt.models.SigmoidBeliefNetwork(visible_units=200, **sizes)
    segments = zip(ours.segments, (theirs.encoder[0], theirs.generator[0]), strict=True)
    for a, b in ((w, v) for pair in segments for w, v in zip(*(s.get_weights() for s in pair), strict=True)):
        np.testing.assert_array_equal(a, b)


def enumerated(model):
    """In NumPy, `[example, state]`: log-probabilities of the last stochastic layer's states, and `log p(y | state)`."""
    states = np.indices([2] * 3).reshape(3, -1).T.astype(np.float64)
    *hidden, output = model.segments
    log_p = np.stack([log_bernoulli(states, dense(hidden[0], x - INPUT_MEAN)) for x in X])
    for segment in hidden[1:]:
        transition = np.stack([log_bernoulli(states, dense(segment, 2 * b - 1)) for b in states])
        log_p = scipy.special.logsumexp(log_p[:, :, np.newaxis] + transition, axis=1)
    y_logits = dense(output, 2 * states - 1) - np.log(1 / np.clip(OUTPUT_MEAN, 0.001, 0.999) - 1)
    return log_p, np.stack([log_bernoulli(y, y_logits) for y in Y])


@SMALL
def test_bound_tends_to_the_log_likelihood(generator, num_layers):
    model = network(generator, num_layers)
    one, many = (model.bound(X, Y, num_samples=k, seed=1) for k in (1, 20_000))
    np.testing.assert_allclose(many, scipy.special.logsumexp(sum(enumerated(model)), axis=1), atol=0.05)
    assert one.mean() < many.mean()


@SMALL
def test_exact_gradient_is_that_of_the_expectation_in_numpy(generator, num_layers):
    """Which the estimates are compared with below: along each variable, by central differences."""
    model, step = network(generator, num_layers), 1e-2
    for variable, gradient in zip(model.model_variables, rt.diagnostics.exact_gradients(model, X, Y), strict=True):
        value, direction, expectations = variable.numpy(), np.sign(gradient), []
        for moved in (value + step * direction, value - step * direction):
            variable.assign(moved)
            log_p, log_likelihood = enumerated(model)
            expectations.append(-np.sum(np.exp(log_p) * log_likelihood, axis=1).mean())
        variable.assign(value)
        slope = (expectations[0] - expectations[1]) / (2 * step)
        assert slope == pytest.approx(np.abs(gradient).sum(), rel=1e-2), variable.path
        assert slope > 0


@SMALL
@pytest.mark.parametrize("estimator", slow_but(["rebar"], ["rebar", "nvil", "muprop"]))
def test_unbiased_in_every_variable(estimator, generator, num_layers):
    """An unbiased estimator is rejected with probability 1e-4; a bias of 30 % would be seen with 0.99."""
    report = check(network(generator, num_layers, estimator), X[:4], Y[:4], num_estimates=500, jit_compile=False)
    require_unbiased(report, detectable=0.3)


@pytest.mark.slow
@pytest.mark.parametrize(("generator", "num_layers"), CHAINS)
@pytest.mark.parametrize("estimator", [name for name in rt.estimators.names() if rt.estimators.get(name).unbiased])
def test_every_unbiased_estimator_is(estimator, generator, num_layers):
    three = (generator, num_layers) == ("deep", 3)
    sizes = dict(hidden_units=2) if three else {}
    num_estimates = 50_000 if three else 2500  # noise grows with the layers
    report = check(network(generator, num_layers, estimator, **sizes), X[:4], Y[:4], num_estimates=num_estimates)
    require_unbiased(report, detectable=0.3)


# Four patterns of a top half of six pixels; the bottom half says which it is.
PATTERN = np.arange(640) % 4
TOP = np.array([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1], [1, 0, 1, 0, 1, 0], [0, 1, 0, 1, 0, 1]], np.float32)[PATTERN]
BOTTOM = np.stack([PATTERN % 2, PATTERN // 2], axis=1).astype(np.float32)


def learner(estimator="rebar", jit_compile=False, **arguments):
    model = rt.models.StructuredPredictionNetwork(
        estimator=estimator, hidden_units=5, input_units=6, output_units=2, seed=0, **arguments
    )
    accuracy = keras.metrics.BinaryAccuracy(threshold=0.0)
    model.compile(optimizer=rt.optimizers.Adam(1e-2), metrics=[accuracy], jit_compile=jit_compile)
    return model


@pytest.mark.parametrize("estimator", slow_but(("rebar", "nvil", "concrete"), rt.estimators.names()))
def test_fit_learns(estimator):
    history = learner(estimator).fit(TOP, BOTTOM, batch_size=16, epochs=6, verbose=0).history
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    assert history["binary_accuracy"][-1] > history["binary_accuracy"][0]
    assert np.isfinite(history["log_grad_variance"]).all()


@pytest.mark.parametrize("generator", slow_but(["paper"], ["paper", "deep"]))
def test_two_layers_in_programs_of_several_steps(generator):
    model = learner(num_layers=2, generator=generator, jit_compile=True)
    model.steps_per_execution = 8
    before = model.bound(TOP, BOTTOM, num_samples=20).mean()
    model.fit(TOP, BOTTOM, batch_size=16, epochs=16, verbose=0)
    assert model.bound(TOP, BOTTOM, num_samples=20).mean() > before + 0.5


def test_fit_evaluate_predict_bound():
    model = learner()
    model.fit(TOP, BOTTOM, batch_size=16, epochs=10, verbose=0)
    evaluation = model.evaluate(TOP, BOTTOM, return_dict=True, verbose=0)
    assert set(evaluation) == {"loss", "binary_accuracy"}
    one, many = (model.bound(TOP, BOTTOM, num_samples=k) for k in (1, 100))
    assert one.shape == many.shape == (640,)
    assert evaluation["loss"] == pytest.approx(-one.mean(), abs=5 * one.std() * np.sqrt(2 / 640))
    assert one.mean() < many.mean() < 0.0
    predicted = model.predict(TOP, verbose=0)
    assert predicted.shape == BOTTOM.shape
    assert np.mean((predicted > 0) == BOTTOM) == pytest.approx(evaluation["binary_accuracy"], abs=0.1)
    assert evaluation["binary_accuracy"] > 0.7


def test_the_seed_fixes_every_initial_weight():
    for a, b in zip(learner().get_weights(), learner().get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("generator", slow_but(["deep"], ["paper", "deep"]))
def test_everything_is_saved(generator, tmp_path):
    means = dict(input_mean=TOP[:7].mean(axis=0), output_mean=BOTTOM[:7].mean(axis=0))
    model = learner(rt.estimators.Rebar(0.3), num_layers=2, generator=generator, nonlinear=True, **means)
    model.fit(TOP, BOTTOM, batch_size=64, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")  # safe mode is on
    assert type(again) is type(model)
    assert again.get_config() == model.get_config()
    for ours, theirs in ((model.variables, again.variables), (model.optimizer.variables, again.optimizer.variables)):
        for a, b in zip(ours, theirs, strict=True):
            if "total" not in a.path and "count" not in a.path:  # the metrics' sums, which each epoch resets
                np.testing.assert_array_equal(a, b, err_msg=a.path)
    objectives = []
    for each in (model, again):
        with HardSampler(3):
            objectives.append(each.objective(TOP, BOTTOM)[0])
    np.testing.assert_array_equal(*objectives)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_trains(policy):
    keras.config.set_dtype_policy(policy)
    try:
        model = learner()
        history = model.fit(TOP, BOTTOM, batch_size=16, epochs=6, verbose=0).history
    finally:
        keras.config.set_dtype_policy("float32")
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    assert {str(v.dtype) for v in model.trainable_variables} == {"float32"}
    assert model.predict(TOP, verbose=0).dtype == np.float32


@pytest.mark.parametrize("argument", ["num_layers", "hidden_units", "input_units", "output_units"])
@pytest.mark.parametrize("value", [0, -1, 1.5])
def test_bad_sizes_are_named(argument, value):
    with pytest.raises(ValueError, match=f"`{argument}` must be an integer of 1 or more. Received: {argument}={value}"):
        rt.models.StructuredPredictionNetwork(**{argument: value})


@pytest.mark.parametrize("generator", ["Deep", "", None])
def test_bad_generators_are_named(generator):
    with pytest.raises(ValueError, match=f"`generator` must be one of paper, deep. Received: generator={generator!r}"):
        rt.models.StructuredPredictionNetwork(generator=generator)


@pytest.mark.parametrize("argument", ["input_mean", "output_mean"])
@pytest.mark.parametrize("mean", [np.zeros(5), np.full(6, 1.5), np.full(6, np.nan), []])
def test_bad_means_are_named(argument, mean):
    with pytest.raises(ValueError, match=f"`{argument}` must be 6 numbers in"):
        rt.models.StructuredPredictionNetwork(input_units=6, output_units=6, **{argument: mean})


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (TOP * 2, BOTTOM, r"^x must have values in"),
        (TOP, BOTTOM - 1, r"^y must have values in"),
        (TOP, np.where(BOTTOM > 0, np.nan, BOTTOM), r"^y must have values in"),
        (TOP[:, :5], BOTTOM, r"^x must have the shape \[n, 6\].*\(640, 5\)"),
        (TOP, BOTTOM[:, :1], r"^y must have the shape \[n, 2\].*\(640, 1\)"),
        (TOP, BOTTOM[:, 0], r"^y must have the shape \[n, 2\].*\(640,\)"),
        (TOP, None, r"`y` must be what x is to predict, \[batch, 2\]. Received: y=None"),
    ],
)
def test_bad_images_are_refused_before_the_first_step(x, y, message):
    model = learner()
    with pytest.raises(ValueError, match=message):
        model.fit(x, y, verbose=0)
    assert int(model.estimator.step) == 0


@pytest.mark.parametrize("method", ["evaluate", "bound"])
@pytest.mark.parametrize(("x", "y", "name"), [(TOP[:, :1], BOTTOM, "x"), (TOP, BOTTOM[:, :1], "y")])
def test_images_of_another_width_are_no_broadcast(method, x, y, name):
    """One pixel would stand for all of them."""
    with pytest.raises(ValueError, match=rf"`{name}` must have the shape \[batch, .\]. Received: shape \(.*, 1\)"):
        getattr(learner(), method)(x, y)
