"""The examples do what they say."""

import keras
import numpy as np
import pytest

from examples import (
    black_box_reward,
    discrete_vae,
    drop_in_model,
    hard_gating,
    own_estimator,
    own_objective,
    pruning_gates,
    semantic_hashing,
    world_model,
)


@pytest.fixture
def picture(tmp_path):
    """Where the guide is to write its picture, of which it is then seen that it is one."""
    path = tmp_path / "picture.png"
    yield str(path)
    pixels = keras.utils.img_to_array(keras.utils.load_img(path, color_mode="grayscale"))
    assert min(pixels.shape[:2]) > 100
    assert len(np.unique(pixels)) > 1


@pytest.mark.slow
def test_the_drop_in_model_learns(picture):
    losses = drop_in_model.main(picture)
    assert losses[-1] < 0.17 < 0.22 < losses[0]


@pytest.mark.slow
def test_units_that_cost_more_are_active_less(picture):
    free, dear = own_objective.main(picture, epochs=3)
    assert dear < 0.5 * free


@pytest.mark.slow
def test_an_estimator_of_ones_own_is_unbiased_and_less_noisy(picture):
    report, ratio = own_estimator.main(picture)
    assert report.unbiased
    assert report.detectable < 0.1
    assert ratio < 0.8


@pytest.mark.slow
def test_a_black_box_is_packed_almost_as_well_as_it_can_be(picture):
    assert all(part > 0.9 for part in black_box_reward.main(picture).values())


@pytest.mark.slow
def test_near_codes_are_the_same_digit(picture):
    after, before = semantic_hashing.main(picture)
    assert after > 0.75 > before + 0.1


@pytest.mark.slow
def test_gates_close_on_noise(picture):
    accuracy, of_pixels, of_noise = pruning_gates.main(picture)
    assert accuracy > 0.85
    assert of_noise < 4 < 20 < of_pixels


@pytest.mark.slow
def test_symbols_describe_digits(picture):
    after, before = discrete_vae.main(picture)
    assert after < 140 < 206 < before


@pytest.mark.slow
def test_states_remember_where_the_light_goes(picture):
    nats, without = world_model.main(picture)
    assert nats < 0.85 * without


@pytest.mark.slow
def test_gates_skip_blocks_that_are_not_worth_their_price(picture):
    found = hard_gating.main(picture)
    (free_accuracy, free_open), (accuracy, few_open) = found.values()
    assert accuracy > free_accuracy - 0.02 > 0.9
    assert few_open < 0.7 * free_open
