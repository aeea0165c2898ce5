"""The public Python API on inputs of every shape, type and size: a result that is right in kind, or one clear error."""

import math

import numpy as np
import tensorflow as tf
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import rebar_tf as rt

SPECIAL = [0.0, -0.0, math.nan, math.inf, -math.inf, 1e38, -1e38, 1e-38, 88.0, -104.0]
NUMBERS = st.one_of(st.floats(-30, 30, width=32), st.sampled_from(SPECIAL))
ESTIMATORS = st.sampled_from(rt.estimators.names())
DTYPES = st.sampled_from(["float16", "float32", "float64", "int32", "bool", "complex64", "str"])
SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3)


@st.composite
def expectations(draw):
    """Arguments of `rt.expectation`."""
    shape = draw(SHAPES)
    logits = draw(arrays.arrays(np.float32, shape, elements=NUMBERS))
    return {
        "logits": logits,
        "dtype": draw(DTYPES),
        "family": draw(st.sampled_from(["bernoulli", "categorical"])),
        "estimator": draw(ESTIMATORS),
        "seed": draw(st.one_of(st.none(), st.integers(0, 2**31 - 1))),
    }


def check_expectation(case):
    """`[batch]` float32 and a gradient like the logits, both finite where the logits are; NaN stays NaN."""
    with np.errstate(all="ignore"):
        logits = tf.constant(case["logits"].astype(case["dtype"]))

    def objective(b):
        return tf.reduce_sum(tf.square(b - 0.45), axis=list(range(1, b.shape.rank)))

    try:
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = rt.expectation(objective, logits, case["estimator"], family=case["family"], seed=case["seed"])
        gradient = tape.gradient(value, logits) if logits.dtype.is_floating else None
    except ValueError as error:
        if "Received" not in str(error):
            raise
        return
    assert value.dtype == tf.float32
    assert value.shape == logits.shape[:1]
    if gradient is not None:
        assert gradient.shape == logits.shape
        modest = np.abs(case["logits"]) < 50.0
        if modest.all():
            assert np.isfinite(value).all()
            assert np.isfinite(gradient).all()
    of_rows = np.isnan(case["logits"]).any(axis=tuple(range(1, case["logits"].ndim)))
    if logits.dtype.is_floating:
        assert np.isnan(value.numpy()[of_rows]).all(), "NaN logits gave a value"


@st.composite
def layers(draw):
    """Constructor arguments of the stochastic layers, and an input."""
    some = st.one_of(st.none(), st.booleans(), st.integers(-3, 5), NUMBERS, st.text(max_size=4))
    options = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "estimator": st.one_of(ESTIMATORS, some),
                "inference": st.one_of(st.sampled_from(["sample", "mode", "mean"]), some),
                "seed": st.one_of(st.integers(-(2**40), 2**40), some),
                "unimix": st.one_of(st.floats(0, 0.99), some),
                "values": st.one_of(st.tuples(NUMBERS, NUMBERS), some),
                "num_classes": some,
            },
        )
    )
    return draw(st.sampled_from(["binary", "categorical"])), options, draw(SHAPES)


def check_layer(case):
    """An output of the input's shape, or a ValueError that says what was received."""
    kind, options, shape = case
    cls = {"binary": rt.layers.StochasticBinary, "categorical": rt.layers.StochasticCategorical}[kind]
    options.pop("values" if kind == "categorical" else "num_classes", None)
    if kind == "categorical":
        options.setdefault("num_classes", 2)
    try:
        layer = cls(**options)
        output = layer(np.zeros(shape, np.float32))
    except ValueError as error:
        if "Received" not in str(error):
            raise
        return
    assert output.shape == shape
    assert np.isfinite(output).all()
