"""Tests of search: by vector, full text and both, stable order, and reranking."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragtide.pipelines.index import search as search_module
from ragtide.pipelines.index.chunking import chunk_documents
from ragtide.pipelines.index.search import Passage, Retriever, SearchSettings
from ragtide.pipelines.params import IndexParams
from ragtide.pipelines.ports import Vectors
from ragtide.pipelines.records.data import Chunk
from tests.factories import SHORT, Shelf, chunk, document

SENTENCES = (
    "The lantern burns for nine hours on one filling of oil.",
    "A harbour pilot comes aboard two miles before the light, and leaves again at the mole.",
    "Version 4 of the lantern reaches its end of life in March of the next year.",
    "Orders over fifty crowns are sent without a fee, by the next post that leaves the town in the morning.",
)
QUESTIONS_OF_MARKS = ("", " ", "\n", "?", "!!!", '"', "'", ":", "(", ")", "()", "*", "-", "+", "^", "~", "\\", "/", "%")
QUESTIONS_OF_SYNTAX = (
    *("AND", "OR", "NOT", "lantern AND", "NOT lantern", "-lantern", "+lantern", "lantern*", "*lantern", "lantern~2"),
    *("lantern^3", "text:lantern", "lantern:", "(lantern", "lantern)", "[a TO b]", "{a TO b}", "/lan.*/", "lan?ern"),
    *('the "lantern" burns', 'a 19" screen', "what's", "' OR '1'='1", "a\x00b", "日本語", "🏮", "word " * 2000),
)
WAYS = ("hybrid", "vector", "text")


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(str(tmp_path / "lance"))


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    """One page of four passages."""
    shelf = Shelf(str(tmp_path_factory.mktemp("pages") / "lance"))
    shelf.refresh(page("a.md", *SENTENCES))
    return shelf


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
    """A page's chunks, cut by the real chunker: one for each sentence."""
    return chunk_documents([document(name, "# Page\n\n" + "\n\n".join(sentences))], SHORT)


# --- questions -------------------------------------------------------------------------------------------------------


def test_an_empty_index_gives_nothing_and_embeds_nothing(shelf: Shelf) -> None:
    built = shelf.refresh([])
    assert shelf.search(built.version, "anything", "else") == [[], []]
    assert (built.rows, shelf.embedder.embedded) == (0, [])


def test_no_questions_give_no_results(shelf: Shelf) -> None:
    assert shelf.search(shelf.refresh(page("a.md", *SENTENCES)).version) == []


@pytest.mark.parametrize("question", [*QUESTIONS_OF_MARKS, *QUESTIONS_OF_SYNTAX], ids=lambda text: repr(text[:12]))
def test_no_question_breaks_the_search(pages: Shelf, question: str) -> None:
    [hits] = pages.search(pages.latest, question, top_k=2)
    assert len(hits) == 2
    assert len(pages.search(pages.latest, question, top_k=2, by="text")[0]) <= 2
    assert {hit.text for hit in hits} <= {chunk.text for chunk in page("a.md", *SENTENCES)}


@settings(derandomize=True, deadline=None, max_examples=150)
@given(st.lists(st.sampled_from([*"ab:()*^~+-[]{}/\\?'!|&<>=@#$%_ ", "AND", "OR", "NOT", "TO", 'x"'])).map("".join))
def test_no_punctuation_breaks_the_search(library: Shelf, question: str) -> None:
    [hits] = library.search(library.latest, question, top_k=2)
    assert len(hits) == 2


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    """Many pages with few distinct texts: forty-five equal ones, and thirty that share some words with them."""
    shelf = Shelf(str(tmp_path_factory.mktemp("library") / "lance"))
    same = [chunk(f"same/{number}.md", "the lantern burns all night") for number in range(45)]
    like = [chunk(f"like/{number}.md", f"the lantern {number % 3} burns") for number in range(30)]
    shelf.refresh(like)
    # In two commits, so that the rows lie in two fragments.
    shelf.refresh([*like, *same])
    return shelf


