"""Keras layers with discrete random units."""

from rebar_tf.baseline import InputDependentBaseline
from rebar_tf.layers.stochastic import StochasticBinary, StochasticCategorical, StochasticLayer

__all__ = ["InputDependentBaseline", "StochasticBinary", "StochasticCategorical", "StochasticLayer"]
