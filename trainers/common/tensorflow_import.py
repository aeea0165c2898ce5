"""Imports TensorFlow without its log lines, and with XLA's widest vectors."""

from __future__ import annotations

import importlib.metadata
import os
import sys
import tempfile

_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
_VECTOR_WIDTH = "--xla_cpu_prefer_vector_width"
# The versions of TensorFlow whose XLA has that flag: one without it would end the program.
_VERSIONS_WITH_FLAG = ("2.19.", "2.20.", "2.21.")


def import_tensorflow() -> None:
    """Imports TensorFlow with its C++ log at errors only, unless the user has set `TF_CPP_MIN_LOG_LEVEL`.

    XLA uses vectors of 512 bits where the processor has them, unless the user's `XLA_FLAGS` say otherwise; its default
    is 256.
    """
    if "tensorflow" in sys.modules:
        return
    _widen_vectors()
    if _LEVEL in os.environ:
        return
    os.environ[_LEVEL] = "2"
    # While they load, TensorFlow logs before it has read the level, and looks for a GPU.
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 2)
        try:
            import rebar_tf  # noqa: F401  only loaded here, TensorFlow with it
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