@pytest.mark.parametrize("question", ["the lantern burns all night", "lantern", "lantern 2", "something else"])
@pytest.mark.parametrize("by", WAYS)
@pytest.mark.parametrize("top_k", [1, 20])
def test_the_same_question_finds_the_same_passages_in_the_same_order(
    library: Shelf, question: str, by: str, top_k: int
) -> None:
    first = library.search(library.latest, question, top_k=top_k, by=by)
    again = [library.search(library.latest, question, top_k=top_k, by=by) for _ in range(6)]
    assert again == [first] * 6
    # Words that no passage has find nothing by words.
    assert len(first[0]) == (0 if (by, question) == ("text", "something else") else top_k)


def test_equals_are_ordered_by_key(library: Shelf) -> None:
    [hits] = library.search(library.latest, "the lantern burns all night", top_k=10)
    assert {hit.text for hit in hits} == {"the lantern burns all night"}
    assert [(hit.document, hit.position) for hit in hits] == sorted((hit.document, hit.position) for hit in hits)


def test_questions_in_a_batch_get_the_same_results_as_alone(library: Shelf) -> None:
    questions = ["lantern 2", "the lantern burns all night", "something else", "lantern 2"]
    together = library.search(library.latest, *questions)
    assert together == [library.search(library.latest, question)[0] for question in questions]


def ask_in_a_crowd(folder: Path, angles: dict[str, float], top_k: int, **asking: Any) -> list[Passage]:
    """Search for a zebra among texts at these angles from the question, and many near ones without a common word."""
    angles = angles | {f"filler number {number}": 0.5 + number / 1000 for number in range(160)}
    shelf = Shelf(str(folder), PointEmbedder(angles | {"zebra question": 0.0}), params=IndexParams(**asking))
    built = shelf.refresh([chunk(text, text) for text in angles])
    return shelf.search(built.version, "zebra question", top_k=top_k)[0]


def test_a_passage_in_both_rankings_comes_before_the_first_of_either(tmp_path: Path) -> None:
    angles = {"nearest of all": 0.01, "a zebra zebra zebra": 2.0, "zebra once and near": 0.02}
    hits = ask_in_a_crowd(tmp_path, angles, top_k=3)
    assert hits[0].text == "zebra once and near"
    assert {hit.text for hit in hits[1:]} == {"a zebra zebra zebra", "nearest of all"}
    # The best hit of a ranking gets its full weight; a hit missing from the other ranking gets nothing from it.
    assert hits[0].score > 0.6
    assert next(hit for hit in hits if hit.text == "nearest of all").score == pytest.approx(0.6, abs=1e-6)


def test_ranks_can_be_fused_instead_of_scores(tmp_path: Path) -> None:
    angles = {"nearest of all": 0.01, "a zebra zebra zebra": 2.0, "zebra once and near": 0.02}
    hits = ask_in_a_crowd(tmp_path, angles, top_k=3, fusion="ranks")
    assert [hit.text for hit in hits] == ["zebra once and near", "a zebra zebra zebra", "nearest of all"]
    assert hits[0].score == pytest.approx(2 / 62, abs=1e-6)
    # The best hits of the two rankings have equal scores and are ordered by key.
    assert [hit.score for hit in hits[1:]] == [pytest.approx(1 / 61, abs=1e-6)] * 2


def test_text_search_and_vector_search_complement_each_other(tmp_path: Path) -> None:
    hits = ask_in_a_crowd(tmp_path, {"no word of it": 0.0, "a zebra far away": 3.0}, top_k=2)
    assert {hit.text for hit in hits} == {"no word of it", "a zebra far away"}


def test_scores_are_descending_and_passages_distinct(library: Shelf) -> None:
    [hits] = library.search(library.latest, "the lantern burns", top_k=40)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert len({(hit.document, hit.position) for hit in hits}) == len(hits)


