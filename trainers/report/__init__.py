"""Writes the paper's tables and figures: `python -m trainers.report --help`."""
