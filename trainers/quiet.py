"""TensorFlow and its companions without their log lines."""

from __future__ import annotations

import os
import sys
import tempfile

from absl import flags, logging

_LEVEL = "TF_CPP_MIN_LOG_LEVEL"


def quiet_logs() -> None:
    """Leaves only the errors of libraries that log through absl, unless the user has given `--verbosity`."""
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.ERROR)


def import_tensorflow() -> None:
    """Imports TensorFlow with its C++ log at errors only, unless the user has set `TF_CPP_MIN_LOG_LEVEL`."""
    if "tensorflow" in sys.modules or _LEVEL in os.environ:
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
