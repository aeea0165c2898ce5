"""Keras models that train stochastic layers."""

from rebar_tf.models.comparison import EstimatorComparison
from rebar_tf.models.sigmoid_belief_network import SigmoidBeliefNetwork
from rebar_tf.models.structured_prediction_network import StructuredPredictionNetwork
from rebar_tf.models.training import StochasticModel, StochasticTraining

__all__ = [
    "EstimatorComparison",
    "SigmoidBeliefNetwork",
    "StochasticModel",
    "StochasticTraining",
    "StructuredPredictionNetwork",
]
