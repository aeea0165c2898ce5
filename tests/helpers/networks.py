"""Networks small enough to enumerate, with random weights and control variables, for the proof of unbiasedness."""

import math
import zlib

import keras
import numpy as np

import rebar_tf as rt

UNBIASED = [name for name in rt.estimators.names() if rt.estimators.get(name).unbiased]
BIASED = [name for name in rt.estimators.names() if not rt.estimators.get(name).unbiased]
SUBSET_LAYERS = [((5,), 2), ((2, 3), 1), ((4,), 3)]  # groups and units, and the size of a subset
CATEGORICAL_LAYERS = [(2, 3), (1, 4), (2, 2)]  # variables and classes


def serving(names, family):
    return [name for name in names if family in rt.estimators.get(name).families]


def randomize(model, rng):
    """Weights at random, control variables away from where they start."""
    for variable in model.model_variables:
        variable.assign(rng.normal(size=variable.shape))
    randomize_control(model.control_variables)


def randomize_control(variables):
    """Moves scales, baselines, temperatures and learned control variates, each to where its name alone decides."""
    for variable in variables:
        is_matrix = len(variable.shape) == 2
        name = variable.path.replace("/temperature/", "/").replace("/scale/", "/")
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        noise = rng.normal(scale=0.5 / np.sqrt(variable.shape[0] if is_matrix else 1), size=variable.shape)
        variable.assign(noise if is_matrix else variable + noise)


def belief_network(estimator, num_layers, seed=0):
    """Binary layers, with the densities of the layers in the objective."""
    model = rt.models.SigmoidBeliefNetwork(
        num_layers=num_layers, hidden_units=3, visible_units=5, seed=seed, estimator=estimator
    )
    randomize(model, np.random.default_rng(seed))
    return model, np.random.default_rng(seed).integers(0, 2, (4, 5)).astype(np.float32), None


def categorical_network(estimator, num_layers, seed=0):
    """Categorical layers of several widths; the loss sees all of them."""
    inputs = keras.Input((3,))
    samples, h = [], inputs
    for i, (variables, classes) in enumerate(CATEGORICAL_LAYERS[:num_layers]):
        logits = keras.layers.Dense(variables * classes)(h)
        samples.append(rt.layers.StochasticCategorical(classes, estimator, seed=seed + i)(logits))
        h = samples[-1]
    seen = samples[0] if num_layers == 1 else keras.layers.Concatenate()(samples)
    return functional(inputs, keras.layers.Dense(2)(seen), seed)


def subset_network(estimator, num_layers, seed=0):
    """Subsets of several sizes, in one group of units or in two; the loss sees all of them."""
    inputs = keras.Input((3,))
    samples, h = [], inputs
    for i, (shape, size) in enumerate(SUBSET_LAYERS[:num_layers]):
        logits = keras.layers.Reshape(shape)(keras.layers.Dense(math.prod(shape))(h))
        subset = rt.layers.StochasticSubset(size, estimator, seed=seed + i)(logits)
        samples.append(keras.layers.Flatten()(subset))
        h = samples[-1]
    seen = samples[0] if num_layers == 1 else keras.layers.Concatenate()(samples)
    return functional(inputs, keras.layers.Dense(2)(seen), seed)


def chain_network(estimator, seed=0):
    """Two binary layers of other values and widths, a nonlinear segment between them; the loss sees the second only."""
    inputs = keras.Input((3,))
    first = rt.layers.StochasticBinary(estimator, values=(0, 1), seed=1)(keras.layers.Dense(4)(inputs))
    hidden = keras.layers.Dense(3, activation="tanh")(first)
    second = rt.layers.StochasticBinary(estimator, seed=2)(keras.layers.Dense(2)(hidden))
    return functional(inputs, keras.layers.Dense(2)(second), seed)


def functional(inputs, outputs, seed):
    model = rt.StochasticModel(inputs, outputs)
    model.compile(optimizer=rt.optimizers.Adam(1e-3), loss="mse")
    randomize(model, np.random.default_rng(seed))
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(4, 3)), rng.normal(size=(4, 2))
    return model, x.astype(np.float32), y.astype(np.float32)


INDEPENDENT = {"bernoulli": belief_network, "categorical": categorical_network}  # units that a relaxation serves
NETWORKS = {**INDEPENDENT, "subset": subset_network}


def check(model, x, y, num_estimates=250, **kwargs):
    """128,000 samples of each example; a few of an estimate that has no variance."""
    if isinstance(model.estimator, rt.estimators.Exact):
        return rt.diagnostics.check_unbiased(model, x, y, num_estimates=5, **kwargs)
    return rt.diagnostics.check_unbiased(model, x, y, num_estimates, repeats=512, **kwargs)


def require_unbiased(report, detectable):
    assert report.detectable < detectable, f"the check has too little power\n{report}"
    assert report.unbiased, f"biased\n{report}"


def log_bernoulli(b, logits):
    """In NumPy, summed over the units."""
    return np.sum(b * logits - np.logaddexp(0, logits), axis=-1)


def dense(segment, x):
    """A segment of the paper's networks by its weights: tanh between, linear last."""
    weights = [np.asarray(w, np.float64) for w in segment.get_weights()]
    for kernel, bias in zip(weights[:-2:2], weights[1:-2:2], strict=True):
        x = np.tanh(x @ kernel + bias)
    return x @ weights[-2] + weights[-1]
