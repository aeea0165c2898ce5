"""What shows whether an estimator is right, and how noisy it is."""

from rebar_tf.diagnostics.advice import Advice, Measured
from rebar_tf.diagnostics.adviser import compare
from rebar_tf.diagnostics.compared_variance import ComparedVariance
from rebar_tf.diagnostics.comparison import EstimatorComparison
from rebar_tf.diagnostics.enumeration import exact_gradients
from rebar_tf.diagnostics.expectation_model import expectation_model
from rebar_tf.diagnostics.scales import optimal_scales
from rebar_tf.diagnostics.unbiasedness import BiasReport, check_unbiased
from rebar_tf.diagnostics.variance import gradient_variance
from rebar_tf.training import multi_sample_bound

__all__ = [
    "Advice",
    "BiasReport",
    "ComparedVariance",
    "EstimatorComparison",
    "Measured",
    "check_unbiased",
    "compare",
    "exact_gradients",
    "expectation_model",
    "gradient_variance",
    "multi_sample_bound",
    "optimal_scales",
]
