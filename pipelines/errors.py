"""Errors that the user can fix, reported in one line."""

from __future__ import annotations

from pydantic import ValidationError


class UserError(Exception):
    """A problem that the user can fix: the message says what happened, where, and what to do, in one line.

    Raised before anything is changed; the command line prints it without a traceback and exits with 1.
    """


class UnavailableError(UserError):
    """A service that the project needs does not answer. Often temporary: unlike other user errors, it is retried."""


def summarize_error(problem: Exception) -> str:
    """An error of a library in one line: the first of several invalid fields, or the reason of an OSError."""
    if isinstance(problem, ValidationError):
        first = problem.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        return f"{key}: {first['msg']}" if key else first["msg"]
    if isinstance(problem, OSError) and problem.strerror:
        return problem.strerror
    return " ".join(str(problem).split()) or type(problem).__name__
