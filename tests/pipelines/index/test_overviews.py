"""Tests that overviews are rows as others are, and are no text of their own to whatever compares texts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ragtide.pipelines.corpus import documents_from_chunks
from ragtide.pipelines.data.moves import Page
from ragtide.pipelines.evidence.sentences import read_sentences
from ragtide.pipelines.history.lost_content import count_lost_rows, find_emptied
from ragtide.pipelines.index.chunking import chunk_documents
from ragtide.pipelines.index.search import Passage
from ragtide.pipelines.params import ChunkParams
from ragtide.pipelines.ports import Message
from ragtide.pipelines.records.data import OVERVIEW, Chunk
from ragtide.pipelines.training.examples import Example
from ragtide.pipelines.training.pairs import TrainingPair, add_hard_negatives, build_pairs
from ragtide.pipelines.training.samples import best_chunk, samples_with_passages
from tests.factories import Shelf, document
from tests.fakes import CountingEmbedder

LINES = range(10, 30)
NEWEST = "Which line of Boiler is the newest?"


def boiler(lines: range = LINES, **notes: str) -> str:
    filler = "It is a boiler among boilers. " * 20
    sections = (
        f"## Boiler {n}\n\n- Released: 20{n}-01-01\n\n{filler}{notes.get(f'of{n}', f'Number {n}.')}" for n in lines
    )
    return "# Boiler\n\n" + "\n\n".join(sections)


def cut(texts: Mapping[str, str]) -> list[Chunk]:
    return chunk_documents([document(name, text) for name, text in texts.items()], ChunkParams())


def without_overviews(chunks: list[Chunk]) -> list[Chunk]:
    return [chunk for chunk in chunks if chunk.position != OVERVIEW]


def shelf_at(folder: Path) -> Shelf:
    return Shelf(str(folder / "lance"), CountingEmbedder(), chunk=ChunkParams())


def test_an_edit_below_the_first_lines_embeds_one_passage_and_one_of_a_first_line_the_overview_too(
    tmp_path: Path,
) -> None:
    shelf, pump = shelf_at(tmp_path), {"Pump.md": "# Pump\n\nA pump.\n"}
    assert len(shelf.embeds(cut({"Boiler.md": boiler()} | pump))) == len(LINES) + 2
    assert len(shelf.embeds(cut({"Boiler.md": boiler(of12="Other.")} | pump))) == 1
    edited = boiler(of12="Other.").replace("Released: 2012", "Released: 2013")
    assert len(shelf.embeds(cut({"Boiler.md": edited} | pump))) == 2
    assert shelf.embeds(cut({"moved/Boiler.md": edited} | pump)) == []
    assert shelf.refresh(cut(pump)).rows == 1


def test_the_live_rows_are_those_of_a_clean_build_when_a_page_grows_and_shrinks(tmp_path: Path) -> None:
    shelf = shelf_at(tmp_path)
    for lines in (range(10, 11), LINES, range(10, 12), range(10, 11)):
        chunks = cut({"Boiler.md": boiler(lines)})
        shelf.refresh(chunks)
        assert [(row["position"], row["text"]) for row in shelf.content()] == [(c.position, c.text) for c in chunks]


def test_a_question_about_a_page_gets_its_overview_and_one_about_a_line_does_not(tmp_path: Path) -> None:
    shelf = shelf_at(tmp_path)
    pumps = {f"Pump{n}.md": f"# Pump {n}\n\n## Care of pump {n}\n\nIt needs oil {n}.\n" for n in range(40)}
    retriever = shelf.index.retriever(shelf.refresh(cut({"Boiler.md": boiler()} | pumps)).version)
    whole, one = retriever.contexts([NEWEST, "When was Boiler 17 released?"], 3)
    text = " ".join(passage.text for passage in whole)
    assert all(f"Boiler {n}" in text for n in LINES)
    assert whole[0].is_overview
    assert len(text.split()) <= 3 * ChunkParams().max_words + 30
    assert "Boiler > Boiler 17" in {passage.heading for passage in one}
    assert not any(passage.is_overview for passage in one)


def test_an_empty_index_gives_no_context(tmp_path: Path) -> None:
    shelf = shelf_at(tmp_path)
    built = shelf.refresh(cut({"a.md": "# A\n\ntext"}))
    shelf.table().delete("true")
    assert built.rows == 1
    assert shelf.index.retriever(shelf.latest).contexts([NEWEST], 3) == [[]]


def test_an_overview_adds_no_sentence_and_no_text() -> None:
    chunks = cut({"Boiler.md": boiler()})
    passages = without_overviews(chunks)
    assert len(chunks) == len(passages) + 1
    assert read_sentences({"Boiler.md": chunks}) == read_sentences({"Boiler.md": passages})
    assert documents_from_chunks(chunks) == documents_from_chunks(passages)
    assert Page.of(chunks) == Page.of(passages)


def test_an_overview_is_no_content_that_can_be_lost_or_kept() -> None:
    chunks = cut({"Boiler.md": boiler()})
    assert count_lost_rows(chunks, {}) == len(chunks)
    assert count_lost_rows(chunks, {"all.md": without_overviews(chunks)}) == 0
    headings = "# Boiler\n\n" + "\n\n".join(f"## Boiler {n}\n\nMoved." for n in LINES) + "\n\n" + "Moved. " * 100
    after = cut({"Boiler.md": headings})
    assert after[0].position == OVERVIEW
    assert find_emptied({"Boiler.md": chunks}, {"Boiler.md": after}) == ["Boiler.md"]


def test_nothing_is_trained_on_an_overview_as_the_passage_that_answers() -> None:
    chunks = cut({"Boiler.md": boiler()})
    pairs = build_pairs({"Boiler.md": chunks}, [])
    assert pairs == build_pairs({"Boiler.md": without_overviews(chunks)}, [])
    names = " ".join(f"Boiler {n}" for n in LINES)
    assert best_chunk(names, chunks).position != OVERVIEW


def test_an_overview_is_no_hard_negative_of_its_page(tmp_path: Path) -> None:
    shelf = shelf_at(tmp_path)
    retriever = shelf.index.retriever(shelf.refresh(cut({"Boiler.md": boiler()})).version)
    pair = TrainingPair("Boiler 12", "text", "Boiler.md", "Boiler > Boiler 12")
    [found] = add_hard_negatives([pair], retriever, 30)
    assert len(found.negatives) == len(LINES) - 1


def test_training_samples_have_the_context_of_serving(tmp_path: Path) -> None:
    shelf = shelf_at(tmp_path)
    chunks = cut({"Boiler.md": boiler()})
    retriever = shelf.index.retriever(shelf.refresh(chunks).version)
    example = Example((Message("user", NEWEST),), "Boiler 29", None)
    [sample] = samples_with_passages([example], {"Boiler.md": chunks}, retriever, 3, 7)
    context: list[Passage] = retriever.contexts([NEWEST], 3)[0]
    assert all(passage.text in sample.prompt[-1].content for passage in context)
