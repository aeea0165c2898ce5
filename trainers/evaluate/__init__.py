"""Evaluates a finished run: `python -m trainers.evaluate --help`."""
