"""Trains a grid of models: `python -m trainers.sweep --help`."""