def test_a_passage_holds_its_document_and_position(shelf: Shelf) -> None:
    chunks = page("guide/a.md", *SENTENCES)
    [[hit]] = shelf.search(shelf.refresh(chunks).version, "end of life in March", top_k=1, by="text")
    source = next(chunk for chunk in chunks if chunk.key == (hit.document, hit.position))
    assert (hit.document, hit.heading, hit.text) == ("guide/a.md", "Page", source.text)
    assert "end of life" in hit.text


def test_new_rows_are_found_by_their_words_after_a_refresh(shelf: Shelf) -> None:
    pages = [chunk(f"{number}.md", f"plain text {number}") for number in range(80)]
    shelf.refresh(pages)
    random.Random(7).shuffle(pages)
    built = shelf.refresh([*pages, chunk("new.md", "a word that nobody had: xylophone")])
    assert "new.md" in {hit.document for hit in shelf.search(built.version, "xylophone", top_k=2)[0]}
    [name] = shelf.indexed_by("text")
    assert shelf.table().index_stats(name).num_unindexed_rows == 0


@pytest.mark.parametrize("question", ['"the lantern"', '""', '"a"', '"the" "lantern"'])
def test_a_question_in_quotation_marks_is_no_phrase_query(pages: Shelf, question: str) -> None:
    assert len(pages.search(pages.latest, question, top_k=2)[0]) == 2


@pytest.mark.parametrize("others", [0, 1, 60])
def test_passages_that_all_tie_are_found(shelf: Shelf, others: int) -> None:
    same = [chunk(f"{number:03}.md", "see the manual") for number in range(60)]
    built = shelf.refresh([*same, *(chunk(f"x{number}.md", f"another thing {number}") for number in range(others))])
    [hits] = shelf.search(built.version, "see the manual", top_k=3)
    assert [hit.document for hit in hits] == ["000.md", "001.md", "002.md"]


def test_a_search_that_reaches_every_row_loses_none(shelf: Shelf) -> None:
    same = [chunk(f"{number:03}.md", "see the manual") for number in range(49)]
    built = shelf.refresh([*same, chunk("x.md", "another thing")])
    results = shelf.search(built.version, *(f"see another thing {number}" for number in range(10)))
    assert [len(hits) for hits in results] == [3] * 10


# --- search modes ----------------------------------------------------------------------------------------------------


def crowd(folder: Path, angles: dict[str, float], **params: object) -> Shelf:
    """Texts at these angles from the question "zebra question"."""
    shelf = Shelf(str(folder), PointEmbedder(angles | {"zebra question": 0.0}), params=IndexParams(**params))
    shelf.refresh([chunk(text, text) for text in angles])
    return shelf


APART = {"nearest of all": 0.01, "a zebra zebra zebra": 2.0, "zebra once and near": 0.02, "neither nor": 2.5}


@pytest.mark.parametrize(
    ("by", "order"),
    [
        ("vector", ["nearest of all", "zebra once and near", "a zebra zebra zebra", "neither nor"]),
        ("text", ["a zebra zebra zebra", "zebra once and near"]),
        ("hybrid", ["zebra once and near", "nearest of all", "a zebra zebra zebra", "neither nor"]),
    ],
)
def test_each_search_mode_has_its_own_order(tmp_path: Path, by: str, order: list[str]) -> None:
    shelf = crowd(tmp_path, APART)
    [hits] = shelf.search(shelf.latest, "zebra question", top_k=9, by=by)
    assert [hit.text for hit in hits] == order
    # Without an argument, the mode of params.yaml applies.
    configured = Shelf(shelf.uri, shelf.embedder, params=IndexParams(search=by))
    assert configured.search(configured.latest, "zebra question", top_k=9) == [hits]


def test_a_text_search_embeds_nothing(pages: Shelf) -> None:
    before = list(pages.embedder.embedded)
    [hits] = pages.search(pages.latest, "lantern", by="text")
    assert {"lantern" in hit.text for hit in hits} == {True}
    assert pages.embedder.embedded == before


