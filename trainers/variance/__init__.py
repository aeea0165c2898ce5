"""Compares the gradient variance of several methods: `python -m trainers.variance --help`."""
