"""absl flags that say what they accept, in their help and in their errors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from absl import flags

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
    _define(name, default, text, Parser(int, lambda n: low <= n and (high is None or n <= high), accepted))


def define_positive(name: str, default: float | None, text: str) -> None:
    """Defines a flag for a number above 0."""
    _define(name, default, text, Parser(float, lambda number: 0.0 < number < math.inf, "a positive number"))


def define_boolean(name: str, default: bool | None, text: str) -> None:
    """Defines a flag for true or false; None for one that is neither until it is given."""
    flag = flags.BooleanFlag(name, default, f"{text} Accepted: true or false.")
    flag.parser = Parser(flag.parser.parse, lambda value: True, "true or false")
    flags.DEFINE_flag(flag)


def _define(name: str, default: Any, text: str, parser: Parser) -> None:
    text = f"{text} Accepted: {parser.accepted}."
    flags.DEFINE(parser, name, default, text, serializer=flags.ArgumentSerializer())
