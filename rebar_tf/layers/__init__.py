"""Keras layers with discrete random units."""

from rebar_tf.estimators.baseline import InputDependentBaseline
from rebar_tf.layers.base import StochasticLayer
from rebar_tf.layers.binary import StochasticBinary
from rebar_tf.layers.categorical import StochasticCategorical
from rebar_tf.layers.subset import StochasticSubset

__all__ = ["InputDependentBaseline", "StochasticBinary", "StochasticCategorical", "StochasticLayer", "StochasticSubset"]
