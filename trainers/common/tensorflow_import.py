"""Imports TensorFlow without its log lines, with XLA's widest vectors, and without what no command needs."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
_VECTOR_WIDTH = "--xla_cpu_prefer_vector_width"
OPTIONAL_FOR_KERAS = ("matplotlib", "pandas", "sklearn")  # pictures, data frames, scikit-learn's interface
# The versions of TensorFlow whose XLA has that flag: one without it would end the program.
_VERSIONS_WITH_FLAG = ("2.19.", "2.20.", "2.21.")


def import_tensorflow() -> None:
    """Imports TensorFlow with its C++ log at errors only, unless the user has set `TF_CPP_MIN_LOG_LEVEL`.

    XLA uses vectors of 512 bits where the processor has them, unless the user's `XLA_FLAGS` say otherwise; its default
    is 256. Keras does without the packages that it would load for features that no command uses.
    """
    if "tensorflow" in sys.modules:
        return
    _widen_vectors()
    if _LEVEL in os.environ:
        _load()
        return
    with _quiet():
        _load()


def _load() -> None:
    with hidden(OPTIONAL_FOR_KERAS):
        importlib.import_module("rebar_tf")  # TensorFlow with it
    config = importlib.import_module("tensorflow").config
    # Looks for a GPU, and logs where there is none.
    for gpu in config.list_physical_devices("GPU"):
        config.experimental.set_memory_growth(gpu, True)  # else it takes all memory, and a second run finds none


@contextlib.contextmanager
def hidden(names: Sequence[str]) -> Iterator[None]:
    """In this block an import of these packages fails as if they were not installed, unless they are loaded already."""
    missing = [name for name in names if name not in sys.modules]
    modules: dict[str, Any] = sys.modules
    modules.update(dict.fromkeys(missing))  # None stands for a package that is not there
    try:
        yield
    finally:
        for name in missing:
            del modules[name]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """In this block nothing is written to stderr, but if it fails.

    While it loads, TensorFlow logs before it has read the level.
    """
    os.environ[_LEVEL] = "2"
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 2)
        try:
            yield
        except SystemExit:  # of a signal, whose line is the last one
            log.seek(0)
            os.write(stderr, b"".join(log.readlines()[-1:]))
            raise
        except BaseException:
            log.seek(0)
            os.write(stderr, log.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def _widen_vectors() -> None:
    xla_flags = os.environ.get("XLA_FLAGS", "")
    if _VECTOR_WIDTH not in xla_flags and importlib.metadata.version("tensorflow").startswith(_VERSIONS_WITH_FLAG):
        os.environ["XLA_FLAGS"] = f"{_VECTOR_WIDTH}=512 {xla_flags}"
