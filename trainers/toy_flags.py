"""The flags of `trainers.toy`, in a set of their own: some share a name with those of `trainers.train`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from absl import flags

from trainers import quiet
from trainers.checked_flags import Parser, define, parse_own
from trainers.errors import BadInput

FLAGS = flags.FlagValues()


define(
    "target",
    0.45,
    "t of the objective E[(b - t)^2]. The nearer to 0.5, the smaller the gradient.",
    Parser(float, lambda t: 0.0 <= t <= 1.0, "a number from 0 to 1"),
    FLAGS,
)
flags.DEFINE_list(
    "estimators",
    None,
    "Gradient estimators to compare, separated by commas. Unset: all that estimate the gradient of this objective. "
    "Accepted: {estimators}.",
    flag_values=FLAGS,
)
define(
    "num_steps",
    200_000,
    "Steps of each estimator, one sample a step.",
    Parser(int, lambda n: 1 <= n <= 10**9, "an integer from 1 to 1000000000"),
    FLAGS,
)
define(
    "learning_rate",
    1e-3,
    "Step size of Adam, for theta and for the estimator's own variables alike.",
    Parser(float, lambda rate: 0.0 < rate < float("inf"), "a positive number"),
    FLAGS,
)
flags.DEFINE_boolean(
    "baseline",
    True,
    "Whether estimators with an input-dependent baseline have it. Here the input is constant, and so is the baseline.",
    flag_values=FLAGS,
)
define(
    "seed",
    0,
    "Seed of samples and of the estimators' initial weights.",
    Parser(int, lambda n: 0 <= n < 2**31, "an integer from 0 to 2147483647"),
    FLAGS,
)
flags.DEFINE_string(
    "workdir",
    None,
    "Folder of curve.csv, curve.png, flags.json and summary.json, which are replaced. Unset: runs/toy-TARGET.",
    flag_values=FLAGS,
)


def parse(argv: Sequence[str], documentation: str) -> dict[str, Any]:
    """The settings by name, defaults filled in.

    Args:
        argv: the command line, program name first.
        documentation: what `--help` shows above the flags, before it ends the program.

    Raises:
        BadInput: for a flag or a value that is not accepted.
    """
    settings = parse_own(FLAGS, argv, documentation, "--target=0.45", lambda: {"estimators": _registered()})
    settings["workdir"] = (
        os.path.join("runs", f"toy-{settings['target']:g}") if settings["workdir"] is None else settings["workdir"]
    )
    return {**settings, "estimators": _estimators(settings["estimators"])}


def _estimators(given: list[str] | None) -> list[str]:
    """The estimators to run, each once."""
    if given is None:
        return minimizing_the_expectation()
    accepted = _registered()
    for name in given:
        if name not in accepted:
            raise BadInput(f"flag --estimators={','.join(given)}: {name!r} is none; accepted are {', '.join(accepted)}")
    if not given:
        raise BadInput(f"flag --estimators=: accepted is one or more of {', '.join(accepted)}")
    return list(dict.fromkeys(given))


def minimizing_the_expectation() -> list[str]:
    """Names of the estimators whose objective is E[f], not a bound of several samples as VIMCO's is."""
    names = _registered()
    from rebar_tf.estimators import Estimator, get

    return [name for name in names if type(get(name)).exact_target is Estimator.exact_target]


def _registered() -> list[str]:
    quiet.import_tensorflow()
    import rebar_tf as rt

    return [name for name in rt.estimators.names() if "bernoulli" in rt.estimators.get(name).families]
