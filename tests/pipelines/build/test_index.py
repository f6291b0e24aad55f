"""Does the index keep its laws? Against the real LanceDB, with an embedder that counts its texts and sometimes fails.

Incremental equals rebuild; nothing is done before it is durable; only new texts are embedded; a reader sees one
version whole; vectors of two embedders never mix; a value never becomes query text.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.build.chunk import chunk_documents
from pipelines.build.index import EMBED_AT_ONCE, TABLE, Index, Passage, index_fingerprint
from pipelines.errors import RefusalError
from pipelines.params import ChunkParams
from pipelines.ports import Advance, Embedder, Vectors, quiet
from pipelines.records import BuiltIndex, Chunk, IndexDelta
from tests.factories import HashEmbedder, chunk, document

PARAMS = ChunkParams(max_words=20)
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
QUESTIONS_OF_MARKS = ("", " ", "\n", "?", "!!!", '"', "'", ":", "(", ")", "()", "*", "-", "+", "^", "~", "\\", "/", "%")
QUESTIONS_OF_SYNTAX = (
    *("AND", "OR", "NOT", "lantern AND", "NOT lantern", "-lantern", "+lantern", "lantern*", "*lantern", "lantern~2"),
    *("lantern^3", "text:lantern", "lantern:", "(lantern", "lantern)", "[a TO b]", "{a TO b}", "/lan.*/", "lan?ern"),
    *('the "lantern" burns', 'a 19" screen', "what's", "' OR '1'='1", "a\x00b", "日本語", "🏮", "word " * 2000),
)


# --- what the tests share ------------------------------------------------------------------------------------------


@dataclass
class Shelf:
    """An index in a folder, its embedder, and a look at the table from outside."""

    uri: str
    embedder: Any = field(default_factory=HashEmbedder)

    @property
    def index(self) -> Index:
        """A handle of its own each time, as every command opens one."""
        return Index(self.uri, self.embedder, PARAMS)

    def refresh(self, chunks: Sequence[Chunk]) -> BuiltIndex:
        return self.index.refresh(chunks, "snapshot", quiet)

    def embeds(self, chunks: Sequence[Chunk]) -> list[str]:
        """The texts that a refresh embeds."""
        before = len(self.embedder.embedded)
        self.refresh(chunks)
        return list(self.embedder.embedded[before:])

    def delta(self, chunks: Sequence[Chunk], live: int | None) -> IndexDelta:
        return self.index.delta(chunks, live)

    def search(self, version: int | str, *questions: str, top_k: int = 3) -> list[list[Passage]]:
        return self.index.reader(version).search(questions, top_k)

    @property
    def latest(self) -> int:
        return int(self._table().version)

    def versions(self) -> list[int]:
        return sorted(int(one["version"]) for one in self._table().list_versions())

    def content(self, version: int | None = None) -> list[dict[str, Any]]:
        """Every row whole, vector and all, in order of key."""
        table = self._table()
        if version is not None:
            table.checkout(version)
        return sorted(table.to_arrow().to_pylist(), key=lambda row: (row["document"], row["position"]))

    def rows_without_full_text(self) -> int:
        table = self._table()
        [full_text] = [one.name for one in table.list_indices() if "text" in one.columns]
        return int(table.index_stats(full_text).num_unindexed_rows)

    def _table(self) -> Any:
        return lancedb.connect(self.uri).open_table(TABLE)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(str(tmp_path / "lance"))


class PointEmbedder:
    """Unit vectors in a plane, at the angle that each text has in `angles`."""

    fingerprint = "points"
    dimensions = 2

    def __init__(self, angles: dict[str, float]) -> None:
        self.angles = angles

    def embed(self, texts: Sequence[str]) -> Vectors:
        turned = [self.angles.get(text, 3.0) for text in texts]
        return np.asarray([[np.cos(angle), np.sin(angle)] for angle in turned], dtype=np.float32)


def page(name: str, *sentences: str) -> list[Chunk]:
    """A page's chunks, cut by the real chunker: one for each of SENTENCES."""
    return chunk_documents([document(name, "# Page\n\n" + "\n\n".join(sentences))], PARAMS)


def keys_of(chunks: Sequence[Chunk]) -> set[tuple[str, int]]:
    return {one.key for one in chunks}


