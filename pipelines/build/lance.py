"""Where does LanceDB come from? The one import of it, without half a second that nobody needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pydantic


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

__all__ = ["FTS", "IvfRq", "IvfSq", "MatchQuery", "col", "lancedb", "lit"]
