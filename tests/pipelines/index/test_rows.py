"""Tests of the rows: hostile names and digests (invariant values-are-data, docs/invariants.md), and samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ragtide.pipelines.errors import UserError
from ragtide.pipelines.records.data import Chunk
from tests.factories import Shelf, chunk
from tests.pipelines.index.chunk_pages import (
    HOSTILE,
    SENTENCES,
    ledger_of,
    many,
    page,
)


def pages_named(*names: str) -> list[Chunk]:
    return [chunk for name in names for chunk in page(name, f"Page {name} by name.", SENTENCES[0])]


@pytest.mark.parametrize("name", HOSTILE)
def test_deleting_a_page_with_a_hostile_name_deletes_only_that_page(shelf: Shelf, name: str) -> None:
    others = [other for other in HOSTILE if other != name]
    shelf.refresh(pages_named(*HOSTILE))
    left = [*pages_named(*others), *page("new.md", "New.")]
    shelf.refresh(left)
    assert shelf.index.rows() == ledger_of(left)


@pytest.mark.parametrize("name", HOSTILE)
def test_editing_a_page_with_a_hostile_name_changes_only_that_page(shelf: Shelf, name: str) -> None:
    others = pages_named(*(other for other in HOSTILE if other != name))
    shelf.refresh([*pages_named(name), *others])
    shorter = [*page(name, "Short."), *others]
    assert shelf.embeds(shorter) == ["Page\nShort."]
    assert shelf.index.rows() == ledger_of(shorter)


def test_similar_names_are_different_pages(shelf: Shelf) -> None:
    alike = ("a.md", "A.md", "a.md ", "é.md", "e\u0301.md", "a%md", "a_md")
    shelf.refresh(pages_named(*alike))
    assert {document for document, _ in shelf.index.rows()} == set(alike)


@pytest.mark.parametrize("digest", ["' OR '1'='1", "it's", "\\", '"'])
def test_a_hostile_digest_finds_only_its_own_vector(shelf: Shelf, digest: str) -> None:
    odd = chunk("odd.md", "odd text").model_copy(update={"digest": digest})
    shelf.refresh([odd, chunk("b.md", "another text")])
    vector = next(row["vector"] for row in shelf.content() if row["document"] == "odd.md")
    assert shelf.embeds([odd.model_copy(update={"document": "moved.md"}), chunk("b.md", "another text")]) == []
    assert next(row["vector"] for row in shelf.content() if row["document"] == "moved.md") == vector


def test_a_sample_is_evenly_spaced_in_order_of_key(shelf: Shelf) -> None:
    version = shelf.refresh([chunk for name in HOSTILE for chunk in page(name, *SENTENCES)]).version
    rows = shelf.content(version)
    sampled = shelf.index.sample(version, 7)
    wanted = [rows[index * len(rows) // 7] for index in range(7)]
    assert list(sampled.texts) == [row["text"] for row in wanted]
    assert sampled.vectors.tolist() == [row["vector"] for row in wanted]
    assert sampled.vectors.shape == (7, shelf.embedder.dimensions)
    assert sampled.vectors.dtype == np.float32


def test_a_sample_does_not_depend_on_the_order_of_writing(shelf: Shelf, tmp_path: Path) -> None:
    for chunks in (many(20)[::3], many(20)[::2], many(20)):
        shelf.refresh(chunks)
    clean = Shelf(str(tmp_path / "clean"))
    clean.refresh(many(20))
    grown, whole = shelf.index.sample(shelf.latest, 6), clean.index.sample(clean.latest, 6)
    assert grown.texts == whole.texts == tuple(f"text {index * 20 // 6}" for index in range(6))
    assert np.array_equal(grown.vectors, whole.vectors)


def test_a_sample_of_few_rows_holds_all_of_its_version(shelf: Shelf) -> None:
    first = shelf.refresh(many(3)).version
    shelf.index.tag("release-1", first)
    empty = shelf.refresh([]).version
    assert shelf.index.sample("release-1", 10).texts == ("text 0", "text 1", "text 2")
    assert shelf.index.sample(first, 0).texts == ()
    assert shelf.index.sample(empty, 10).vectors.shape == (0, shelf.embedder.dimensions)
    with pytest.raises(UserError, match="has no version 99"):
        shelf.index.sample(99, 10)
