"""What the tests of the command lines share."""


def exit_status(run):
    """Of a command that runs in this process: what `run` returns, or what it exits with."""
    try:
        return run() or 0
    except SystemExit as stop:
        return stop.code


def assert_fails_with(command, message, capsys, *arguments):
    """`command(*arguments)` exits with 2 and prints nothing but one line of error, with this message."""
    assert command(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert message in captured.err
