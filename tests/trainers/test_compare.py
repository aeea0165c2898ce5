"""The command that says which estimator to take."""

import csv
import functools
import json

import numpy as np
import pytest
from helpers import command_line

from rebar_tf.diagnostics import Measured
from rebar_tf.diagnostics.adviser import Finding
from trainers.compare import __main__ as compare
from trainers.compare import measuring

TINY = ("--hidden_units=4", "--batch_size=4", "--seconds=0.2")


def command(*arguments):
    return command_line.exit_status(lambda: compare.main(["compare.py", *map(str, arguments)]))


def test_table_picture_and_advice(tmp_path, capsys):
    assert command(*TINY, "--names=reinforce,nvil", f"--workdir={tmp_path}") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(": variance")[0] for line in lines[:2]] == ["1 of 2: reinforce", "2 of 2: nvil"]
    assert lines[-2].startswith("Take ")
    assert json.loads(lines[-1])["table"] == str(tmp_path / "compare.csv")
    assert (tmp_path / "compare.csv").read_text().splitlines()[0].startswith("estimator,unbiased,variance,")
    with open(tmp_path / "compare.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["estimator"] for row in rows) == ["nvil", "reinforce"]
    assert all(float(row["megabytes"]) > 0.0 for row in rows)
    assert (tmp_path / "compare.png").stat().st_size > 5000
    assert {folder.name for folder in (tmp_path / "tensorboard").iterdir()} == {"reinforce", "nvil"}


@pytest.mark.slow
def test_what_was_measured_before_is_kept(tmp_path, capsys):
    assert command(*TINY, "--names=reinforce,rodeo", f"--workdir={tmp_path}") == 0
    before = (tmp_path / "compare.csv").read_text().splitlines()
    kept = tmp_path / "measured" / "rodeo.npz"
    kept.write_bytes(kept.read_bytes()[:-30])
    (tmp_path / "measured" / "straight_through.npz").write_bytes(b"")
    capsys.readouterr()
    assert command(*TINY, "--names=reinforce,rodeo,straight_through", f"--workdir={tmp_path}") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[3].strip(":") for line in lines[:2]] == ["rodeo", "straight_through"]
    after = (tmp_path / "compare.csv").read_text().splitlines()
    assert [line for line in before if line.startswith("reinforce")] == [
        line for line in after if line.startswith("reinforce")
    ]
    assert "nan" not in next(line for line in after if line.startswith("straight_through"))  # its bias takes the others


def test_what_was_measured_with_less_in_it_is_measured_again(tmp_path):
    path = tmp_path / "nvil.npz"
    measuring._save(path, Finding(Measured("nvil", True, variance=1.0, megabytes=2.0)))
    assert measuring._load(path).measured.megabytes == 2.0
    np.savez(path, measured=json.dumps({"estimator": "nvil", "unbiased": True, "variance": 1.0}))
    assert measuring._load(path) is None


def test_a_folder_of_other_flags_is_left_alone(tmp_path, capsys):
    assert command(*TINY, "--names=nvil", f"--workdir={tmp_path}") == 0
    capsys.readouterr()
    text = f"flag --workdir={tmp_path}: holds a comparison with other flags"
    command_line.assert_fails_with(command, text, capsys, *TINY, "--steps=3", f"--workdir={tmp_path}")


def test_the_images_and_the_flags_reach_the_library(tmp_path, monkeypatch):
    asked = {}

    class Stub:
        def __init__(self, model, x, y, batch_size, steps):
            asked.update(model=model, x=x, y=y, batch_size=batch_size, steps=steps)

        def measure(self, name, seconds):
            asked[name] = seconds
            return Finding(Measured(name, True, None, 1.0, 0.1, 10.0, 1.0))

    monkeypatch.setattr(measuring, "Adviser", Stub)
    flags = ("--task=structured", "--names=nvil,rebar", "--steps=5", f"--workdir={tmp_path}")
    assert command(*TINY, *flags) == 0
    assert (asked["x"].shape, asked["y"].shape) == ((4000, 392), (4000, 392))
    assert (asked["batch_size"], asked["steps"], asked["nvil"], asked["rebar"]) == (4, 5, 0.1, 0.1)
    assert asked["model"].hidden_units == 4


def test_grey_images_are_binarized(tmp_path, monkeypatch):
    given = {"binarization": "dynamic", "run": None, "steps": 0, "task": "generative", "dataset": "mnist_5k"}
    monkeypatch.setattr(measuring, "Adviser", lambda model, x, *rest: x)
    parsed = compare.parse(["compare.py", *TINY, f"--workdir={tmp_path}"])
    assert set(np.unique(measuring._adviser({**parsed, **given}, None))) == {0.0, 1.0}


def test_a_flag_that_is_wrong_leaves_no_folder(tmp_path, capsys):
    folder = tmp_path / "compare"
    for flag in ("--dataset=mist", "--dataset=mnist", "--estimator=rebarr"):
        assert command(*TINY, flag, "--data_dir=/nowhere", f"--workdir={folder}") == 2
    assert not folder.exists()


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--names=nvil,unknown", "flag --names=unknown: expected some of arm, "),
        ("--seconds=0", "flag --seconds=0: expected a positive number"),
        ("--run=/nowhere", "flag --workdir=/nowhere: "),
        ("--workdir=/proc/none", "expected one that can be written to"),
    ],
)
def test_bad_input_is_one_line(flag, message, capsys):
    functools.partial(command_line.assert_fails_with, command)(message, capsys, *TINY, flag)
