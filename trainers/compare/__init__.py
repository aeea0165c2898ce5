"""Says which estimator to take: `python -m trainers.compare --help`."""
