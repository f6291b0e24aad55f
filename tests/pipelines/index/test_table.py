"""Tests of the index table: durable commits, reuse of vectors, tags and readers, and documents without text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import lancedb
import pytest

from ragtide.pipelines.errors import UserError
from ragtide.pipelines.index import source as source_module
from ragtide.pipelines.index.source import InMemorySource
from ragtide.pipelines.index.table import Index
from ragtide.pipelines.index.vector_cache import VectorCache
from ragtide.pipelines.ports import Advance, no_progress
from ragtide.pipelines.records.data import Chunk
from tests.factories import SHORT, HashEmbedder, Shelf, chunk
from tests.pipelines.index.chunk_pages import (
    SENTENCES,
    ScriptedSource,
    another_file,
    digests_of,
    keys_of,
    ledger_of,
    many,
    page,
    two_passages,
)


def counting(seen: list[tuple[str, int]], done: list[int]) -> Callable[[str, int], AbstractContextManager[Advance]]:
    """A Progress that records its calls."""

    @contextmanager
    def progress(label: str, total: int) -> Iterator[Advance]:
        seen.append((label, total))
        yield done.append

    return progress


@pytest.mark.parametrize("fails_in", [0, 1, 2])
def test_a_failing_embedder_changes_nothing_and_the_next_refresh_succeeds(shelf: Shelf, fails_in: int) -> None:
    first = shelf.refresh(page("a.md", *SENTENCES[:2]))
    before = shelf.content()
    wanted = [*page("a.md", SENTENCES[2]), *page("b.md", *SENTENCES), *page("c.md", "New.")]
    shelf.embedder.fails_in = fails_in
    with pytest.raises(ConnectionError, match="went away"):
        shelf.refresh(wanted)
    assert (shelf.latest, shelf.content()) == (first.version, before)
    shelf.embedder.fails_in = None
    assert shelf.refresh(wanted).rows == len(wanted)
    assert shelf.index.rows() == ledger_of(wanted)


def test_a_failed_first_refresh_leaves_no_rows(shelf: Shelf) -> None:
    shelf.embedder.fails_in = 1
    with pytest.raises(ConnectionError):
        shelf.refresh(page("a.md", *SENTENCES))
    assert shelf.index.rows() == {}
    shelf.embedder.fails_in = None
    assert shelf.refresh(page("a.md", *SENTENCES)).rows == len(page("a.md", *SENTENCES))


@pytest.mark.usefixtures("small_windows")
def test_texts_embedded_before_a_failure_are_not_embedded_again(shelf: Shelf) -> None:
    shelf.embedder.fails_in = 5
    with pytest.raises(ConnectionError):
        shelf.refresh(many(7))
    assert shelf.index.rows() == {}
    # Two windows of two are kept; the third failed on its second text.
    assert shelf.cached() == digests_of(many(4))
    shelf.embedder.fails_in = None
    assert shelf.embeds(many(7)) == [chunk.text for chunk in many(7)[4:]]
    assert shelf.index.rows() == ledger_of(many(7))


@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize("before", [0, 3], ids=["first build", "merge"])
def test_an_exception_of_the_source_during_the_commit_is_raised_unchanged(shelf: Shelf, before: int) -> None:
    shelf.refresh(many(before)) if before else None
    rows, versions = shelf.index.rows(), shelf.versions() if before else []
    source = ScriptedSource({chunk.document: [chunk] for chunk in many(9)})
    # The first read is for embedding; the failure occurs in the second read, during the commit.
    source.fails_at = 9 + 3
    with pytest.raises(UserError, match=r"^\d+\.md changed while it was being read$"):
        shelf.index.refresh(source, "s", no_progress)
    assert shelf.index.rows() == rows
    assert (shelf.versions() if before else []) == versions
    source.fails_at = None
    assert shelf.index.refresh(source, "s", no_progress).embedded == 0
    assert keys_of(many(9)) == set(shelf.index.rows())


def test_the_rows_are_the_ledger(shelf: Shelf) -> None:
    chunks = page("a.md", *SENTENCES)
    built = shelf.refresh(chunks)
    assert shelf.index.rows() == shelf.index.rows(built.version) == ledger_of(chunks)
    assert [row["text"] for row in shelf.content()] == [chunk.text for chunk in chunks]
    assert (built.rows, built.embedded, built.documents, built.uri) == (len(chunks), len(chunks), "snapshot", shelf.uri)


def test_without_a_table_there_are_no_rows_and_reading_creates_none(shelf: Shelf) -> None:
    assert shelf.index.rows() == {}
    assert shelf.delta(page("a.md", *SENTENCES), None).to_embed == len(page("a.md", *SENTENCES))
    assert shelf.tables() == []


def test_an_open_handle_sees_the_commits_of_another(shelf: Shelf) -> None:
    old = shelf.index
    old.refresh(InMemorySource.of(page("a.md", SENTENCES[0])), "s", no_progress)
    shelf.refresh(page("a.md", *SENTENCES))
    assert old.rows() == ledger_of(page("a.md", *SENTENCES))
    assert old.refresh(InMemorySource.of(page("a.md", *SENTENCES)), "s", no_progress).embedded == 0


def test_a_first_refresh_embeds_each_distinct_text_once(shelf: Shelf) -> None:
    pages = [*page("a.md", *SENTENCES), *page("b.md", *SENTENCES), *page("c.md", SENTENCES[0])]
    assert sorted(shelf.embeds(pages)) == sorted({chunk.text for chunk in pages})
    assert len(shelf.content()) == len(pages)


@pytest.mark.parametrize(
    "after",
    [
        pytest.param(two_passages("moved/deep/b.md"), id="rename"),
        pytest.param([*two_passages(), *two_passages("copy.md")], id="copy"),
        pytest.param(two_passages(), id="touch"),
        pytest.param(page("a.md", *(text.replace(" ", "\n") for text in SENTENCES[:2])), id="re-wrap"),
        pytest.param(page("a.md", *reversed(SENTENCES[:2])), id="another order"),
        pytest.param(page("a.md", SENTENCES[0], SENTENCES[0]), id="a text again in place of another"),
        pytest.param(another_file(two_passages()), id="another file around"),
    ],
)
def test_a_change_without_new_texts_embeds_nothing(shelf: Shelf, after: list[Chunk]) -> None:
    shelf.refresh(two_passages())
    assert shelf.delta(after, shelf.latest).to_embed == 0
    assert shelf.embeds(after) == []
    assert shelf.index.rows() == ledger_of(after)


def test_a_revert_to_a_text_of_another_document_embeds_nothing(shelf: Shelf) -> None:
    both = [*page("a.md", SENTENCES[0]), *page("b.md", SENTENCES[0])]
    shelf.refresh(both)
    shelf.refresh([*page("a.md", SENTENCES[1]), *page("b.md", SENTENCES[0])])
    assert shelf.embeds(both) == []


def test_an_edit_embeds_only_the_edited_passage(shelf: Shelf) -> None:
    shelf.refresh(page("a.md", *SENTENCES))
    edited = page("a.md", SENTENCES[0], "A harbour pilot now comes aboard at the mole.", *SENTENCES[2:])
    [new] = shelf.embeds(edited)
    assert "now comes aboard" in new
    assert shelf.index.rows() == ledger_of(edited)


def test_an_unchanged_text_keeps_its_vector(shelf: Shelf) -> None:
    shelf.refresh(page("a.md", *SENTENCES[:2]))
    before = {row["text"]: row["vector"] for row in shelf.content()}
    shelf.refresh(page("b.md", *SENTENCES[1::-1]))
    assert {row["text"]: row["vector"] for row in shelf.content()} == before


@pytest.mark.parametrize(
    ("after", "new"),
    [
        (page("moved.md", *SENTENCES), []),
        (page("a.md", *SENTENCES, "New."), ["Page\nNew."]),
    ],
    ids=["rename", "edit"],
)
def test_a_lost_cache_is_restored_from_the_rows(shelf: Shelf, after: list[Chunk], new: list[str]) -> None:
    shelf.refresh(page("a.md", *SENTENCES))
    [cache] = [name for name in shelf.tables() if name.startswith("vectors-")]
    lancedb.connect(shelf.uri).drop_table(cache)
    assert shelf.embeds(after) == new
    assert shelf.index.rows() == ledger_of(after)
    assert shelf.cached() == digests_of(after)


def test_a_revert_embeds_nothing_even_many_versions_later(shelf: Shelf) -> None:
    shelf.refresh(page("a.md", *SENTENCES))
    for number in range(5):
        shelf.refresh(page("a.md", f"Version {number}."))
    assert shelf.embeds(page("a.md", *SENTENCES)) == []
    assert shelf.embeds(page("a.md", "Version 0.")) == []


def test_a_refresh_without_changes_makes_no_version(shelf: Shelf) -> None:
    built = shelf.refresh(page("a.md", *SENTENCES))
    before = shelf.versions()
    again = shelf.refresh(page("a.md", *SENTENCES))
    assert (again.version, again.embedded, again.rows) == (built.version, 0, built.rows)
    assert shelf.versions() == before


@pytest.mark.usefixtures("small_windows")
def test_progress_counts_the_documents_that_are_read(shelf: Shelf) -> None:
    shelf.refresh(many(4))
    seen: list[tuple[str, int]] = []
    done: list[int] = []
    shelf.index.refresh(InMemorySource.of(many(9)), "s", counting(seen, done))
    assert seen == [("indexing documents", 5)]
    assert done == [2, 2, 1]


def test_a_refresh_changes_the_rows_in_one_commit(shelf: Shelf) -> None:
    first = shelf.refresh([*page("a.md", *SENTENCES[:3]), *page("b.md", SENTENCES[0]), *page("c.md", SENTENCES[1])])
    before = shelf.content(first.version)
    # One page edited and grown, one deleted, one edited, one added.
    built = shelf.refresh([*page("a.md", *SENTENCES[1:], SENTENCES[0]), *page("c.md", "New."), *page("d.md", "Newer.")])
    after = shelf.content(built.version)
    versions = [version for version in shelf.versions() if version > first.version]
    assert versions[-1] == built.version
    assert before != after
    # The merge makes the first of these versions; the others update the full-text index and change no row.
    assert [shelf.content(version) for version in versions] == [after] * len(versions)


def test_a_reader_of_a_tag_is_unaffected_by_a_refresh(shelf: Shelf) -> None:
    first = shelf.refresh([*page("a.md", *SENTENCES), *page("deleted.md", "Only here: the old lantern.")])
    shelf.index.tag("release-1", first.version)
    reader = shelf.index.retriever("release-1")
    before = reader.search(["the old lantern", "harbour pilot"], 5)
    second = shelf.refresh([*page("a.md", "The lantern is electric."), *page("b.md", *SENTENCES[:2])])
    shelf.index.tag("release-2", second.version)
    assert reader.search(["the old lantern", "harbour pilot"], 5) == before
    assert reader.version == first.version
    assert shelf.search("release-1", "the old lantern", "harbour pilot", top_k=5) == before
    assert "deleted.md" not in {hit.document for hit in shelf.search("release-2", "the old lantern", top_k=9)[0]}


def test_a_reader_opened_during_a_refresh_sees_the_old_rows(shelf: Shelf) -> None:
    first = shelf.refresh(page("a.md", SENTENCES[0]))
    seen: list[set[tuple[str, int]]] = []

    @contextmanager
    def progress(label: str, total: int) -> Iterator[Advance]:
        yield lambda _: seen.append(set(shelf.index.rows()))

    wanted = page("b.md", *SENTENCES)
    shelf.index.refresh(InMemorySource.of(wanted), "s", progress)
    assert seen == [keys_of(page("a.md", SENTENCES[0]))]
    assert set(shelf.index.rows()) == keys_of(wanted)
    assert set(shelf.index.rows(first.version)) == keys_of(page("a.md", SENTENCES[0]))


def test_a_tag_names_one_version(shelf: Shelf) -> None:
    first = shelf.refresh(page("a.md", SENTENCES[0])).version
    second = shelf.refresh(page("a.md", SENTENCES[1])).version
    shelf.index.tag("release-1", first)
    shelf.index.tag("release-1", first)
    with pytest.raises(UserError, match=rf"release-1 already names version {first}, not {second}"):
        shelf.index.tag("release-1", second)
    assert shelf.index.retriever("release-1").version == first


def test_has_tag_creates_no_table(shelf: Shelf) -> None:
    assert not shelf.index.has_tag("release-1")
    assert shelf.tables() == []
    shelf.index.tag("release-1", shelf.refresh(page("a.md", SENTENCES[0])).version)
    assert shelf.index.has_tag("release-1")
    assert not shelf.index.has_tag("release-2")


@pytest.mark.parametrize("version", ["release-9", 999])
def test_a_missing_version_is_an_error_that_names_it(shelf: Shelf, version: str | int) -> None:
    shelf.refresh(page("a.md", SENTENCES[0]))
    with pytest.raises(UserError, match=f"has no version {version}") as error:
        shelf.index.retriever(version)
    assert "\n" not in str(error.value)


def test_reading_without_an_index_names_the_command_that_builds_it(shelf: Shelf) -> None:
    with pytest.raises(UserError, match=r"no index at .*`ragtide run` builds it"):
        shelf.index.retriever("release-1")


def test_only_documents_whose_digest_has_changed_are_read(shelf: Shelf) -> None:
    texts = {f"{number}.md": [chunk(f"{number}.md", f"text {number}")] for number in range(5)}
    digests = {name: chunks[0].document_digest for name, chunks in texts.items()}
    shelf.index.refresh(ScriptedSource(texts, digests), "s", no_progress)
    edited = texts | {"3.md": [chunk("3.md", "another")], "new.md": [chunk("new.md", "new")]}
    source = ScriptedSource(edited, {name: chunks[0].document_digest for name, chunks in edited.items()})
    shelf.index.refresh(source, "s", no_progress)
    assert source.reads == ["3.md", "new.md"]
    assert keys_of([chunk for chunks in edited.values() for chunk in chunks]) == set(shelf.index.rows())


@pytest.mark.usefixtures("small_windows")
def test_a_source_is_read_twice_only_if_it_exceeds_one_window(shelf: Shelf) -> None:
    small, large = (ScriptedSource({chunk.document: [chunk] for chunk in many(count)}) for count in (2, 7))
    shelf.index.refresh(small, "s", no_progress)
    assert len(small.reads) == 2
    Index(f"{shelf.uri}-2", HashEmbedder(), SHORT).refresh(large, "s", no_progress)
    assert large.reads == [chunk.document for chunk in many(7)] * 2


def test_a_document_that_cannot_be_read_keeps_its_rows(shelf: Shelf) -> None:
    shelf.refresh([*page("a.md", *SENTENCES), *page("b.md", *SENTENCES[:2])])
    before = shelf.index.rows()
    source = ScriptedSource({"a.md": None, "b.md": None, "new.md": None, "c.md": [chunk("c.md", "readable")]})
    built = shelf.index.refresh(source, "s", no_progress)
    assert shelf.index.rows() == before | ledger_of([chunk("c.md", "readable")])
    assert built.rows == len(before) + 1


def test_unreadable_documents_alone_make_no_version(shelf: Shelf) -> None:
    built = shelf.refresh(page("a.md", *SENTENCES))
    again = shelf.index.refresh(ScriptedSource({"a.md": None, "b.md": None}), "s", no_progress)
    assert (again.version, again.rows) == (built.version, built.rows)


def test_a_document_without_passages_makes_no_version(shelf: Shelf) -> None:
    source = ScriptedSource({"a.md": [chunk("a.md", "text")], "empty.md": []})
    source.documents["a.md"] = chunk("a.md", "text").document_digest
    built = shelf.index.refresh(source, "s", no_progress)
    before = shelf.versions()
    assert shelf.index.refresh(source, "s", no_progress).version == built.version
    assert shelf.versions() == before


def test_an_emptied_document_loses_all_its_rows(shelf: Shelf) -> None:
    shelf.refresh([*page("a.md", *SENTENCES), *page("b.md", SENTENCES[0])])
    left = page("b.md", SENTENCES[0])
    source = ScriptedSource({"a.md": [], "b.md": left}, {"a.md": "emptied", "b.md": left[0].document_digest})
    assert shelf.index.refresh(source, "s", no_progress).rows == 1
    assert shelf.index.rows() == ledger_of(left)


def test_documents_and_chunks_are_read_from_the_rows_of_a_version(shelf: Shelf) -> None:
    pages = {name: page(name, *SENTENCES[:2]) for name in ("a.md", "it's.md", "c.md")}
    first = shelf.refresh([chunk for chunks in pages.values() for chunk in chunks])
    shelf.refresh(page("a.md", "Another."))
    assert shelf.index.documents(first.version) == {name: chunks[0].document_digest for name, chunks in pages.items()}
    assert shelf.index.documents() == {"a.md": page("a.md", "Another.")[0].document_digest}
    assert shelf.index.chunks(["it's.md", "a.md", "none.md"], first.version) == [*pages["a.md"], *pages["it's.md"]]
    assert shelf.index.chunks(["it's.md"]) == shelf.index.chunks([], first.version) == []


def test_the_content_digest_depends_on_the_rows_alone(shelf: Shelf) -> None:
    first = shelf.refresh(page("a.md", *SENTENCES))
    second = shelf.refresh(page("b.md", *SENTENCES))
    third = shelf.refresh(page("a.md", *SENTENCES))
    contents = [shelf.index.content(built.version) for built in (first, second, third)]
    assert contents[0] == contents[2] != contents[1]


def test_a_new_text_in_several_windows_counts_once(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "WINDOW", 2)
    same = [chunk(f"{number}.md", "the same text") for number in range(7)]
    built = shelf.refresh(same)
    assert (built.new, built.embedded, built.rows) == (1, 1, 7)


def test_the_vectors_of_a_window_are_looked_up_in_few_queries(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    queries: list[int] = []
    known = VectorCache.known

    def counted(cache: VectorCache, digests: Sequence[str]) -> set[str]:
        queries.append(len(digests))
        return known(cache, digests)

    monkeypatch.setattr(VectorCache, "known", counted)
    shelf.refresh(many(50))
    assert len(queries) <= 2
