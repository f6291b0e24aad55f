"""How does Ragtide say no? One error for everything that the user can put right, and one line for what went wrong."""

from __future__ import annotations

from pydantic import ValidationError


class UserError(Exception):
    """Something is wrong that the user can mend: the message says what, where and what to do, in one line.

    Raised before anything is changed; the command line prints it without a traceback and exits with 1.
    """


class UnavailableError(UserError):
    """A service that the project needs does not answer. It may pass: unlike another refusal, it is tried again."""


def summarize_error(problem: Exception) -> str:
    """What a library said, in one line: of several wrong fields the first, of a file's trouble the reason alone."""
    if isinstance(problem, ValidationError):
        first = problem.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        return f"{key}: {first['msg']}" if key else first["msg"]
    if isinstance(problem, OSError) and problem.strerror:
        return problem.strerror
    return " ".join(str(problem).split()) or type(problem).__name__
