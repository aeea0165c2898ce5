"""The power of the tests: faults put into the library one at a time, which the tests of their area must find.

  python -m benchmarks.mutations --jobs=2
  python -m benchmarks.mutations --match=rebar.py
  python -m benchmarks.mutations --list

The faults are those of benchmarks/mutation_list.py. Each is put into a copy of the repository, whose fast tests of the
area run until one fails. Prints for each fault the test that found it, or SURVIVED; DOES NOT APPLY where the text to
replace is not found exactly once. It also checks that tests fail where the library cannot be imported, so that they
import the copy, and that the tests that found a fault pass without one. The exit status is 0 if every fault was found.
"""

from __future__ import annotations

import ast
import concurrent.futures
import dataclasses
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

from benchmarks.mutation_list import MUTATIONS, Mutation
from trainers.common import flags
from trainers.common.errors import BadInput, reports_bad_input

SURVIVED, TIME_LIMIT, DOES_NOT_APPLY, NO_TESTS = "SURVIVED", "TIME LIMIT", "DOES NOT APPLY", "NO TESTS"

_CONFTEST = "tests/conftest.py"  # finds what cannot be imported, before any test

_REPOSITORY = pathlib.Path(__file__).parents[1]
_COPIED = ("rebar_tf", "trainers", "tests", "setup.cfg")  # what tests import, and their settings
_NO_IMPORT = Mutation(
    "the library cannot be imported", "rebar_tf/__init__.py", "from rebar_tf import (", "from nowhere import (", ()
)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a fault: the test that found it, or one of the words above."""

    found_by: str
    seconds: float

    @property
    def is_found(self) -> bool:
        return self.found_by not in (SURVIVED, TIME_LIMIT, DOES_NOT_APPLY, NO_TESTS)


@reports_bad_input("mutations")
def main(argv: Sequence[str]) -> int:
    values = flags.Flags()
    flags.define_string(values, "match", "", "Only the faults that have this text in their description or file.")
    flags.define_boolean(values, "list", False, "Whether to list the faults, and which do not apply, without tests.")
    flags.define_integer(values, "jobs", 1, "How many faults are tested at a time.", low=1)
    flags.define_integer(values, "seconds", 600, "Time limit for the tests of one fault.", low=1)
    given = flags.parse(values, argv, __doc__)
    chosen = [each for each in MUTATIONS if given["match"] in each.breaks or given["match"] in each.file]
    if not chosen:
        raise BadInput(f"flag --match={given['match']}: expected a text in the description or file of some fault")
    if given["list"]:
        applies = [mutated(each) is not None for each in chosen]
        for each, good in zip(chosen, applies, strict=True):
            print(f"| {each.file} | {each.breaks} | {'' if good else DOES_NOT_APPLY} |")
        return 0 if all(applies) else 1
    check_import(chosen[0].tests)
    print("| file | fault | found by | seconds |\n| --- | --- | --- | --- |", flush=True)
    outcomes = []
    with concurrent.futures.ThreadPoolExecutor(given["jobs"]) as pool:
        for each, outcome in zip(chosen, pool.map(lambda each: find(each, given["seconds"]), chosen), strict=True):
            print(f"| {each.file} | {each.breaks} | {outcome.found_by} | {outcome.seconds:.0f} |", flush=True)
            outcomes.append(outcome)
    found = [outcome.found_by for outcome in outcomes if outcome.is_found]
    check_passing(found)
    print(f"\n{len(found)} of {len(outcomes)} found")
    return 0 if len(found) == len(outcomes) else 1


def check_import(tests: Sequence[str]) -> None:
    """BadInput if tests pass where the library cannot be imported."""
    outcome = find(dataclasses.replace(_NO_IMPORT, tests=tests))
    if not outcome.is_found:
        raise BadInput(f"the tests must import the copy; received: {outcome.found_by} where it cannot be imported")


def check_passing(tests: Sequence[str]) -> None:
    """BadInput if one of the tests fails without a fault."""
    tests = [test for test in dict.fromkeys(tests) if test != _CONFTEST]
    failing = run(tests, text=None) if tests else SURVIVED
    if failing != SURVIVED:
        raise BadInput(f"the tests that found a fault must pass without one; received: {failing}")


def find(mutation: Mutation, seconds: float | None = None) -> Outcome:
    """Tests a copy with the fault."""
    text, begin = mutated(mutation), time.perf_counter()
    found_by = DOES_NOT_APPLY if text is None else run(mutation.tests, text, mutation.file, seconds)
    return Outcome(found_by, time.perf_counter() - begin)


def mutated(mutation: Mutation) -> str | None:
    """The text of the file with the fault; None where it does not apply."""
    text = (_REPOSITORY / mutation.file).read_text()
    if text.count(mutation.before) != 1:
        return None
    text = text.replace(mutation.before, mutation.after)
    ast.parse(text, mutation.file)  # a fault is no error of syntax, which any test would find
    return text


def run(tests: Sequence[str], text: str | None, file: str = "", seconds: float | None = None) -> str:
    """The first of the fast tests that fails in a copy where a file, if one is named, has that text."""
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder)
        for name in _COPIED:
            source = _REPOSITORY / name
            if source.is_dir():
                shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, copy)
        if text is not None:
            (copy / file).write_text(text)
        options = ["-m", "not slow", "-x", "-q", "--tb=no", "-p", "no:cacheprovider"]
        command = ["nice", sys.executable, "-B", "-m", "pytest", *tests, *options]
        with (copy / "output").open("w+") as output:
            try:
                status = subprocess.run(command, cwd=copy, stdout=output, stderr=output, timeout=seconds).returncode
            except subprocess.TimeoutExpired:
                return TIME_LIMIT
            output.seek(0)
            return verdict(status, output.read())


def verdict(status: int, output: str) -> str:
    """What pytest's exit status and summary say."""
    if status == 0:
        return SURVIVED
    if "ImportError while loading conftest" in output:
        return _CONFTEST
    failed = [line for line in output.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    return failed[0].partition(" ")[2].partition(" - ")[0] if failed else NO_TESTS


if __name__ == "__main__":
    sys.exit(main(sys.argv))
