"""Each check of the conformance table can fail: it rejects what was broken on purpose."""

import copy
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

import rebar_tf as rt
from rebar_tf.distributions import Bernoulli
from tests.conformance import catalogue, checks

(ROW,) = (row for row in catalogue.ROWS if row.name == "rebar")
(REINFORCE,) = (row for row in catalogue.ROWS if row.name == "reinforce")


def forget_temperature(patch):
    whole = rt.estimators.Rebar.get_config
    patch.setattr(
        rt.estimators.Rebar, "get_config", lambda self: {k: v for k, v in whole(self).items() if k != "temperature"}
    )


def load_nothing(patch):
    patch.setattr(keras.Model, "load_weights", lambda self, path: None)


def share_clones(patch):
    patch.setattr(keras.models, "clone_model", lambda model: model)


def share_copies(patch):
    patch.setattr(copy, "deepcopy", lambda model: model)


def lose_the_estimator(patch):
    """In a file or a pickle."""
    patch.setattr(rt.estimators.Estimator, "load_own_variables", lambda self, store: None)


def shift_inner_layers(patch):
    """The samples of layers that others hold."""
    call = rt.layers.StochasticLayer.call

    def shifted(self, logits, training=None, mask=None):
        sample = call(self, logits, training, mask)
        return sample if self.path == self.name else sample + 0.5

    patch.setattr(rt.layers.StochasticLayer, "call", shifted)


def noise_of_the_trace(patch):
    """Noise that is drawn when a function is traced."""
    draws = itertools.cycle([0.05, 0.5, 0.95])
    patch.setattr("rebar_tf.sampling.hard.uniform", lambda shape, *key: tf.fill(shape, tf.constant(next(draws))))


def shift_in(dtype):
    """The samples of layers that compute in that precision."""

    def patch_call(patch):
        call = rt.layers.StochasticLayer.call

        def shifted(self, logits, training=None, mask=None):
            sample = call(self, logits, training, mask)
            return sample + 0.25 if self.compute_dtype == dtype else sample

        patch.setattr(rt.layers.StochasticLayer, "call", shifted)

    return patch_call


def mean_of_nothing(patch):
    patch.setattr(
        rt.training.StochasticTraining,
        "update_gradient_variance",
        lambda self, *_, **__: [v.assign(v.value * tf.reduce_mean(tf.zeros([0]))) for v in self.model_variables],
    )


def variance_of_one(patch):
    """A sample variance of a batch of one is 0 / 0."""
    patch.setattr(rt.training.LogGradientVariance, "result", lambda self: tf.constant(np.nan))


def flip_units(patch):
    patch.setattr(Bernoulli, "threshold", lambda self, z: tf.cast(z < 0.0, tf.float32))


BREAKS = {
    "config": forget_temperature,
    "weights only": load_nothing,
    "clone_model": share_clones,
    "deepcopy": share_copies,
    "pickle": lose_the_estimator,
    "in a layer": shift_inner_layers,
    "in a model": shift_inner_layers,
    "in a Sequential": shift_inner_layers,
    "subclassed": shift_inner_layers,
    "graph": noise_of_the_trace,
    "XLA": noise_of_the_trace,
    "mixed_float16": shift_in("float16"),
    "mixed_bfloat16": shift_in("bfloat16"),
    "float64": shift_in("float64"),
    "unknown length": noise_of_the_trace,
    "batch of one": variance_of_one,
    "empty batch": mean_of_nothing,
    "parity": flip_units,
}


@pytest.mark.parametrize(
    "column", [column for column in checks.COLUMNS if not column.elsewhere], ids=lambda column: column.name
)
def test_a_check_rejects_what_is_broken(column, monkeypatch):
    row = REINFORCE if column.is_slow(ROW) or column.name == "unknown length" else ROW
    if row.name in checks.NOT_YET.get(column.name, ()):
        pytest.skip("not yet")
    BREAKS[column.name](monkeypatch)
    with pytest.raises(AssertionError):
        column.check(row)
