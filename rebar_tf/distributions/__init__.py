"""The laws of discrete units: Bernoulli (logistic noise) and one-hot categorical (Gumbel noise)."""

from rebar_tf.distributions.base import Distribution
from rebar_tf.distributions.bernoulli import Bernoulli
from rebar_tf.distributions.categorical import Categorical
from rebar_tf.distributions.relaxation import RELAXATIONS, check_relaxation

FAMILIES: dict[str, type[Distribution]] = {"bernoulli": Bernoulli, "categorical": Categorical}

__all__ = ["FAMILIES", "RELAXATIONS", "Bernoulli", "Categorical", "Distribution", "check_relaxation"]
