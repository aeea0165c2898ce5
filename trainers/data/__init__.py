"""Prepares a dataset and prints its statistics: `python -m trainers.data --help`."""
