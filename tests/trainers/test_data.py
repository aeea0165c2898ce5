"""`trainers.data`: what it prints, writes and draws, and what it says to bad input."""

import hashlib
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from matplotlib import image

import rebar_tf as rt
from trainers.common import pictures
from trainers.data import __main__ as data

ROOT = pathlib.Path(__file__).parents[2]


def command(*arguments):
    """Runs the command in this process; its exit status."""
    try:
        return data.main(["data.py", *map(str, arguments)]) or 0
    except SystemExit as stop:
        return stop.code


def test_statistics_are_those_of_the_images(tmp_path, capsys):
    assert command("--dataset=mnist_5k", "--binarization_seed=3", f"--workdir={tmp_path}") == 0
    *table, last = capsys.readouterr().out.splitlines()
    report = json.loads(last)
    assert report == json.loads((tmp_path / "statistics.json").read_text())
    assert report["dataset"] == "mnist_5k"
    assert [line.split()[:2] for line in table[1:]] == [["train", "4000"], ["valid", "500"], ["test", "500"]]
    assert list(tmp_path.iterdir()) == [tmp_path / "statistics.json"]
    pixels = rt.datasets.load("mnist_5k", binarization="dynamic")
    binary = rt.datasets.load("mnist_5k", binarization_seed=3)
    for (split, row), line in zip(report["splits"].items(), table[1:], strict=True):
        assert (row["min"], row["max"]) == (0.0, 1.0)
        assert row["mean"] == pytest.approx(getattr(pixels, split).astype(float).mean())
        assert row["ink"] == getattr(binary, split).sum() / getattr(binary, split).size
        assert row["sha256"] == hashlib.sha256(getattr(binary, split).astype(np.uint8).tobytes()).hexdigest()
        assert line.endswith(f"  {row['sha256'][:16]}")


def test_images_that_are_binary_by_themselves_have_their_statistics(tmp_path, monkeypatch):
    digits = np.random.RandomState(0).uniform(size=(3, 784)) < 0.25

    def load(name, data_dir, binarization, binarization_seed, verify):
        assert (binarization, binarization_seed) == ("fixed", None)
        return rt.datasets.Dataset(name, digits, digits, digits, binarization_seed=None)

    monkeypatch.setattr(rt.datasets, "load", load)
    assert command("--dataset=mnist_larochelle", f"--workdir={tmp_path}") == 0
    row = json.loads((tmp_path / "statistics.json").read_text())["splits"]["train"]
    assert row["mean"] == row["ink"] == digits.mean()


def test_preview_is_a_picture_of_each_split_in_ink_on_white(tmp_path, capsys):
    assert command("--preview", f"--workdir={tmp_path}") == 0
    picture = image.imread(tmp_path / "preview.png")[..., :3]
    assert picture.shape[1] > picture.shape[0] > 1000
    assert (picture == 1.0).all(axis=-1).mean() > 0.5
    dark = picture.max(axis=-1) < 0.5
    # Six panels, each of which has ink: two rows of three.
    for half in np.array_split(dark, 2, axis=0):
        assert all(panel.mean() > 0.02 for panel in np.array_split(half, 3, axis=1))


def test_montage_puts_images_row_after_row():
    images = np.zeros([3, 784])
    images[0, 0] = images[1, 27] = images[2, 783] = 1.0
    picture = pictures.montage(images, side=2)
    assert picture.shape == (60, 60)
    assert list(zip(*np.nonzero(picture), strict=True)) == [(1, 1), (1, 58), (58, 28)]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--dataset=cifar"], "--dataset=cifar: expected one of mnist, mnist_5k, mnist_larochelle, omniglot"),
        (["--data_dir=/no/such"], "--data_dir=/no/such: data_dir must be an existing folder"),
        (["--binarization_seed=-1"], "expected an integer from 0 to 4294967295"),
        (["--preview=maybe"], "preview"),
        (["--num_steps=3"], "Unknown command line flag 'num_steps'"),
        (["extra"], "argument 'extra': expected flags only"),
    ],
)
def test_bad_input_is_one_line_that_names_the_flag(tmp_path, capsys, arguments, complaint):
    assert command(f"--workdir={tmp_path / 'run'}", *arguments) == 2
    out, err = capsys.readouterr()
    assert complaint in err
    assert err.count("\n") == 1
    assert out == ""


def test_workdir_that_cannot_be_made_is_named(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert command(f"--workdir={tmp_path / 'file' / 'run'}") == 2
    assert "file/run: " in capsys.readouterr().err


def test_damaged_file_is_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "cache"))
    (tmp_path / "chardata.mat").write_bytes(b"\x80\x04 not a matrix")
    assert command("--dataset=omniglot_burda", f"--data_dir={tmp_path}", f"--workdir={tmp_path / 'run'}") == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "error: --dataset=omniglot_burda --data_dir=" in last
    assert "truncated or no MATLAB file" in last


def test_help_names_the_datasets(capsys):
    assert command("--help") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "{" not in text
    assert f"Expected: one of {', '.join(rt.datasets.names())}." in text


def test_command_line_prints_json_last(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    arguments = [sys.executable, "-m", "trainers.data", f"--workdir={tmp_path}"]
    done = subprocess.run(arguments, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1])["splits"]["test"]["images"] == 500
    assert "Traceback" not in done.stderr
