"""The options of the estimators: the arguments of their constructors, as flags.

An argument is an option if its annotation is int, float, bool or str, or one of them or None. None is given as `none`.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Callable, Collection
from typing import Any

from absl import flags as absl_flags

from rebar_tf import estimators
from trainers.common import flags
from trainers.common.errors import BadInput, one_line
from trainers.common.experiment import Experiment

_NOT_OPTIONS = ("name", "dtype")  # of every Keras layer
_KINDS: dict[type, tuple[Callable[[str], Any], str]] = {
    int: (absl_flags.IntegerParser().parse, "an integer"),
    float: (absl_flags.FloatParser().parse, "a number"),
    str: (str, "a word"),
}


def names(estimator: str) -> list[str]:
    """The names of the options that an estimator takes."""
    return list(_parameters(estimator))


def takers(option: str) -> list[str]:
    """The names of the estimators that take an option."""
    return [estimator for estimator in estimators.names() if option in _parameters(estimator)]


def _parameters(estimator: str) -> dict[str, inspect.Parameter]:
    signature = inspect.signature(type(estimators.get(estimator)), eval_str=True)
    return {
        name: parameter
        for name, parameter in signature.parameters.items()
        if name not in _NOT_OPTIONS and _kind(parameter)[0] in (bool, *_KINDS)
    }


def _kind(parameter: inspect.Parameter) -> tuple[Any, bool]:
    """The type of a parameter, and whether it may be None as well."""
    if not isinstance(parameter.annotation, types.UnionType):
        return parameter.annotation, False
    kinds = [kind for kind in typing.get_args(parameter.annotation) if kind is not types.NoneType]
    return (kinds[0] if len(kinds) == 1 else None), len(kinds) < len(typing.get_args(parameter.annotation))


def define(values: flags.Flags, without: Collection[str] = ()) -> list[str]:
    """Defines a flag for each option of all estimators; their names, in order."""
    defined: list[str] = []
    for estimator in estimators.names():
        for name, parameter in _parameters(estimator).items():
            if name not in (*without, *defined):
                _define(values, name, *_kind(parameter), _description(estimator, name))
                defined.append(name)
    return defined


def _define(values: flags.Flags, name: str, kind: type, optional: bool, description: str) -> None:
    text = f"Option of {', '.join(takers(name))}: {description} Unset: the estimator's own default."
    if kind is bool:
        flags.define_boolean(values, name, None, text)
    else:
        convert, expected = _KINDS[kind]
        if optional:
            convert, expected = _or_none(convert), f"{expected} or none"
        flags.define(values, name, None, text, convert, expected)


def _or_none(convert: Callable[[str], Any]) -> Callable[[str], Any]:
    """A converter that leaves `none` as text, since the value None means that the flag was not given."""
    return lambda argument: argument if argument == "none" else convert(argument)


def _description(estimator: str, name: str) -> str:
    """What the docstring of the constructor's class says about an argument."""
    for cls in type(estimators.get(estimator)).__mro__:
        found = re.search(rf"^        {name}: (.+(\n {{9,}}.+)*)", cls.__doc__ or "", re.MULTILINE)
        if found:
            return " ".join(found[1].replace('"', "").replace("`", "").split())
    return ""


def build(experiment: Experiment) -> estimators.Estimator:
    """The estimator of an experiment, with the options that were given.

    Raises:
        BadInput: for an option that the estimator does not take, or a value that its constructor refuses.
    """
    taken = _parameters(experiment.estimator)
    given = experiment.given_options()
    for name, value in given.items():
        if name not in taken:
            expected = ", ".join(f"--{other}" for other in taken) or "no option"
            raise BadInput(f"flag --{name}={value}: expected with --estimator={experiment.estimator}: {expected}")
    arguments: dict[str, Any] = {
        n: None if value == "none" and _kind(taken[n])[1] else value for n, value in given.items()
    }
    try:
        return type(estimators.get(experiment.estimator))(**arguments)
    except ValueError as error:
        raise BadInput(_as_flags(one_line(error), given)) from error


def _as_flags(message: str, given: dict[str, Any]) -> str:
    """Turns a message of the library about an argument into one about the flag."""
    found = re.match(r"`(\w+)` must be (.*)\. Received: ", message)
    if not found or found[1] not in given:
        return message
    value = given[found[1]]
    text = f"{value:g}" if isinstance(value, float) else flags.text(value)
    return f"flag --{found[1]}={text}: expected {found[2]}"
