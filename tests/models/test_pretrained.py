"""The trained networks that come with the package."""

import numpy as np
import pytest
import tensorflow as tf

import rebar_tf as rt
from rebar_tf.models import pretrained

NAMES = sorted(rt.models.pretrained_models())


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * bool(i)) for i, name in enumerate(NAMES)]
)
def test_a_trained_network_has_the_bound_that_is_stated(name):
    model = rt.models.load_pretrained(name)
    bound = model.bound(rt.datasets.load("mnist_5k").test, num_samples=100).mean(dtype=np.float64)
    assert bound == pytest.approx(rt.models.pretrained_models()[name]["mnist_5k_bound_100"], abs=0.05)


def test_files_are_small_and_each_has_its_numbers():
    files = {path.stem: path.stat().st_size for path in pretrained._FOLDER.glob("*.keras")}
    assert sorted(files) == NAMES
    assert max(files.values()) < 3e6


@pytest.mark.parametrize("name", [NAMES[1]])
def test_it_draws_from_its_prior(name):
    """Two layers, beside TensorFlow Probability's samples of the same prior: 5 standard errors a pixel."""
    model = rt.models.load_pretrained(name)
    drawn = model.generate(4000).numpy()
    assert not np.array_equal(drawn[:2], model.generate(2, seed=1))
    b = tf.nest.flatten(model.prior().sample(4000, seed=(0, 1)))[-1]
    other = model.likelihood(b).mean().numpy()
    error = np.sqrt((drawn.var(axis=0) + other.var(axis=0)) / 4000)
    assert (np.abs(drawn.mean(axis=0) - other.mean(axis=0)) < 5 * error + 1e-6).all()


def test_an_unknown_name_is_told_the_known_ones():
    with pytest.raises(ValueError, match=rf"`name` must be one of {', '.join(NAMES)}. Received: name='sbn'"):
        rt.models.load_pretrained("sbn")
