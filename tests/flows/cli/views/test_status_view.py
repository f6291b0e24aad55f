"""Tests of the terminal view of a project's status."""

from __future__ import annotations

import pytest
from rich.text import Text

from ragtide.flows.cli.views.status import deleted_seen_renderables


@pytest.mark.parametrize(
    ("documents", "counted"),
    [(("a.md",), "has seen 1 document that was deleted"), (("a.md", "b.md"), "has seen 2 documents that were deleted")],
)
def test_deleted_documents_are_counted_and_named(documents: tuple[str, ...], counted: str) -> None:
    [line] = deleted_seen_renderables(documents)
    assert isinstance(line, Text)
    assert counted in line.plain
    assert all(document in line.plain for document in documents)


def test_without_deleted_documents_there_is_no_line() -> None:
    assert list(deleted_seen_renderables(())) == []
