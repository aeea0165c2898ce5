"""Options of the estimators: found in their constructors, given as flags."""

import pytest
from helpers import command_line
from helpers.training import TINY, command

import rebar_tf as rt
from rebar_tf.estimators import registry
from trainers.common import estimator_options
from trainers.common.experiment import Experiment
from trainers.train import __main__ as train


class Grouped(rt.estimators.Reinforce):
    """An estimator of its own.

    Args:
        bundle_size: layers in a group; none for all
            of them.
        loud: whether it says so.
    """

    estimator_name = "grouped"

    def __init__(self, bundle_size: int | None = 1, loud: bool = False, helper: object = None, **kwargs):
        super().__init__(**kwargs)
        if bundle_size == 0:
            raise ValueError("`bundle_size` must be 1 or more, or None. Received: bundle_size=0")
        self.bundle_size, self.loud = bundle_size, loud


@pytest.fixture(autouse=True)
def grouped(monkeypatch):
    """The registry with one more estimator."""
    monkeypatch.setitem(registry._classes, "grouped", Grouped)


def built(*arguments):
    return estimator_options.build(train.parse(["train.py", "--estimator=grouped", *arguments]))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), (1, False)),
        (("--bundle_size=3",), (3, False)),
        (("--bundle_size", "3", "--loud", "--seed=4"), (3, True)),
        (("--bundle_size=none", "--noloud"), (None, False)),
    ],
)
def test_the_options_of_a_new_estimator_are_flags(arguments, expected):
    estimator = built(*arguments)
    assert (estimator.bundle_size, estimator.loud) == expected


def test_flags_behind_an_option_count():
    experiment = train.parse(["train.py", "--temperature", "0.3", "--seed=4"])
    assert (experiment.seed, experiment.options["temperature"]) == (4, 0.3)


def test_options_survive_flags_json():
    experiment = train.parse(["train.py", "--estimator=grouped", "--bundle_size=none"])
    assert Experiment.from_flags(experiment.flags()) == experiment
    assert experiment.flags()["loud"] is None


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--bundle_size=two", "flag --bundle_size=two: expected an integer or none"),
        ("--bundle_size=0", "flag --bundle_size=0: expected 1 or more, or None"),
        ("--loud=2", "flag --loud=2: expected true or false"),
        ("--helper=x", "Unknown command line flag 'helper'"),
        ("--temperature=1", "flag --temperature=1.0: expected with --estimator=grouped: --bundle_size, --loud"),
    ],
)
def test_a_bad_option_is_one_line(flag, message, tmp_path, capsys):
    arguments = (*TINY, f"--workdir={tmp_path / 'run'}", "--estimator=grouped", flag)
    command_line.assert_fails_with(command, message, capsys, *arguments)


def test_help_describes_the_options(capsys):
    assert command("--help") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "--bundle_size Option of grouped: layers in a group; none for all of them." in text
    assert "--loud Option of grouped" in text
