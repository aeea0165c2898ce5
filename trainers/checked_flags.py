"""absl flags that say what they accept, in their help and in their errors."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags

from trainers.errors import BadInput, one_line

HELP = ("-h", "-?", "-help", "--help", "-helpshort", "--helpshort")

flags.disclaim_key_flags()  # the flags defined here belong to the module that asks for them


class Parser(flags.ArgumentParser):
    """Converts a flag's text, and says what is accepted when it cannot."""

    def __init__(self, convert: Callable[[str], Any], accepts: Callable[[Any], bool], accepted: str):
        super().__init__()
        self.convert, self.accepts, self.accepted = convert, accepts, accepted

    def parse(self, argument: str) -> Any:
        try:
            value = self.convert(argument)
            if self.accepts(value):
                return value
        except (TypeError, ValueError):
            pass
        raise ValueError(f"accepted is {self.accepted}")

    def flag_type(self) -> str:
        return self.accepted


def define_integer(name: str, default: int | None, text: str, low: int = 1, high: int | None = None) -> None:
    """Defines a flag for an integer from `low` to `high`, or without an upper end."""
    accepted = f"an integer of {low} or more" if high is None else f"an integer from {low} to {high}"
    define(name, default, text, Parser(int, lambda n: low <= n and (high is None or n <= high), accepted))


def define_group_size(name: str, default: int | None, text: str) -> None:
    """Defines a flag for an integer of 1 or more, or the word none."""

    def convert(argument: str) -> int | str:
        return argument if argument == "none" else int(argument)

    define(name, default, text, Parser(convert, lambda n: n == "none" or n >= 1, "an integer of 1 or more, or none"))


def define_positive(name: str, default: float | None, text: str) -> None:
    """Defines a flag for a number above 0."""
    define(name, default, text, Parser(float, lambda number: 0.0 < number < math.inf, "a positive number"))


def define_boolean(name: str, default: bool | None, text: str) -> None:
    """Defines a flag for true or false; None for one that is neither until it is given."""
    flag = flags.BooleanFlag(name, default, f"{text} Accepted: true or false.")
    flag.parser = Parser(flag.parser.parse, lambda value: True, "true or false")
    flags.DEFINE_flag(flag)


def define(name: str, default: Any, text: str, parser: Parser, flag_values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines a flag that its parser converts; the help says what is accepted."""
    text = f"{text} Accepted: {parser.accepted}."
    flags.DEFINE(parser, name, default, text, flag_values=flag_values, serializer=flags.ArgumentSerializer())


def parse_own(
    flag_values: flags.FlagValues,
    argv: Sequence[str],
    documentation: str,
    example: str,
    names: Callable[[], dict[str, Sequence[str]]] = dict,
) -> dict[str, Any]:
    """The values of a command that has a set of flags of its own, by name.

    Args:
        flag_values: the set.
        argv: the command line, program name first.
        documentation: what `--help` shows above the flags, before it ends the program.
        example: a flag with a value, for an error.
        names: called for `--help` only: what fills in the words in braces of the flags' texts.

    Raises:
        BadInput: for a flag or a value that is not accepted.
    """
    if any(argument in HELP for argument in argv[1:]):
        text = flag_values.get_help()
        for kind, values in names().items():
            text = text.replace(f"{{{kind}}}", ", ".join(values))
        print(documentation)
        print(text)
        sys.exit(0)
    flag_values.unparse_flags()
    try:
        rest = flag_values(argv)
    except flags.UnrecognizedFlagError as error:
        raise BadInput(f"{one_line(error)}; accepted are those of --help") from error
    except flags.Error as error:
        raise BadInput(one_line(error)) from error
    if len(rest) > 1:
        raise BadInput(f"argument {rest[1]!r}: accepted are flags only, as in {example}; see --help")
    return {name: flag_values[name].value for name in flag_values}


def text(value: Any) -> str:
    """A flag's value as it is given on a command line."""
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
