"""TensorFlow and its companions without their log lines, and with XLA's widest vectors."""

from __future__ import annotations

import importlib.metadata
import os
import sys
import tempfile

from absl import flags, logging

_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
_VECTOR_WIDTH = "--xla_cpu_prefer_vector_width"
_KNOW_IT = ("2.19.", "2.20.", "2.21.")  # versions of TensorFlow; one that does not know a flag of XLA's ends at once


def quiet_logs() -> None:
    """Leaves only the errors of libraries that log through absl, unless the user has given `--verbosity`."""
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.ERROR)


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
    # While it loads, TensorFlow logs before it has read the level.
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 2)
        try:
            import tensorflow  # noqa: F401  only loaded here
        except BaseException:
            log.seek(0)
            os.write(stderr, log.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def _widen_vectors() -> None:
    xla_flags = os.environ.get("XLA_FLAGS", "")
    if _VECTOR_WIDTH not in xla_flags and importlib.metadata.version("tensorflow").startswith(_KNOW_IT):
        os.environ["XLA_FLAGS"] = f"{_VECTOR_WIDTH}=512 {xla_flags}"
