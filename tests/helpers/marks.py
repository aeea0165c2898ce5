"""Which cases of a test every run takes, and which only a run with the slow marks."""

import pytest


def slow_but(quick, cases):
    """The cases as parameters, those that are not among the quick ones marked slow.

    Args:
        quick: some of the cases, or a function that says of a case whether it is one.
        cases: single values, or tuples of them.
    """
    is_quick = quick if callable(quick) else lambda *case: (case if len(case) > 1 else case[0]) in quick
    parameters = []
    for case in cases:
        values = case if isinstance(case, tuple) else (case,)
        parameters.append(pytest.param(*values, marks=[] if is_quick(*values) else [pytest.mark.slow]))
    return parameters
