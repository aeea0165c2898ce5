"""Command lines that reproduce the paper: `python -m trainers.train --help`."""

import importlib.util
import os
import sys

from trainers.common.signals import exit_at_once

# Python is looking for the command that `python -m trainers.NAME` or `rebar-NAME` names.
if sys.argv[0] == "-m" or os.path.basename(sys.argv[0]).startswith("rebar-"):
    exit_at_once()

_NEEDED = ("joblib", "matplotlib", "mlxtend", "tensorboard", "tqdm")
_missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
if _missing:
    raise SystemExit(f"trainers: error: needs {', '.join(_missing)}: pip install 'rebar_tf[trainers]'")
