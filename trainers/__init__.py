"""Command lines that reproduce the paper: `python -m trainers.train --help`."""

import sys

from trainers.common.signals import exit_at_once

if sys.argv[0] == "-m":  # Python is looking for the command that `python -m trainers.NAME` names
    exit_at_once()
