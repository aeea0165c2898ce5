"""Low-variance, unbiased gradients through discrete random units, for TensorFlow 2 and Keras 3."""

from rebar_tf import (
    callbacks,
    datasets,
    diagnostics,
    distributions,
    estimators,
    initializers,
    layers,
    models,
    optimizers,
    sampling,
    training,
)
from rebar_tf.expectation import expectation
from rebar_tf.training import StochasticModel

__all__ = [
    "StochasticModel",
    "callbacks",
    "datasets",
    "diagnostics",
    "distributions",
    "estimators",
    "expectation",
    "initializers",
    "layers",
    "models",
    "optimizers",
    "sampling",
    "training",
]

__version__ = "0.1.0"
