"""Errors that the user can fix, reported in one line."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from ragtide.pipelines.safe_text import mask_secrets


class UserError(Exception):
    """A problem that the user can fix: the message says what happened, where, and what to do, in one line.

    Raised before anything is changed; the command line prints it without a traceback and exits with 1. Secrets in the
    message are masked.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(mask_secrets(message))


class UnavailableError(UserError):
    """A service that the project needs does not answer. Often temporary: unlike other user errors, it is retried."""


def summarize_error(problem: Exception) -> str:
    """An error of a library in one line without secrets: the first invalid field, or the reason of an OSError."""
    return mask_secrets(_summarize(problem))


def _summarize(problem: Exception) -> str:
    if isinstance(problem, ValidationError):
        first = problem.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        return f"{key}: {first['msg']}" if key else first["msg"]
    if isinstance(problem, OSError) and problem.strerror:
        return problem.strerror
    # An error of YAML quotes the text around it.
    mark: Any = getattr(problem, "problem_mark", None)
    if mark is not None:
        return f"{getattr(problem, 'problem', None)}, line {mark.line + 1}, column {mark.column + 1}"
    return " ".join(str(problem).split()) or type(problem).__name__
