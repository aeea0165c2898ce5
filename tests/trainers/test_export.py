"""The model of a run as one small file."""

import functools
import json
import shutil

import keras
import numpy as np
import pytest
from helpers import command_line
from helpers.training import TINY
from helpers.training import command as train

import rebar_tf as rt
from trainers.export import __main__ as export
from trainers.run.workdir import load_model


def command(*arguments):
    return command_line.exit_status(lambda: export.main(["export.py", *map(str, arguments)]))


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return command_line.finished_run(train, tmp_path_factory.mktemp("run"), *TINY, "--num_steps=6")


def test_a_folder_of_another_program_is_refused(workdir, tmp_path, capsys):
    other = tmp_path / "other"
    shutil.copytree(workdir, other)
    flags = json.loads((other / "flags.json").read_text())
    (other / "flags.json").write_text(json.dumps({k: v for k, v in flags.items() if k != "estimator"}))
    command_line.assert_fails_with(
        command, "holds no run of trainers.train", capsys, f"--workdir={other}", f"--file={tmp_path / 'a.keras'}"
    )
    assert not (tmp_path / "a.keras").exists()


def test_the_file_has_the_model_and_nothing_else(workdir, tmp_path, capsys):
    file = tmp_path / "model.keras"
    assert command(f"--workdir={workdir}", f"--file={file}") == 0
    assert capsys.readouterr().out.startswith(f"{file}: 0.")
    assert file.stat().st_size < (workdir / "checkpoint.keras").stat().st_size / 3
    images = rt.datasets.load("mnist_5k").test[:50]
    model, ours = keras.saving.load_model(file), load_model(workdir)
    np.testing.assert_array_equal(model.bound(images, num_samples=3), ours.bound(images, num_samples=3))
    assert not model.compiled
    assert not any(v.numpy().any() for v in model.gradient_variance.variables)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--file=a.keras",), "flag --workdir: must be given"),
        (("--workdir=WORKDIR", "--file=a.h5"), "flag --file=a.h5: expected a path that ends in .keras"),
        (("--workdir=WORKDIR", "--file=/nowhere/a.keras"), "expected one that can be written to"),
        (("--workdir=TMP", "--file=a.keras"), "has no checkpoint.keras"),
    ],
)
def test_bad_input_is_one_line(workdir, tmp_path, capsys, arguments, message):
    given = [each.replace("WORKDIR", str(workdir)).replace("TMP", str(tmp_path)) for each in arguments]
    functools.partial(command_line.assert_fails_with, command)(message, capsys, *given)