def ledger_of(chunks: Sequence[Chunk]) -> dict[tuple[str, int], tuple[str, str]]:
    return {one.key: (one.digest, one.document_digest) for one in chunks}


# --- law 1: incremental equals rebuild -----------------------------------------------------------------------------

Pages = dict[str, str]
Step = Callable[["Story"], None]


class Story:
    """A knowledge base that changes, and the index that follows it."""

    def __init__(self, uri: str) -> None:
        self.shelf = Shelf(uri)
        self.pages: Pages = {}
        self.past: list[Pages] = [{}]
        self.shelf.refresh([])

    @property
    def chunks(self) -> list[Chunk]:
        return chunk_documents([document(name, text) for name, text in sorted(self.pages.items())], PARAMS)

    def refresh(self, fails_in: int | None) -> None:
        before = {digest for digest, _ in self.shelf.index.rows().values()}
        new = {one.digest for one in self.chunks} - before
        if fails_in is not None and fails_in < len(new):
            self.fail(fails_in)
            return
        embedded = self.shelf.embeds(self.chunks)
        assert len(embedded) == len(new)
        assert self.shelf.index.rows() == ledger_of(self.chunks)
        self.past.append(dict(self.pages))

    def fail(self, after: int) -> None:
        rows, version = self.shelf.content(), self.shelf.latest
        self.shelf.embedder.fails_in = after
        with pytest.raises(ConnectionError):
            self.shelf.refresh(self.chunks)
        self.shelf.embedder.fails_in = None
        assert (self.shelf.content(), self.shelf.latest) == (rows, version)


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
    | st.builds(refresh, st.none() | st.integers(0, 3)),
    min_size=4,
    max_size=14,
)


@settings(derandomize=True, deadline=None, max_examples=50)
@given(STEPS)
def test_after_any_changes_and_failures_the_rows_are_those_of_a_clean_build(
    tmp_path_factory: pytest.TempPathFactory, steps: list[Step]
) -> None:
    folder = tmp_path_factory.mktemp("story")
    story, clean = Story(str(folder / "grown")), Shelf(str(folder / "clean"))
    for step in steps:
        step(story)
    story.refresh(None)
    clean.refresh(story.chunks)
    assert story.shelf.content() == clean.content()
    found = [one.search(one.latest, *SENTENCES, "end of life", top_k=5) for one in (story.shelf, clean)]
    assert found[0] == found[1]


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


def test_a_failure_in_a_later_batch_leaves_no_row_of_an_earlier_one(shelf: Shelf) -> None:
    many = [chunk(f"{number}.md", f"text {number}") for number in range(EMBED_AT_ONCE + 3)]
    shelf.embedder.fails_in = EMBED_AT_ONCE + 1
    with pytest.raises(ConnectionError):
        shelf.refresh(many)
    assert shelf.index.rows() == {}
    shelf.embedder.fails_in = None
    shelf.refresh(many)
    assert shelf.index.rows() == ledger_of(many)


def test_the_rows_say_what_is_indexed_without_any_note_beside_them(shelf: Shelf) -> None:
    chunks = page("a.md", *SENTENCES)
    built = shelf.refresh(chunks)
    assert shelf.index.rows() == shelf.index.rows(built.version) == ledger_of(chunks)
    assert [row["text"] for row in shelf.content()] == [one.text for one in chunks]
    assert (built.rows, built.embedded, built.documents, built.uri) == (len(chunks), len(chunks), "snapshot", shelf.uri)


def test_without_a_table_there_are_no_rows_and_looking_makes_none(shelf: Shelf) -> None:
    assert shelf.index.rows() == {}
    assert shelf.delta(page("a.md", *SENTENCES), None).to_embed == len(page("a.md", *SENTENCES))
    assert lancedb.connect(shelf.uri).list_tables().tables == []


def test_a_handle_that_was_open_before_sees_what_another_has_written(shelf: Shelf) -> None:
    old = shelf.index
    old.refresh(page("a.md", SENTENCES[0]), "s", quiet)
    shelf.refresh(page("a.md", *SENTENCES))
    assert old.rows() == ledger_of(page("a.md", *SENTENCES))
    assert old.refresh(page("a.md", *SENTENCES), "s", quiet).embedded == 0


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


