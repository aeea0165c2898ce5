"""The sigmoid belief network: its objective in NumPy, its bounds, its distributions, what it refuses."""

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf
from helpers.networks import dense, log_bernoulli

import rebar_tf as rt
from rebar_tf.sampling import HardSampler

RNG = np.random.default_rng(0)
MEAN = RNG.uniform(0.0, 1.0, 6)
MEAN[0] = 0.0  # a pixel that is never on
X = (RNG.uniform(size=(8, 6)) < MEAN).astype(np.float32)


def network(num_layers=2, nonlinear=False, **arguments):
    model = rt.models.SigmoidBeliefNetwork(
        num_layers=num_layers,
        hidden_units=3,
        nonlinear=nonlinear,
        visible_units=6,
        data_mean=MEAN,
        seed=0,
        **arguments,
    )
    for variable in model.model_variables:
        variable.assign(RNG.normal(size=variable.shape))
    return model


@pytest.mark.parametrize("nonlinear", [False, True])
@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_objective_by_hand(num_layers, nonlinear):
    model = network(num_layers, nonlinear)
    with HardSampler(3) as trace:
        f, visible = model.objective(X)
    b = [np.asarray(site.sample, np.float64) for site in trace]
    inputs = [X - MEAN, *(2 * sample - 1 for sample in b)]
    log_q = sum(log_bernoulli(b[i], dense(model.encoder[i], inputs[i])) for i in range(num_layers))
    bias = -np.log(1 / np.clip(MEAN, 0.001, 0.999) - 1)
    x_logits = dense(model.generator[0], 2 * b[0] - 1) + bias
    log_p = log_bernoulli(X, x_logits) + log_bernoulli(b[-1], np.asarray(model.prior_logits))
    log_p += sum(log_bernoulli(b[i - 1], dense(model.generator[i], 2 * b[i] - 1)) for i in range(1, num_layers))
    np.testing.assert_allclose(visible, x_logits, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(f, log_q - log_p, rtol=1e-4, atol=1e-3)


def test_segments_have_the_papers_shapes():
    linear, deep = network(2), network(2, nonlinear=True)
    assert [len(s.layers) for s in (*linear.encoder, *linear.generator)] == [1] * 4
    assert [len(s.layers) for s in (*deep.encoder, *deep.generator)] == [3] * 4
    fresh = rt.models.SigmoidBeliefNetwork(hidden_units=3, visible_units=6, seed=0)
    assert not np.any(fresh.prior_logits)
    assert not np.any(fresh.generator[0].layers[-1].bias)


def test_multi_sample_bound_tends_to_the_log_likelihood():
    """The exact marginal likelihood, by enumeration of the 2^3 states of one layer."""
    model = network(1)
    states = np.array(np.meshgrid(*[[0, 1]] * 3)).reshape(3, -1).T
    x_logits = np.asarray(model.visible_logits(tf.constant(2 * states - 1, tf.float32)), np.float64)
    log_joint = np.stack([log_bernoulli(x, x_logits) for x in X]) + log_bernoulli(
        states, np.asarray(model.prior_logits)
    )
    exact = scipy.special.logsumexp(log_joint, axis=1)
    one, many = model.bound(X, num_samples=1, seed=1), model.bound(X, num_samples=20_000, seed=1)
    np.testing.assert_allclose(many, exact, atol=0.05)
    assert one.mean() < many.mean()


def test_bound_of_one_sample_is_the_objective_on_average():
    model = network(2)
    bounds = np.stack([model.bound(np.repeat(X, 500, axis=0), num_samples=1, seed=s) for s in range(2)])
    with HardSampler(9):
        f, _ = model.objective(np.repeat(X, 1000, axis=0))
    ours, theirs = bounds.reshape(2, 8, 500).mean(axis=(0, 2)), -np.asarray(f).reshape(8, 1000).mean(1)
    error = np.asarray(f).reshape(8, 1000).std(1) * np.sqrt(2 / 1000)
    assert np.abs((ours - theirs) / error).max() < 5


def test_bound_does_not_depend_on_how_the_data_is_cut():
    model = network(1)
    x = np.repeat(X[:1], 600, axis=0)
    bounds = rt.diagnostics.multi_sample_bound(model, x, num_samples=2, batch_size=250)
    assert bounds.shape == (600,)
    assert len(np.unique(bounds[:250])) > 1
    assert not np.array_equal(bounds[:100], bounds[250:350])  # each example has noise of its own
    again = rt.diagnostics.multi_sample_bound(model, x, num_samples=2, batch_size=250)
    np.testing.assert_array_equal(bounds, again)


def test_bound_refuses_no_samples():
    with pytest.raises(ValueError, match=r"`num_samples`.*Received: num_samples=0"):
        network(1).bound(X, num_samples=0)


@pytest.mark.parametrize("num_layers", [1, 2])
def test_tfp_distributions_make_up_the_objective(num_layers):
    model = network(num_layers)
    with HardSampler(3) as trace:
        f, _ = model.objective(X)
    b = [site.sample for site in trace]
    posterior, prior = model.posterior(X), model.prior()
    if num_layers == 1:
        log_q, log_prior = posterior.log_prob(b[0]), prior.log_prob(b[0])
    else:
        log_q, log_prior = posterior.log_prob(b), prior.log_prob(b[::-1])
    log_likelihood = model.likelihood(b[0]).log_prob(X)
    np.testing.assert_allclose(log_q - log_prior - log_likelihood, f, rtol=1e-4, atol=1e-3)
    sample = prior.sample(5, seed=1)
    assert tf.nest.flatten(sample)[-1].shape == [5, 3]
    assert tf.nest.flatten(posterior.sample(seed=1))[0].shape == [8, 3]


@pytest.mark.parametrize("argument", ["num_layers", "hidden_units", "visible_units"])
@pytest.mark.parametrize("value", [0, -1, 1.5])
def test_bad_sizes_are_named(argument, value):
    with pytest.raises(ValueError, match=f"`{argument}` must be an integer of 1 or more. Received: {argument}={value}"):
        rt.models.SigmoidBeliefNetwork(**{argument: value})


@pytest.mark.parametrize("mean", [np.zeros(5), np.full(6, 1.5), np.full(6, np.nan)])
def test_bad_data_mean_is_named(mean):
    with pytest.raises(ValueError, match="`data_mean` must be 6 numbers in"):
        rt.models.SigmoidBeliefNetwork(visible_units=6, data_mean=mean)


@pytest.mark.parametrize("x", [X * 2, X - 1, np.where(X > 0, np.nan, X), X[:, :5], X[0], X.astype(str)])
def test_bad_images_are_refused_before_the_first_step(x):
    model = network(1)
    model.compile(optimizer=rt.optimizers.Adam(1e-3))
    with pytest.raises(ValueError, match=r"^x must .*Received"):
        model.fit(x, verbose=0)
    assert int(model.estimator.step) == 0


def test_images_of_another_width_are_no_broadcast():
    """One pixel would stand for all of them."""
    with pytest.raises(ValueError, match=r"`x` must have the shape \[batch, 6\]. Received: shape \(8, 1\)"):
        network(1).bound(X[:, :1])


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_predicts(policy):
    keras.config.set_dtype_policy(policy)
    try:
        model = network(2)
        predicted = model.predict(X, verbose=0)
    finally:
        keras.config.set_dtype_policy("float32")
    assert predicted.dtype == np.float32
    assert np.isfinite(predicted).all()


def test_the_direct_gradient_leaves_the_inference_network_out():
    """Its part is the score of `log q`, whose expectation is zero."""
    model = network(2)
    with tf.GradientTape() as tape, HardSampler(3):
        f, _ = model.objective(X)
    gradients = tape.gradient(f, [variable.value for variable in model.model_variables])
    reached = [gradient is not None for gradient in gradients]
    assert reached == [not variable.path.startswith("encoder") for variable in model.model_variables]