def test_a_text_search_for_unknown_words_finds_nothing(pages: Shelf) -> None:
    assert pages.search(pages.latest, "xylophone", "", "?", by="text") == [[], [], []]


@pytest.mark.parametrize("by", WAYS)
def test_fewer_rows_than_top_k_are_all_returned(pages: Shelf, by: str) -> None:
    [hits] = pages.search(pages.latest, "page lantern", top_k=99, by=by)
    assert len(hits) == 4


@settings(derandomize=True, deadline=None, max_examples=25)
@given(st.integers(1, 12), st.sampled_from(WAYS), st.sampled_from(["lantern 1", "the lantern burns all night", "no"]))
def test_a_larger_top_k_only_appends_passages(library: Shelf, top_k: int, by: str, question: str) -> None:
    [few] = library.search(library.latest, question, top_k=top_k, by=by)
    [more] = library.search(library.latest, question, top_k=top_k + 5, by=by)
    assert more[: len(few)] == few


# --- reranking -------------------------------------------------------------------------------------------------------


class LongestFirst:
    """A reranker that prefers long passages and records the number of pairs in each call."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []

    def score(self, question: str, passages: Sequence[str]) -> list[float]:
        self.calls.append((question, len(passages)))
        return [float(len(passage)) for passage in passages]


def reranked(shelf: Shelf, by: str = "hybrid") -> tuple[Retriever, LongestFirst]:
    reranker = LongestFirst()
    asking = SearchSettings(by=by, reranker=reranker)  # type: ignore[arg-type]
    return Retriever(shelf.table(), shelf.embedder, asking), reranker


@pytest.mark.parametrize("by", WAYS)
def test_a_reranker_determines_the_order(library: Shelf, by: str) -> None:
    reader, reranker = reranked(library, by)
    [read] = library.search(library.latest, "lantern 2", top_k=search_module.RERANKED, by=by)
    [hits] = reader.search(["lantern 2"], 30)
    assert [hit.score for hit in hits] == [float(len(hit.text)) for hit in hits]
    order = sorted(read, key=lambda passage: (-len(passage.text), passage.document, passage.position))
    assert [hit.document for hit in hits] == [passage.document for passage in order]
    assert reranker.calls == [("lantern 2", search_module.RERANKED)]


@pytest.mark.parametrize("top_k", [1, 30, 60])
def test_a_reranker_reads_top_k_passages_or_its_own_number(library: Shelf, top_k: int) -> None:
    reader, reranker = reranked(library)
    assert len(reader.search(["lantern 2"], top_k)[0]) == top_k
    assert reranker.calls[0][1] == max(top_k, search_module.RERANKED)


def test_a_reranker_is_not_called_without_passages(library: Shelf) -> None:
    reader, reranker = reranked(library, "text")
    assert reader.search(["xylophone"], 3) == [[]]
    assert sum(count for _, count in reranker.calls) == 0


def test_the_query_prefix_affects_only_the_vector(pages: Shelf) -> None:
    reader, reranker = reranked(pages)
    plain = Retriever(pages.table(), pages.embedder, SearchSettings(by="text", prefix="pilot ")).search(["lantern"], 4)
    assert plain == pages.search(pages.latest, "lantern", top_k=4, by="text")
    reader.search(["lantern"], 1)
    assert reranker.calls[0][0] == "lantern"


def test_the_cache_of_question_vectors_is_bounded(pages: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_module, "KEPT_QUESTIONS", 3)
    reader = pages.index.retriever(pages.latest)
    for number in range(20):
        [[first, *_]] = reader.search([f"question {number}"], 2, "vector")
        assert first == reader.search([f"question {number}"], 2, "vector")[0][0]
        assert len(reader._vectors) <= 3
    assert len(reader.search([f"question {number}" for number in range(5)], 1, "vector")) == 5
