"""Every example in a docstring runs."""

import doctest
import importlib
import pkgutil

import pytest

import rebar_tf

MODULES = sorted(
    module.name for module in pkgutil.walk_packages(rebar_tf.__path__, prefix="rebar_tf.") if not module.ispkg
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    module = importlib.import_module(name)
    outcome = doctest.testmod(module, extraglobs=vars(module), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert outcome.failed == 0


def test_the_public_classes_and_functions_have_examples():
    public = [
        rebar_tf.StochasticModel,
        rebar_tf.expectation,
        rebar_tf.layers.StochasticBinary,
        rebar_tf.layers.InputDependentBaseline,
        rebar_tf.models.SigmoidBeliefNetwork,
        rebar_tf.training.StochasticTraining,
        rebar_tf.models.StructuredPredictionNetwork,
        rebar_tf.optimizers.Adam,
        rebar_tf.diagnostics.check_unbiased,
        *(type(rebar_tf.estimators.get(name)) for name in rebar_tf.estimators.names()),
    ]
    assert [member.__name__ for member in public if ">>>" not in member.__doc__] == []
