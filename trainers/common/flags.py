"""Flags of absl that say what they expect, in their help and in their errors.

Each command has a set of flags of its own, which it fills with the groups of `trainers.common.experiment` that it takes
and with flags that only it has. No name is defined twice, and no flag is there to be refused.
"""

from __future__ import annotations

import math
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags, logging

from trainers.common.errors import BadInput, one_line
from trainers.common.experiment import DATASET, DEVICES, FLAGS, MODEL, RUN, TRAINING
from trainers.common.tensorflow_import import import_tensorflow

_HELP = ("-h", "-?", *(f"{dashes}help{kind}" for dashes in ("-", "--") for kind in ("", "short", "full")))

_SECTIONS = {
    "images": DATASET,
    "model": MODEL,
    "training": (*TRAINING, "eval_samples"),
    "devices": DEVICES,
    "run": RUN,
}  # of the help; what is in none of them is the command's own

Flags = flags.FlagValues


class Checked(flags.ArgumentParser):
    """A parser whose errors say what is expected."""

    def __init__(self, convert: Callable[[str], Any], expected: str):
        super().__init__()
        self.convert, self.expected = convert, expected

    def parse(self, argument: str) -> Any:
        try:
            return self.convert(argument)
        except (TypeError, ValueError) as error:
            raise ValueError(f"expected {self.expected}") from error

    def flag_type(self) -> str:
        return self.expected


class Number(flags.FloatParser):
    """absl's parser of a number, without infinity and NaN."""

    def is_outside_bounds(self, val: float) -> bool:
        return not math.isfinite(val) or super().is_outside_bounds(val)


def define(values: Flags, name: str, default: Any, text: str, convert: Callable[[str], Any], expected: str) -> None:
    """Defines a flag whose value is `convert` of its text, which raises ValueError for what is not expected."""
    text = f"{text} Expected: {expected}."
    flags.DEFINE(Checked(convert, expected), name, default, text, values, flags.ArgumentSerializer())


def define_integer(
    values: Flags, name: str, default: int | None, text: str, low: int | None = None, high: int | None = None
) -> None:
    """Defines a flag for an integer, with bounds where they are given."""
    expected = "an integer" if low is None else f"an integer of {low} or more"
    expected = expected if high is None else f"an integer from {low} to {high}"
    define(values, name, default, text, flags.IntegerParser(low, high).parse, expected)


def define_positive(values: Flags, name: str, default: float | None, text: str) -> None:
    """Defines a flag for a number above 0."""
    define(values, name, default, text, Number(math.ulp(0.0)).parse, "a positive number")


def define_boolean(values: Flags, name: str, default: bool | None, text: str) -> None:
    """Defines a flag for true or false; None for one that is neither until it is given."""
    flag = flags.BooleanFlag(name, default, f"{text} Expected: true or false.")
    flag.parser = Checked(flag.parser.parse, "true or false")
    flags.DEFINE_flag(flag, values)


def define_enum(values: Flags, name: str, default: str, accepted: Sequence[str], text: str) -> None:
    """Defines a flag for one of some words."""
    define(values, name, default, text, flags.EnumParser(list(accepted)).parse, f"one of {', '.join(accepted)}")


def define_string(values: Flags, name: str, default: str | None, text: str) -> None:
    """Defines a flag for any text."""
    flags.DEFINE_string(name, default, text, values)


def define_list(values: Flags, name: str, default: Sequence[str] | None, text: str) -> None:
    """Defines a flag for several texts, separated by commas."""
    flags.DEFINE_list(name, default if default is None else list(default), text, values)


def define_some(values: Flags, name: str, accepted: Sequence[str], text: str) -> None:
    """Defines a flag for one or more of some words, separated by commas; by default all of them."""

    def convert(given: str) -> list[str]:
        found = [word.strip() for word in given.split(",")]
        if not set(found) <= set(accepted):
            raise ValueError
        return found

    define(values, name, ",".join(accepted), text, convert, f"some of {', '.join(accepted)}")


