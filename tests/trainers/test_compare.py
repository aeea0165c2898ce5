"""The command that says which estimator to take."""

import functools
import json

import pytest
from helpers import command_line

from rebar_tf import diagnostics
from rebar_tf.diagnostics import Advice, Measured
from trainers.compare import __main__ as compare

TINY = ("--hidden_units=4", "--batch_size=4", "--seconds=0.2")


def command(*arguments):
    return command_line.exit_status(lambda: compare.main(["compare.py", *map(str, arguments)]))


def test_table_picture_and_advice(tmp_path, capsys):
    assert command(*TINY, "--names=reinforce,nvil", f"--workdir={tmp_path}") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines[:2]] == ["reinforce", "nvil"]
    assert lines[-2].startswith("Take ")
    assert json.loads(lines[-1])["table"] == str(tmp_path / "compare.csv")
    assert (tmp_path / "compare.csv").read_text().splitlines()[0].startswith("estimator,unbiased,variance,")
    assert len((tmp_path / "compare.csv").read_text().splitlines()) == 3
    assert (tmp_path / "compare.png").stat().st_size > 5000


def test_the_batch_and_the_flags_reach_the_library(tmp_path, monkeypatch):
    asked = {}

    def measured(model, x, y, names, seconds, progress):
        asked.update(model=model, x=x, y=y, names=names, seconds=seconds)
        return Advice([Measured("nvil", True, None, 1.0, 0.1, 10.0, 1.0)])

    monkeypatch.setattr(diagnostics, "compare", measured)
    assert command(*TINY, "--task=structured", "--names=nvil", f"--workdir={tmp_path}") == 0
    assert (asked["x"].shape, asked["y"].shape) == ((4, 392), (4, 392))
    assert (asked["names"], asked["seconds"]) == (["nvil"], 0.2)
    assert asked["model"].hidden_units == 4


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
