"""Errors that a user can cause: one line that says what is wrong and what to do next."""


class TwofoldError(Exception):
    """Something failed for a reason the user can act on; the command line exits with code 1."""

    exit_code = 1


class UsageError(TwofoldError):
    """The command or a setting was wrong, and nothing was started; exit code 2."""

    exit_code = 2
