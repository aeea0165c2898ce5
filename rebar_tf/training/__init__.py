"""The training of Keras models with stochastic layers."""

from rebar_tf.training.bounds import multi_sample_bound
from rebar_tf.training.factored_dense import FactoredDense
from rebar_tf.training.functional import StochasticModel
from rebar_tf.training.metrics import LogGradientVariance
from rebar_tf.training.model import StochasticTraining
from rebar_tf.training.multi_step import MultiStepTraining
from rebar_tf.training.run_group import RunGroup

__all__ = [
    "FactoredDense",
    "LogGradientVariance",
    "MultiStepTraining",
    "RunGroup",
    "StochasticModel",
    "StochasticTraining",
    "multi_sample_bound",
]
