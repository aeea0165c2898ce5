"""What a command line was given that it does not take."""


class BadInput(Exception):
    """Bad input of the user: shown as one line, without a traceback.

    The message names the flag, its value, and what is accepted.
    """


def one_line(error: Exception) -> str:
    """The message of an error on a single line."""
    return " ".join(str(error).split())