def test_a_refresh_without_a_difference_makes_no_version(shelf: Shelf) -> None:
    built = shelf.refresh(page("a.md", *SENTENCES))
    before = shelf.versions()
    again = shelf.refresh(page("a.md", *SENTENCES))
    assert (again.version, again.embedded, again.rows) == (built.version, 0, built.rows)
    assert shelf.versions() == before


def test_progress_counts_the_texts_that_are_embedded(shelf: Shelf) -> None:
    seen: list[tuple[str, int]] = []
    done: list[int] = []

    def progress(label: str, total: int) -> AbstractContextManager[Advance]:
        seen.append((label, total))

        @contextmanager
        def bar() -> Any:
            yield done.append

        return bar()

    many = [chunk(f"{number}.md", f"text {number}") for number in range(EMBED_AT_ONCE + 3)]
    shelf.index.refresh(many, "s", progress)
    assert seen == [("embedding chunks", len(many))]
    assert done == [EMBED_AT_ONCE, 3]


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
    reader = shelf.index.reader("release-1")
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

    def progress(label: str, total: int) -> AbstractContextManager[Advance]:
        @contextmanager
        def bar() -> Any:
            yield lambda _: seen.append(set(shelf.index.rows()))

        return bar()

    wanted = page("b.md", *SENTENCES)
    shelf.index.refresh(wanted, "s", progress)
    assert seen == [keys_of(page("a.md", SENTENCES[0]))]
    assert set(shelf.index.rows()) == keys_of(wanted)
    assert set(shelf.index.rows(first.version)) == keys_of(page("a.md", SENTENCES[0]))


def test_a_tag_is_given_to_one_version_only(shelf: Shelf) -> None:
    first = shelf.refresh(page("a.md", SENTENCES[0])).version
    second = shelf.refresh(page("a.md", SENTENCES[1])).version
    shelf.index.tag("release-1", first)
    shelf.index.tag("release-1", first)
    with pytest.raises(RefusalError, match=rf"release-1 already names version {first}, not {second}"):
        shelf.index.tag("release-1", second)
    assert shelf.index.reader("release-1").version == first


def test_a_tag_is_known_once_it_is_given_and_looking_makes_no_table(shelf: Shelf) -> None:
    assert not shelf.index.has_tag("release-1")
    assert lancedb.connect(shelf.uri).list_tables().tables == []
    shelf.index.tag("release-1", shelf.refresh(page("a.md", SENTENCES[0])).version)
    assert shelf.index.has_tag("release-1")
    assert not shelf.index.has_tag("release-2")


@pytest.mark.parametrize("version", ["release-9", 999])
def test_a_version_that_is_not_there_is_refused_by_name(shelf: Shelf, version: str | int) -> None:
    shelf.refresh(page("a.md", SENTENCES[0]))
    with pytest.raises(RefusalError, match=f"has no version {version}") as refusal:
        shelf.index.reader(version)
    assert "\n" not in str(refusal.value)


def test_a_reader_without_an_index_is_told_how_to_build_one(shelf: Shelf) -> None:
    with pytest.raises(RefusalError, match=r"no index at .*`ragtide run` builds it"):
        shelf.index.reader("release-1")


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


# --- law 9: the embedder is part of the index ----------------------------------------------------------------------


class Renamed(HashEmbedder):
    fingerprint = "hash-8-of-another-kind"


class Wider(HashEmbedder):
    dimensions = 16


OTHERS = [
    pytest.param(Renamed(), PARAMS, id="another embedder"),
    pytest.param(Wider(), PARAMS, id="other dimensions"),
    pytest.param(HashEmbedder(), ChunkParams(max_words=21), id="other chunker settings"),
]


@pytest.mark.parametrize(("embedder", "params"), OTHERS)
def test_an_index_of_another_embedder_or_chunker_is_not_read(
    shelf: Shelf, embedder: Embedder, params: ChunkParams
) -> None:
    built = shelf.refresh(page("a.md", *SENTENCES))
    other = Index(shelf.uri, embedder, params)
    asked: list[Callable[[], object]] = [
        lambda: other.reader(built.version),
        lambda: other.delta(page("a.md", *SENTENCES), None),
        lambda: other.delta([], built.version),
    ]
    for ask in asked:
        with pytest.raises(RefusalError, match="built with another embedder or chunker") as refusal:
            ask()
        assert "\n" not in str(refusal.value)
        assert built.fingerprint in str(refusal.value)
        assert other.fingerprint in str(refusal.value)
    assert shelf.latest == built.version


