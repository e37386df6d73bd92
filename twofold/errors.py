"""Errors that a user can cause, each one line that says what is wrong and what to do next; and all exit codes."""

FAILED, USAGE, SOME_FAILED, INTERRUPTED = 1, 2, 3, 130


class TwofoldError(Exception):
    """Something failed for a reason the user can act on; the command line exits with code 1."""

    exit_code = FAILED


class UsageError(TwofoldError):
    """The command or a setting was wrong, and nothing was started; exit code 2."""

    exit_code = USAGE