def define_methods(values: Flags, default: Sequence[str]) -> None:
    """Defines the flag `--methods`, which `trainers.common.methods` reads."""
    text = (
        "What to compare, separated by commas. Expected: names of --estimator of trainers.train, each alone or, at a "
        "temperature that is not trained, as name:temperature."
    )
    define_list(values, "methods", default, text)


_DEFINERS: dict[str, Callable[..., None]] = {
    "int": define_integer,
    "float": define_positive,
    "bool": define_boolean,
    "str": define_string,
}


def define_experiment(values: Flags, *names: str) -> None:
    """Defines the flags of these fields of `Experiment`."""
    for name in names:
        kind = str(FLAGS[name].type).partition(" ")[0]
        _DEFINERS[kind](values, name, FLAGS[name].default, **FLAGS[name].metadata)


def parse(
    values: Flags, argv: Sequence[str], documentation: str, options_without: Sequence[str] | None = None
) -> dict[str, Any]:
    """The values of a command's flags by name, from its command line.

    Args:
        values: the command's flags.
        argv: the command line, program name first.
        documentation: what `--help` shows above the flags, before it ends the program.
        options_without: names of the estimators' options that are not taken; None where none at all is taken. To know
            the options takes importing TensorFlow, which is done once the other flags are known to be good.

    Raises:
        BadInput: for a flag or a value that is not expected.
    """
    wants_help = any(argument in _HELP for argument in argv[1:])
    takes_options = options_without is not None
    names, options = list(values), []
    if not wants_help:
        for flag in flags.FLAGS.flags_by_module_dict()[logging.__name__]:
            values[flag.name] = flag  # --verbosity and the like
        argv = _parsed(values, argv, known_only=takes_options)
    if options_without is not None:
        import_tensorflow()
        from trainers.common import estimator_options

        options = estimator_options.define(values, without=options_without)
        names += options
    if wants_help:
        _show_help(values, documentation, options)
    if takes_options:
        _parsed(values, argv, known_only=False)
    if not values["verbosity"].present:
        logging.set_verbosity(logging.ERROR)
    return {name: values[name].value for name in names}


def _parsed(values: Flags, argv: Sequence[str], known_only: bool) -> list[str]:
    """Parses a command line, and returns what is left of it."""
    try:
        rest = values(argv, known_only=known_only)
    except flags.UnrecognizedFlagError as error:
        raise BadInput(f"{one_line(error)}; expected those of --help") from error
    except flags.Error as error:
        raise BadInput(one_line(error)) from error
    if len(rest) > 1 and not known_only:
        raise BadInput(f"argument {rest[1]!r}: expected flags only, as in --name=value; see --help")
    return rest


def _show_help(values: Flags, documentation: str, options: Sequence[str]) -> None:
    """Prints the flags by topic, and ends the program."""
    if any("{" in values[name].help for name in values):
        import_tensorflow()
        from trainers.common import build

        for kind, names in build.accepted_names().items():
            for name in values:
                values[name].help = values[name].help.replace(f"{{{kind}}}", ", ".join(names))
    topical = {*options, "estimator", *(name for section in _SECTIONS.values() for name in section)}
    own = [name for name in values if name not in topical]
    sections = {"what": own, **_SECTIONS, "estimator": ["estimator", *options]}
    print(documentation)
    for title, names in sections.items():
        found = [name for name in names if name in values]
        if found:
            print("\n".join([f"{title.upper()}\n", *(_described(values[name]) for name in found)]))
    print("--flagfile=FILE reads flags from a file, one a line.")
    sys.exit(0)


def _described(flag: flags.Flag) -> str:
    """A flag with its default, and its text below."""
    default = "" if flag.default is None else f"={text(flag.default)}"
    width = max(shutil.get_terminal_size().columns, 40)
    body = textwrap.fill(flag.help, width, initial_indent=" " * 6, subsequent_indent=" " * 6, break_on_hyphens=False)
    return f"  --{flag.name}{default}\n{body}\n"


def text(value: Any) -> str:
    """A flag's value as it is given on a command line."""
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
