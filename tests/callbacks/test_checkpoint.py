"""Checkpoints that can be trusted, and training that diverges."""

import os
import time
import zipfile

import keras
import numpy as np
import pytest

import rebar_tf as rt
from rebar_tf import callbacks


def network(value=0.0):
    """A compiled model whose only weight has this value."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False, name="dense")], name="model")
    model.compile(optimizer="sgd", loss="mse")
    model.set_weights([np.full([1, 1], value)])
    return model


def saving(path, model, **arguments):
    callback = callbacks.Checkpoint(path, **arguments)
    callback.set_model(model)
    return callback


def value(path):
    """The weight in a file."""
    return keras.models.load_model(path).get_weights()[0].item()


@pytest.fixture
def two(tmp_path):
    """Where checkpoints of the values 1 and 2 were saved, one after the other."""
    path = tmp_path / "checkpoint.keras"
    for number in (1.0, 2.0):
        saving(path, network(number)).save()
    return path


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)


def test_the_two_last_ones_are_kept(two):
    saving(two, network(3.0)).save()
    assert sorted(os.listdir(two.parent)) == ["checkpoint.keras", "checkpoint.previous.keras"]
    assert (value(two), value(callbacks.previous(two))) == (3.0, 2.0)
    assert callbacks.last_good(two) == two


@pytest.mark.parametrize("fails", ["save", "fsync", "replace"])
def test_a_checkpoint_that_fails_keeps_the_old_ones(two, monkeypatch, fails):
    callback = saving(two, network(3.0))

    def fail(*arguments):
        raise OSError("No space left on device")

    monkeypatch.setattr(callback.model if fails == "save" else os, fails, fail)
    with pytest.raises(OSError, match="No space"):
        callback.save()
    assert (value(two), value(callbacks.previous(two))) == (2.0, 1.0)
    assert sorted(os.listdir(two.parent)) == ["checkpoint.keras", "checkpoint.previous.keras"]


def test_file_and_folder_are_synced_before_and_after_the_new_name(two, monkeypatch):
    done, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (done.append(os.fstat(descriptor).st_ino), fsync(descriptor)))
    monkeypatch.setattr(os, "replace", lambda *paths: (done.append(paths[1].name), replace(*paths)))
    saving(two, network(3.0)).save()
    assert done == [two.stat().st_ino, "checkpoint.previous.keras", "checkpoint.keras", two.parent.stat().st_ino]


def test_a_flipped_bit_anywhere_is_seen_or_changes_nothing(two):
    whole = two.read_bytes()
    seen = 0
    for place in range(0, len(whole), 97):
        two.write_bytes(whole)
        flip(two, place)
        if callbacks.last_good(two, lambda line: None) != two:
            seen += 1
        else:  # the date of a member, say
            assert value(two) == 2.0
    assert seen > 0.8 * len(whole) / 97


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped"])
def test_a_damaged_one_is_named_and_set_aside_and_the_one_before_is_used(two, damage):
    whole = two.read_bytes()
    if damage == "flipped":
        flip(two, len(whole) // 2)
    else:
        two.write_bytes(whole[: len(whole) // 2 if damage == "cut" else 0])
    said = []
    found = callbacks.last_good(two, said.append, move=True)
    assert value(found) == 1.0
    (line,) = said
    assert line.startswith(f"{two} is damaged (")
    assert line.endswith("and kept as checkpoint.damaged.keras; the one before, checkpoint.previous.keras, is used")
    assert sorted(os.listdir(two.parent)) == ["checkpoint.damaged.keras", "checkpoint.previous.keras"]
    saving(two, network(3.0)).save()
    assert (value(two), value(callbacks.previous(two))) == (3.0, 1.0)


def test_if_none_is_whole_it_is_an_error_and_nothing_is_renamed(two):
    for path in (two, callbacks.previous(two)):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"checkpoint.keras is damaged .*; checkpoint.previous.keras is damaged"):
        callbacks.last_good(two, move=True)
    assert sorted(os.listdir(two.parent)) == ["checkpoint.keras", "checkpoint.previous.keras"]


def test_the_name_of_an_earlier_damaged_file_is_not_taken(tmp_path):
    names = []
    for content in ("a", "b", "c"):
        (tmp_path / "curve.csv").write_text(content)
        names.append(callbacks.set_aside(tmp_path / "curve.csv").name)
    assert names == ["curve.damaged.csv", "curve.damaged2.csv", "curve.damaged3.csv"]
    assert [(tmp_path / name).read_text() for name in names] == ["a", "b", "c"]


def test_small_files_are_saved_along(tmp_path):
    (tmp_path / "curve.csv").write_bytes(b"step\r\n")
    path = tmp_path / "checkpoint.keras"
    saving(path, network(1.0), beside=[tmp_path / "curve.csv", tmp_path / "none.json"]).save()
    assert callbacks.copy_beside(path, "curve.csv") == b"step\r\n"
    assert callbacks.copy_beside(path, "none.json") is None
    assert value(path) == 1.0


def test_its_folder_is_made_when_training_begins(tmp_path):
    callback = saving(tmp_path / "a" / "b" / "checkpoint.keras", network())
    callback.on_train_begin()
    assert (tmp_path / "a" / "b").is_dir()


def test_checkpoints_are_minutes_apart_and_at_the_end(tmp_path, monkeypatch):
    now, saved = [100.0], []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    callback = saving(tmp_path / "checkpoint.keras", network(), minutes=2.0)
    monkeypatch.setattr(callback, "save", lambda: (saved.append(now[0]), setattr(callback, "_time", now[0])))
    callback.on_train_begin()
    for _ in range(5):
        now[0] += 50.0
        callback.on_train_batch_begin(0)
    assert saved == [250.0]
    callback.on_train_end()
    assert saved == [250.0, 350.0]


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_not_saved(two, number):
    with pytest.raises(callbacks.Diverged, match=f"kernel is {number} at step 0") as error:
        saving(two, network(number)).save()
    assert (error.value.step, error.value.quantity) == (0, "model/dense/kernel")
    assert (value(two), value(callbacks.previous(two))) == (2.0, 1.0)


def test_an_optimizer_that_is_not_finite_is_not_saved(two):
    model = network()
    model.optimizer.learning_rate = np.inf
    with pytest.raises(callbacks.Diverged, match="learning_rate is inf"):
        saving(two, model).save()


@pytest.mark.parametrize(
    ("logs", "quantity"),
    [
        ({"loss": np.nan}, "bound"),
        ({"loss": np.inf}, "bound"),
        ({"loss": 1.0, "valid_bound": -np.inf}, "valid_bound"),
        ({"loss": 1.0, "log_grad_variance": np.inf}, "log_grad_variance"),
        ({"loss": 1.0, "temperature_1": np.nan}, "temperature_1"),
        ({"loss": 1.0, "log_grad_variance": -np.inf, "signal_to_noise/nvil": np.inf}, None),
    ],
)
def test_divergence_is_seen_in_the_report(logs, quantity):
    callback = callbacks.StopOnDivergence()
    callback.set_model(network())
    if quantity is None:
        callback.on_epoch_end(0, logs)
        return
    with pytest.raises(callbacks.Diverged, match="try a lower one") as error:
        callback.on_epoch_end(0, logs)
    assert error.value.quantity == quantity


def test_a_keras_model_that_diverges_stops_within_an_epoch():
    x = keras.Input((4,))
    b = rt.layers.StochasticBinary(estimator="rebar", seed=0)(keras.layers.Dense(8)(x))
    model = rt.StochasticModel(x, keras.layers.Dense(4)(b))
    model.compile(optimizer=keras.optimizers.SGD(1e30), loss="mse")
    data = np.random.default_rng(0).uniform(size=[16, 4]).astype("float32")
    with pytest.raises(callbacks.Diverged) as error:
        model.fit(data, data, batch_size=4, epochs=20, verbose=0, callbacks=[callbacks.StopOnDivergence()])
    assert error.value.step <= 8


def test_a_checkpoint_is_an_archive_with_a_sum_of_each_member(two):
    with zipfile.ZipFile(two) as archive:
        assert archive.testzip() is None
        assert {"config.json", "metadata.json", "model.weights.h5"} <= set(archive.namelist())
