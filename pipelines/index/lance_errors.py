"""Translation of LanceDB's errors into UnavailableError, as a class decorator."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from ragtide.pipelines.errors import UnavailableError, summarize_error

C = TypeVar("C", bound=type)
MESSAGE_CHARACTERS = 300


def translate_lance_errors(kind: C) -> C:
    """Make every public method raise LanceDB's errors (a damaged file, a full disk) as UnavailableError."""
    for name, method in list(vars(kind).items()):
        if callable(method) and not name.startswith("_"):
            setattr(kind, name, _translating(method))
    return kind


def _translating(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def call(*arguments: Any, **options: Any) -> Any:
        try:
            return method(*arguments, **options)
        except (RuntimeError, ValueError, OSError) as problem:
            message = summarize_error(problem)
            if "lance" not in message.lower():
                raise
            reason = message.removeprefix("lance error: ").split(", /")[0][:MESSAGE_CHARACTERS]
            raise UnavailableError(f"the index cannot be read or written: {reason}; see `ragtide verify`") from problem

    return call
