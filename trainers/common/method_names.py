"""How a method of a comparison is named."""

from __future__ import annotations


def canonical(name: str) -> str:
    """`rebar:0.1` for rebar:0.10, as a number may be spelt in several ways; what has no number stays as it is."""
    estimator, colon, number = name.partition(":")
    try:
        temperature = float(number)
    except ValueError:
        return name
    short = f"{temperature:g}"
    return f"{estimator}{colon}{short if float(short) == temperature else repr(temperature)}"
