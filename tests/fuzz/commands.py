"""Command lines of every kind: an experiment that can be built, or one line that says what is wrong."""

import contextlib
import dataclasses
import io

from hypothesis import strategies as st

from rebar_tf import estimators
from trainers.common import build, estimator_options
from trainers.common.errors import BadInput
from trainers.common.experiment import Experiment
from trainers.train.__main__ import parse

NAMES = [field.name for field in dataclasses.fields(Experiment)] + ["temperature", "group_size", "eta", "no_such_flag"]
VALUES = st.one_of(
    st.integers(-3, 2**65).map(str),
    st.floats().map(str),
    st.sampled_from(
        ["", "None", "true", "False", "mnist", "mnist_5k", "structured", "shared", "1e400", "0x10", "\u0661"]
    ),
    st.sampled_from(estimators.names()),
    st.text(max_size=6),
)
ARGUMENTS = st.one_of(
    st.tuples(st.sampled_from(NAMES), VALUES).map(lambda pair: f"--{pair[0]}={pair[1]}"),
    st.sampled_from(NAMES).map(lambda name: f"--no{name}"),
    st.text(max_size=5),
)
COMMAND_LINES = st.lists(ARGUMENTS, max_size=4)


def check_command_line(arguments):
    """What is printed of an error is one line; an experiment's estimator and names are those that exist."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            experiment = parse(["train", *arguments])
            build.check_names(experiment)
            estimator_options.build(experiment)
    except BadInput as error:
        if not str(error):
            raise
    except SystemExit as stop:
        if stop.code != 0:  # of --help
            raise
