"""Where images come from: what reads one kind of file, or one source."""
