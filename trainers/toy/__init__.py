"""Runs the paper's toy problem: `python -m trainers.toy --help`."""
