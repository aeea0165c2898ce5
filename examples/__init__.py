"""Short scripts to start from: `python -m examples.drop_in_model`."""
