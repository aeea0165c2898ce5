"""Command lines that reproduce the paper: `python -m trainers.train --help`."""
