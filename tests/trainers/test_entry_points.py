"""The commands that an installation brings."""

import importlib.metadata
import pathlib
import sys

import pytest

import trainers

COMMANDS = [path.parent.name for path in pathlib.Path(trainers.__file__).parent.glob("*/__main__.py")]
POINTS = {point.name: point for point in importlib.metadata.entry_points(group="console_scripts")}


def test_every_program_has_one():
    assert len(COMMANDS) == 9
    assert {name for name in POINTS if name.startswith("rebar-")} == {f"rebar-{command}" for command in COMMANDS}


@pytest.mark.parametrize("command", COMMANDS)
def test_it_takes_the_arguments_of_the_process(command, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [f"rebar-{command}", "--no_such_flag=1"])
    assert POINTS[f"rebar-{command}"].load()() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{command}.py: error: ")
    assert "no_such_flag" in line
