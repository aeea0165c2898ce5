"""Trains one model: `python -m trainers.train --help`."""
