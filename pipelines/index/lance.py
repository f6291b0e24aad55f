"""The single import of LanceDB, and the translation of its errors."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from ragtide.pipelines.errors import UnavailableError, summarize_error

C = TypeVar("C", bound=type)


def translate_lance_errors(kind: C) -> C:
    """Have every public method tell what LanceDB raises (a damaged file, a full disk) as an UnavailableError."""
    for name, method in list(vars(kind).items()):
        if callable(method) and not name.startswith("_"):
            setattr(kind, name, _telling(method))
    return kind


def _telling(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def tell(*arguments: Any, **options: Any) -> Any:
        try:
            return method(*arguments, **options)
        except (RuntimeError, ValueError, OSError) as problem:
            said = summarize_error(problem)
            if "lance" not in said.lower():
                raise
            what = said.removeprefix("lance error: ").split(", /")[0][:300]
            raise UnavailableError(f"the index does not answer as it should: {what}; see `ragtide verify`") from problem

    return tell
