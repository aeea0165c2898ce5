"""The laws of discrete units: Bernoulli (logistic noise), one-hot categorical (Gumbel noise), and subsets of a size."""

from rebar_tf.distributions.base import Distribution, IndependentUnits, independent
from rebar_tf.distributions.bernoulli import Bernoulli
from rebar_tf.distributions.categorical import Categorical
from rebar_tf.distributions.relaxation import RELAXATIONS, check_relaxation
from rebar_tf.distributions.subset import Subset

FAMILIES: dict[str, type[Distribution]] = {"bernoulli": Bernoulli, "categorical": Categorical}

__all__ = [
    "FAMILIES",
    "RELAXATIONS",
    "Bernoulli",
    "Categorical",
    "Distribution",
    "IndependentUnits",
    "Subset",
    "check_relaxation",
    "independent",
]
