"""Tests of the delta: what a refresh would change, and renamed against deleted documents."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ragtide.pipelines.records.data import Chunk
from tests.factories import Shelf
from tests.pipelines.index.chunk_pages import (
    SENTENCES,
    another_file,
    ledger_of,
    page,
    two_passages,
)


def test_a_delta_counts_what_the_refresh_does(shelf: Shelf) -> None:
    live = shelf.refresh([*page("a.md", *SENTENCES[:2]), *page("b.md", SENTENCES[2])]).version
    wanted = [*page("a.md", SENTENCES[0], "New."), *page("c.md", SENTENCES[3], SENTENCES[0])]
    delta = shelf.delta(wanted, live)
    assert shelf.latest == live
    before, after = shelf.index.rows(live), ledger_of(wanted)
    old, new = ({digest for digest, _ in ledger.values()} for ledger in (before, after))
    assert (delta.chunks_before, delta.chunks_after) == (len(before), len(wanted))
    assert delta.upserted == sum(before.get(key) != value for key, value in after.items())
    assert delta.deleted == len(before.keys() - after.keys()) > 0
    assert delta.new == sum(digest not in old for digest, _ in after.values()) > 0
    assert delta.removed == sum(digest not in new for digest, _ in before.values()) > 0
    assert delta.to_embed == len(new - old) == len(shelf.embeds(wanted))
    assert shelf.delta(wanted, shelf.latest).is_empty


def test_a_delta_compares_with_the_live_version_and_uses_vectors_of_the_latest(shelf: Shelf) -> None:
    live = shelf.refresh(page("a.md", SENTENCES[0])).version
    shelf.refresh(page("a.md", SENTENCES[1]))
    delta = shelf.delta(page("a.md", SENTENCES[1]), live)
    assert (delta.new, delta.upserted, delta.to_embed) == (1, 1, 0)


@pytest.mark.parametrize(
    ("wanted", "deleted", "renamed"),
    [
        (lambda: [*two_passages("moved/a.md"), *page("b.md", SENTENCES[2])], 1, 1),
        (lambda: [*two_passages("moved/a.md"), *page("moved/b.md", SENTENCES[2])], 2, 2),
        (lambda: [*page("moved/a.md", SENTENCES[0], "New."), *page("b.md", SENTENCES[2])], 1, 0),
        # The same passages in a file with other bytes.
        (lambda: [*another_file(two_passages("moved/a.md")), *page("b.md", SENTENCES[2])], 1, 0),
        (lambda: [*two_passages(), *two_passages("copy.md"), *page("b.md", SENTENCES[2])], 0, 0),
        (lambda: [*two_passages("one.md"), *two_passages("two.md"), *page("b.md", SENTENCES[2])], 1, 1),
        (lambda: page("b.md", SENTENCES[2]), 1, 0),
        (lambda: [*two_passages("b.md")], 1, 1),
        (lambda: [*two_passages(), *page("b.md", SENTENCES[3])], 0, 0),
        (lambda: [], 2, 0),
    ],
    ids=[
        "one renamed",
        "both renamed",
        "renamed and edited",
        "the same passages in another file",
        "copied",
        "renamed and copied",
        "removed",
        "renamed over another",
        "edited",
        "all deleted",
    ],
)
def test_a_delta_distinguishes_renamed_from_deleted_documents(
    shelf: Shelf, wanted: Callable[[], list[Chunk]], deleted: int, renamed: int
) -> None:
    live = shelf.refresh([*two_passages(), *page("b.md", SENTENCES[2])]).version
    delta = shelf.delta(wanted(), live)
    assert (delta.documents_deleted, delta.documents_renamed) == (deleted, renamed)
    first = shelf.delta(wanted(), None)
    assert (first.documents_deleted, first.documents_renamed) == (0, 0)
