"""How methods are spelt where people look."""

import pytest

import rebar_tf as rt
from trainers.common import methods


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("simple_muprop", "SimpleMuProp"),
        ("rebar:0.1", "REBAR (0.1)"),
        ("nvil", "NVIL"),
        ("own:2", "own (2)"),
    ],
)
def test_labels_are_those_of_the_papers(name, label):
    assert methods.label(name) == label


def test_every_estimator_is_spelt():
    assert {name for name in rt.estimators.names() if methods.label(name) == name} == set()