@pytest.mark.parametrize(("embedder", "params"), OTHERS)
def test_the_fingerprint_moves_with_the_embedder_and_the_chunker(embedder: Embedder, params: ChunkParams) -> None:
    assert index_fingerprint(embedder, params) != index_fingerprint(HashEmbedder(), PARAMS)
    assert index_fingerprint(HashEmbedder(), ChunkParams(max_words=20)) == index_fingerprint(HashEmbedder(), PARAMS)


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


# --- search --------------------------------------------------------------------------------------------------------


def test_an_empty_index_gives_nothing_and_embeds_nothing(shelf: Shelf) -> None:
    built = shelf.refresh([])
    assert shelf.search(built.version, "anything", "else") == [[], []]
    assert (built.rows, shelf.embedder.embedded) == (0, [])


def test_no_questions_have_no_answers(shelf: Shelf) -> None:
    assert shelf.search(shelf.refresh(page("a.md", *SENTENCES)).version) == []


@pytest.mark.parametrize("question", [*QUESTIONS_OF_MARKS, *QUESTIONS_OF_SYNTAX], ids=lambda text: repr(text[:12]))
def test_no_question_breaks_the_search(shelf: Shelf, question: str) -> None:
    built = shelf.refresh(page("a.md", *SENTENCES))
    [hits] = shelf.search(built.version, question, top_k=2)
    assert len(hits) == 2
    assert {hit.text for hit in hits} <= {one.text for one in page("a.md", *SENTENCES)}


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.lists(st.sampled_from([*"ab:()*^~+-[]{}/\\?'!|&<>=@#$%_ ", "AND", "OR", "NOT", "TO", 'x"'])).map("".join))
def test_no_mixture_of_marks_breaks_the_search(library: Shelf, question: str) -> None:
    [hits] = library.search(library.latest, question, top_k=2)
    assert len(hits) == 2


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    """Many pages, few different texts: forty-five times the same, and thirty that share some of its words."""
    shelf = Shelf(str(tmp_path_factory.mktemp("library") / "lance"))
    same = [chunk(f"same/{number}.md", "the lantern burns all night") for number in range(45)]
    like = [chunk(f"like/{number}.md", f"the lantern {number % 3} burns") for number in range(30)]
    shelf.refresh(like)
    # In two commits, so that the rows lie in two fragments.
    shelf.refresh([*like, *same])
    return shelf


@pytest.mark.parametrize("question", ["the lantern burns all night", "lantern", "lantern 2", "something else"])
@pytest.mark.parametrize("top_k", [1, 3, 20])
def test_the_same_question_finds_the_same_passages_in_the_same_order(library: Shelf, question: str, top_k: int) -> None:
    first = library.search(library.latest, question, top_k=top_k)
    again = [library.search(library.latest, question, top_k=top_k) for _ in range(8)]
    assert again == [first] * 8
    assert len(first[0]) == top_k


def test_equals_are_ordered_by_key(library: Shelf) -> None:
    [hits] = library.search(library.latest, "the lantern burns all night", top_k=10)
    assert {hit.text for hit in hits} == {"the lantern burns all night"}
    assert [(hit.document, hit.position) for hit in hits] == sorted((hit.document, hit.position) for hit in hits)


def test_questions_asked_together_are_answered_as_if_asked_alone(library: Shelf) -> None:
    questions = ["lantern 2", "the lantern burns all night", "something else", "lantern 2"]
    together = library.search(library.latest, *questions)
    assert together == [library.search(library.latest, question)[0] for question in questions]


def ask_in_a_crowd(folder: Path, angles: dict[str, float], top_k: int) -> list[Passage]:
    """Ask for a zebra among texts at these angles from the question, and sixty near ones without a word of it."""
    angles = angles | {f"filler number {number}": 0.5 + number / 1000 for number in range(60)}
    shelf = Shelf(str(folder), PointEmbedder(angles | {"zebra question": 0.0}))
    built = shelf.refresh([chunk(text, text) for text in angles])
    return shelf.search(built.version, "zebra question", top_k=top_k)[0]


