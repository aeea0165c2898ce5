"""Writes a trained model alone: `python -m trainers.export --help`."""
