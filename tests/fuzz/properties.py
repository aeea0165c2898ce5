"""What holds for any input, with the inputs to try it on."""

import warnings

import numpy as np
from fuzz import api, commands, files
from hypothesis import HealthCheck, given, settings

# What holds, with which inputs, and of how many inputs asked for one is tried: matrices take a process each.
PROPERTIES = {
    "damaged files": (files.check_damaged_file, files.damages(files.WHOLE.keys() - files.IN_A_PROCESS), 1),
    "damaged matrices": (files.check_damaged_file, files.damages(files.IN_A_PROCESS), 50),
    "expectation": (api.check_expectation, api.expectations(), 1),
    "layers": (api.check_layer, api.layers(), 1),
    "command lines": (commands.check_command_line, commands.COMMAND_LINES, 1),
}


def tried(name, inputs, derandomize=False):
    """How many inputs held the property of that name, of so many asked for; raises at one that does not hold it."""
    check, strategy, one_of = PROPERTIES[name]
    count = 0

    def counted(case):
        nonlocal count
        count += 1
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore", RuntimeWarning)  # of numbers that overflow in the types tried
            check(case)

    chosen = settings(
        max_examples=-(-inputs // one_of),
        deadline=None,
        derandomize=derandomize,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    chosen(given(strategy)(counted))()
    return count
