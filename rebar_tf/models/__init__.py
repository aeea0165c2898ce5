"""The paper's models."""

from rebar_tf.models.pretrained import load_pretrained, pretrained_models
from rebar_tf.models.sigmoid_belief_network import SigmoidBeliefNetwork
from rebar_tf.models.structured_prediction_network import StructuredPredictionNetwork

__all__ = ["SigmoidBeliefNetwork", "StructuredPredictionNetwork", "load_pretrained", "pretrained_models"]