def test_a_passage_that_both_halves_find_comes_before_the_first_of_either(tmp_path: Path) -> None:
    angles = {"nearest of all": 0.01, "a zebra zebra zebra": 2.0, "zebra once and near": 0.02}
    hits = ask_in_a_crowd(tmp_path, angles, top_k=3)
    assert hits[0].text == "zebra once and near"
    # The first of either half, of equal score: by key.
    assert [hit.text for hit in hits[1:]] == ["a zebra zebra zebra", "nearest of all"]
    assert hits[0].score == pytest.approx(2 / 62, abs=1e-6)
    assert [hit.score for hit in hits[1:]] == [pytest.approx(1 / 61, abs=1e-6)] * 2


def test_words_find_what_vectors_miss_and_vectors_what_words_miss(tmp_path: Path) -> None:
    hits = ask_in_a_crowd(tmp_path, {"no word of it": 0.0, "a zebra far away": 3.0}, top_k=2)
    assert {hit.text for hit in hits} == {"no word of it", "a zebra far away"}


def test_scores_never_rise_and_no_passage_comes_twice(library: Shelf) -> None:
    [hits] = library.search(library.latest, "the lantern burns", top_k=40)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert len({(hit.document, hit.position) for hit in hits}) == len(hits)


def test_a_passage_says_where_it_stands(shelf: Shelf) -> None:
    chunks = page("guide/a.md", *SENTENCES)
    [[hit]] = shelf.search(shelf.refresh(chunks).version, "end of life in March", top_k=1)
    source = next(one for one in chunks if one.key == (hit.document, hit.position))
    assert (hit.document, hit.heading, hit.text) == ("guide/a.md", "Page", source.text)
    assert "end of life" in hit.text


def test_new_rows_are_found_by_their_words_after_a_refresh(shelf: Shelf) -> None:
    pages = [chunk(f"{number}.md", f"plain text {number}") for number in range(80)]
    shelf.refresh(pages)
    random.Random(7).shuffle(pages)
    built = shelf.refresh([*pages, chunk("new.md", "a word that nobody had: xylophone")])
    assert "new.md" in {hit.document for hit in shelf.search(built.version, "xylophone", top_k=2)[0]}
    assert shelf.rows_without_full_text() == 0


@pytest.mark.parametrize("question", ['"the lantern"', '""', '"a"', '"the" "lantern"'])
def test_a_question_in_quotation_marks_is_a_question(shelf: Shelf, question: str) -> None:
    built = shelf.refresh(page("a.md", *SENTENCES))
    assert len(shelf.search(built.version, question, top_k=2)[0]) == 2


@pytest.mark.parametrize("others", [0, 1, 60])
def test_passages_that_all_tie_are_found_all_the_same(shelf: Shelf, others: int) -> None:
    same = [chunk(f"{number:03}.md", "see the manual") for number in range(60)]
    built = shelf.refresh([*same, *(chunk(f"x{number}.md", f"another thing {number}") for number in range(others))])
    [hits] = shelf.search(built.version, "see the manual", top_k=3)
    assert [hit.document for hit in hits] == ["000.md", "001.md", "002.md"]


def test_a_search_that_reaches_every_row_loses_none(shelf: Shelf) -> None:
    same = [chunk(f"{number:03}.md", "see the manual") for number in range(49)]
    built = shelf.refresh([*same, chunk("x.md", "another thing")])
    found = shelf.search(built.version, *(f"see another thing {number}" for number in range(10)))
    assert [len(hits) for hits in found] == [3] * 10


def test_a_writer_with_another_embedder_is_refused_and_writes_nothing(shelf: Shelf) -> None:
    built = shelf.refresh(page("a.md", *SENTENCES))
    with pytest.raises(RefusalError, match="built with another embedder"):
        Index(shelf.uri, Wider(), PARAMS).refresh(page("b.md", *SENTENCES), "s", quiet)
    assert shelf.latest == built.version


def test_an_embedder_that_failed_at_first_can_be_changed(shelf: Shelf) -> None:
    shelf.embedder.fails_in = 0
    with pytest.raises(ConnectionError):
        shelf.refresh(page("a.md", *SENTENCES))
    assert Index(shelf.uri, Renamed(), PARAMS).refresh(page("a.md", *SENTENCES), "s", quiet).embedded > 0
