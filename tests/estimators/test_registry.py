"""The estimators by name and by property."""

import pytest

import rebar_tf as rt

ALL = rt.estimators.names()


def test_names_are_sorted_and_those_of_the_classes():
    assert sorted(ALL) == ALL
    assert all(rt.estimators.get(name).estimator_name == name for name in ALL)
    assert {"rebar", "arms", "wake_sleep"} <= set(ALL)


@pytest.mark.parametrize("family", ["bernoulli", "categorical", "subset"])
def test_names_of_a_family(family):
    found = rt.estimators.names(family)
    assert found == [name for name in ALL if family in rt.estimators.get(name).families]
    assert found


def test_names_of_several_families_serve_all_of_them():
    both = rt.estimators.names(["bernoulli", "subset"])
    assert both == [name for name in rt.estimators.names("bernoulli") if name in rt.estimators.names("subset")]
    assert "rodeo" not in rt.estimators.names(["bernoulli", "categorical"])


@pytest.mark.parametrize("value", [True, False])
@pytest.mark.parametrize("quality", ["unbiased", "needs_derivative", "local"])
def test_names_of_a_quality(quality, value):
    found = rt.estimators.names(**{quality: value})
    assert found == [name for name in ALL if getattr(rt.estimators.get(name), quality) is value]
    assert 0 < len(found) < len(ALL)


def test_an_unknown_family_is_named():
    with pytest.raises(
        ValueError, match=r"`family` must be one of bernoulli, categorical, subset. Received: family='b"
    ):
        rt.estimators.names(family="binary")


def test_qualities_are_asked_for_together():
    found = rt.estimators.names(family="subset", unbiased=True, needs_derivative=False)
    assert {"rloo", "reinforce", "unordered_set"} <= set(found)
    assert not {"double_cv", "straight_through", "rebar"} & set(found)
