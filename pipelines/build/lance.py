"""Where does LanceDB come from? The one import of it, without half a second that nobody needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar

import pydantic

from pipelines.errors import UnavailableError, one_line

C = TypeVar("C", bound=type)


@contextmanager
def _unchecked() -> Iterator[None]:
    """Have no checks built for the arguments of a client of remote catalogs: LanceDB imports it, and nobody calls it.

    Building them takes a quarter of LanceDB's import (docs/log.md); without them its methods work as before.
    """
    checked = pydantic.validate_call

    def as_it_is(function: Callable[..., Any] | None = None, /, **_: Any) -> Any:
        return function if function else as_it_is

    pydantic.validate_call = as_it_is  # type: ignore[assignment]
    try:
        yield
    finally:
        pydantic.validate_call = checked


with _unchecked():
    import lancedb
    from lancedb.expr import col, lit
    from lancedb.index import FTS, IvfRq, IvfSq
    from lancedb.query import MatchQuery

__all__ = ["FTS", "IvfRq", "IvfSq", "MatchQuery", "answering", "col", "lancedb", "lit"]


def answering(kind: C) -> C:
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
            said = one_line(problem)
            if "lance" not in said.lower():
                raise
            what = said.removeprefix("lance error: ").split(", /")[0][:300]
            raise UnavailableError(f"the index does not answer as it should: {what}; see `ragtide verify`") from problem

    return tell
