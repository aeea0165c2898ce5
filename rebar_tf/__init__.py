"""Low-variance, unbiased gradients through discrete random units, for TensorFlow 2 and Keras 3."""

from rebar_tf import (
    bounds,
    callbacks,
    datasets,
    estimators,
    initializers,
    layers,
    metrics,
    models,
    optimizers,
    random,
    reparameterization,
    sampling,
    testing,
)
from rebar_tf.expectation import expectation
from rebar_tf.models import StochasticModel

__all__ = [
    "StochasticModel",
    "bounds",
    "callbacks",
    "datasets",
    "estimators",
    "expectation",
    "initializers",
    "layers",
    "metrics",
    "models",
    "optimizers",
    "random",
    "reparameterization",
    "sampling",
    "testing",
]

__version__ = "0.1.0"
