"""A run in a folder: its files, its training, and how it resumes."""
