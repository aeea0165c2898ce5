"""Measurements, each one command: `python -m benchmarks.estimator_tables`."""
