"""What the tests of the command lines share."""

import contextlib
import io
import json
import pathlib

from rebar_tf import callbacks
from trainers.run.workdir import Workdir


def exit_status(run):
    """Of a command that runs in this process: what `run` returns, or what it exits with."""
    try:
        return run() or 0
    except SystemExit as stop:
        return stop.code


def finished_run(command, workdir, *arguments):
    """The folder of a run that `command` made there; what it printed is in the file stdout."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert command(*arguments, f"--workdir={workdir}") == 0
    (workdir / "stdout").write_text(out.getvalue())
    return workdir


def numbers(workdir):
    """The summary of a run without the speed and the flags."""
    summary = json.loads((pathlib.Path(workdir) / "summary.json").read_text())
    return {name: value for name, value in summary.items() if name not in ("steps_per_second", "flags")}


def curve(workdir):
    """The curve of a run without the speed, which no two runs share."""
    rows = callbacks.read_curve(Workdir(workdir).curve)
    return [{name: value for name, value in row.items() if name != "steps_per_second"} for row in rows]


def assert_fails_with(command, message, capsys, *arguments):
    """`command(*arguments)` exits with 2 and prints nothing but one line of error, with this message."""
    assert command(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert message in captured.err
