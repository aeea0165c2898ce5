"""What a terminal gets that a pipe does not: colours and a bar; and the help by topic."""

import io
import re

import pytest
from helpers.training import TINY, command

from rebar_tf import callbacks
from trainers.common import errors
from trainers.run import loop, progress_bar

TOPICS = {"IMAGES": "--dataset=mnist_5k", "MODEL": "--num_layers=1", "TRAINING": "--num_steps=3000", "RUN": "--workdir"}


class Terminal(io.StringIO):
    def isatty(self):
        return True


def terminal_for_stderr(monkeypatch):
    """A terminal in the place of stderr; not by a fixture, after which pytest puts back its own."""
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return terminal


def test_errors_have_a_colour_on_a_terminal(monkeypatch):
    stderr = terminal_for_stderr(monkeypatch)
    errors.print_error("train", ValueError("flag --x: no"))
    assert stderr.getvalue() == "\033[31mtrain.py: error: flag --x: no\033[0m\n"


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_colours_can_be_refused(monkeypatch, name, value):
    stderr = terminal_for_stderr(monkeypatch)
    monkeypatch.setenv(name, value)
    errors.warn("a line")
    assert stderr.getvalue() == "a line\n"


def test_a_pipe_gets_no_colour(capsys):
    errors.warn("a line")
    assert capsys.readouterr().err == "a line\n"


def test_help_is_by_topic(capsys):
    assert command("--help") == 0
    out = capsys.readouterr().out
    places = [out.index(f"\n{topic}\n") for topic in (*TOPICS, "ESTIMATOR")]
    assert places == sorted(places)
    for place, end, flag in zip(places[:-1], places[1:], TOPICS.values(), strict=True):
        assert re.search(rf"^  {flag}$", out[place:end], re.MULTILINE)
    assert max(map(len, out[places[0] :].splitlines())) <= 80


def test_flags_are_read_from_a_file(tmp_path, capsys):
    (tmp_path / "flags").write_text("--num_steps=0\n")
    assert command(f"--flagfile={tmp_path / 'flags'}") == 2
    assert "flag --num_steps=0: expected an integer of 1 or more" in capsys.readouterr().err


def test_a_bar_follows_the_steps_of_a_run_on_a_terminal(tmp_path, monkeypatch, short_programs):
    steps = []

    class Bar(progress_bar.ProgressBar):
        def on_train_batch_end(self, batch, logs=None):
            super().on_train_batch_end(batch, logs)
            steps.append(self._bar.n)

    terminal = Terminal()
    monkeypatch.setattr(loop, "ProgressBar", Bar)
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setattr("sys.stderr", Terminal())
    assert command(*TINY, "--num_steps=12", f"--workdir={tmp_path / 'run'}") == 0
    assert steps == [3, 6, 9, 12]
    lines = [line for line in terminal.getvalue().splitlines() if line.startswith("step")]
    assert len(lines) == 3 == 1 + len(callbacks.read_curve(tmp_path / "run" / "curve.csv"))
