"""The examples do what they say."""

import pytest

from examples import drop_in_model, own_estimator, own_objective


@pytest.mark.slow
def test_the_drop_in_model_learns():
    losses = drop_in_model.main(epochs=5)
    assert losses[-1] < 0.75 * losses[0]


@pytest.mark.slow
def test_units_that_cost_more_are_active_less():
    free, dear = own_objective.main(epochs=3)
    assert dear < 0.5 * free


@pytest.mark.slow
def test_an_estimator_of_ones_own_is_unbiased_and_less_noisy():
    report, ratio = own_estimator.main()
    assert report.unbiased
    assert report.detectable < 0.1
    assert ratio < 0.8
