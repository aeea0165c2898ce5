"""The error of a dataset that is neither on disk nor downloadable."""


class DatasetUnavailableError(RuntimeError):
    """A dataset was not found on disk and could not be downloaded.

    The message says where it was looked for, what the download answered, and the ways out.
    """
