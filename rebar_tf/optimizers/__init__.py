"""The optimizer of the paper, and learning-rate groups for any other."""

from rebar_tf.optimizers.adam import Adam
from rebar_tf.optimizers.groups import LearningRateGroups

__all__ = ["Adam", "LearningRateGroups"]
