"""Tests of training pairs: headings, questions, excluded golden questions, order and hard negatives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragtide.pipelines.index.chunking import chunk_documents
from ragtide.pipelines.index.search import Retriever
from ragtide.pipelines.index.source import InMemorySource
from ragtide.pipelines.index.table import Index
from ragtide.pipelines.params import ChunkParams
from ragtide.pipelines.ports import Message, no_progress
from ragtide.pipelines.records.data import Chunk
from ragtide.pipelines.training.examples import Example
from ragtide.pipelines.training.pairs import TrainingPair, add_hard_negatives, build_pairs, draw_pairs
from tests.factories import document
from tests.fakes import CountingEmbedder

GUIDE = """# The guide

Some words before all sections.

## Install it

Run the installer and wait.

## What is a `Widget`?

A widget turns a thing around.

## Nothing here

## Use of :class:`~tools.Widget`

Take it in your hand.
"""
OTHER = "# Another page\n\n## Install it\n\nIt is there already.\n"
LONG = "# Long\n\n## Of many words\n\n" + "\n\n".join(
    f"Paragraph {n} has some ten words of its own to say." for n in range(9)
)


def cut(pages: Mapping[str, str]) -> dict[str, Sequence[Chunk]]:
    documents = [document(name, text) for name, text in pages.items()]
    return dict(InMemorySource.of(chunk_documents(documents, ChunkParams(max_words=20))).by_document)


def example(question: str, doc: str | None, answer: str = "yes") -> Example:
    return Example((Message("user", question),), answer, doc)


def queries(pages: Mapping[str, str], examples: Sequence[Example] = (), excluded: Sequence[str] = ()) -> list[str]:
    return [pair.query for pair in build_pairs(cut(pages), examples, excluded)]


# --- pairs ---------------------------------------------------------------------------------------------------------


def test_a_heading_with_the_page_title_is_the_query_of_its_section() -> None:
    pairs = {pair.query: pair for pair in build_pairs(cut({"guide.md": GUIDE}), [])}
    assert sorted(pairs) == [
        "Install it (The guide)",
        "The guide",
        "Use of tools.Widget (The guide)",
        "What is a Widget?",
    ]
    assert pairs["Install it (The guide)"].passage == "The guide > Install it\nRun the installer and wait."
    assert pairs["The guide"].document == "guide.md"


def test_a_heading_without_text_makes_no_pair() -> None:
    assert not [query for query in queries({"guide.md": GUIDE}) if query.startswith("Nothing here")]


def test_the_page_titles_distinguish_equal_headings() -> None:
    headings = queries({"guide.md": GUIDE, "other.md": OTHER})
    assert {"Install it (The guide)", "Install it (Another page)"} <= set(headings)


def test_a_query_with_two_passages_makes_no_pair() -> None:
    assert "What is a Widget?" not in queries({"a.md": GUIDE, "b.md": "# Two\n\n## What is a widget?\n\nA toy.\n"})


def test_the_passage_of_a_long_section_is_its_first_chunk() -> None:
    pairs = [pair for pair in build_pairs(cut({"long.md": LONG}), []) if pair.query == "Of many words (Long)"]
    assert [pair.passage for pair in pairs] == [cut({"long.md": LONG})["long.md"][0].text]


def test_a_question_is_paired_with_the_chunk_that_holds_its_answer() -> None:
    pairs = build_pairs(cut({"guide.md": GUIDE}), [example("How do I set it up?", "guide.md", "Run the installer")])
    pair = next(pair for pair in pairs if pair.query == "How do I set it up?")
    assert (pair.document, pair.passage) == ("guide.md", "The guide > Install it\nRun the installer and wait.")


def test_an_example_without_a_page_makes_no_pair() -> None:
    assert queries({"guide.md": GUIDE}, [example("Be polite", None)]) == queries({"guide.md": GUIDE})


def test_the_same_question_twice_is_one_pair() -> None:
    twice = [example("How do I set it up?", "guide.md", "Run the installer")] * 2
    assert queries({"guide.md": GUIDE}, twice).count("How do I set it up?") == 1


def test_a_question_that_is_a_heading_too_is_one_pair() -> None:
    examples = [example("what is a widget", "guide.md", "It turns a thing around")]
    assert [query for query in queries({"guide.md": GUIDE}, examples) if "idget" in query and "Use" not in query] == [
        "What is a Widget?"
    ]


# --- excluded golden questions -------------------------------------------------------------------------------------


@pytest.mark.parametrize("golden", ["Install it", "INSTALL  IT", "install it (the guide)"])
def test_a_heading_like_a_golden_question_makes_no_pair(golden: str) -> None:
    assert "Install it (The guide)" not in queries({"guide.md": GUIDE}, excluded=[golden])


def test_a_golden_question_makes_no_pair() -> None:
    examples = [example("How do I set it up?", "guide.md")]
    assert "How do I set it up?" not in queries({"guide.md": GUIDE}, examples, excluded=["how do I set it up"])


# --- order ---------------------------------------------------------------------------------------------------------

words = st.sampled_from(["install", "use", "widget", "page", "what?", "notes"])
pages_of = st.dictionaries(
    st.sampled_from(["a.md", "b.md", "c.md"]),
    st.lists(st.tuples(words, words), min_size=1, max_size=4).map(
        lambda sections: "# T\n\n" + "\n\n".join(f"## {head}\n\nabout {body}" for head, body in sections)
    ),
    min_size=1,
)


@settings(deadline=None, max_examples=60)
@given(pages_of, st.lists(words, max_size=3), st.randoms(use_true_random=False))
def test_pairs_do_not_depend_on_the_order_and_none_is_a_golden_question(
    pages: dict[str, str], golden: list[str], shuffle: object
) -> None:
    examples = [example(f"Is {word} good", name) for name in pages for word in ("install", "use")]
    pairs = build_pairs(cut(pages), examples, golden)
    names = sorted(pages, key=lambda _: shuffle.random())  # type: ignore[attr-defined]
    assert build_pairs(cut({name: pages[name] for name in names}), examples[::-1], golden) == pairs
    assert len({pair.query for pair in pairs}) == len(pairs)
    golden_texts = {question.strip("?") for question in golden}
    assert not [pair for pair in pairs if pair.heading and pair.heading.split(" > ")[-1].strip("?") in golden_texts]


def test_a_draw_depends_only_on_the_seed() -> None:
    pairs = build_pairs(cut({"guide.md": GUIDE, "other.md": OTHER}), [])
    assert draw_pairs(pairs, 3, seed=1) == draw_pairs(pairs, 3, seed=1)
    assert len(draw_pairs(pairs, 3, seed=1)) == 3
    assert sorted(draw_pairs(pairs, 99, seed=1), key=lambda pair: pair.query) == pairs
    assert len({tuple(pair.query for pair in draw_pairs(pairs, 3, seed=seed)) for seed in range(9)}) > 1


# --- hard negatives ------------------------------------------------------------------------------------------------

TOWNS = {
    f"{town}.md": f"# {town}\n\n## The harbour\n\nShips of {town} sail." for town in ("Kiel", "Lund", "Oslo", "Riga")
}


@pytest.fixture(scope="module")
def retriever(tmp_path_factory: pytest.TempPathFactory) -> Retriever:
    index = Index(str(tmp_path_factory.mktemp("pairs") / "lance"), CountingEmbedder(), ChunkParams())
    source = InMemorySource.of([chunk for chunks in cut(TOWNS).values() for chunk in chunks])
    return index.retriever(index.refresh(source, "snapshot", no_progress).version)


def test_hard_negatives_are_passages_of_other_sections(retriever: Retriever) -> None:
    pairs = build_pairs(cut(TOWNS), [])
    with_negatives = add_hard_negatives(pairs, retriever, 2)
    assert [len(pair.negatives) for pair in with_negatives] == [2] * len(pairs)
    assert not [pair for pair in with_negatives if pair.passage in pair.negatives]
    assert [pair.query for pair in with_negatives] == [pair.query for pair in pairs]


def test_a_passage_of_the_page_of_a_question_is_no_negative(retriever: Retriever) -> None:
    [kiel] = cut(TOWNS)["Kiel.md"]
    [question] = add_hard_negatives(
        [TrainingPair("where do ships of Kiel sail", "elsewhere", "Kiel.md", None)], retriever, 3
    )
    assert kiel.text not in question.negatives
    assert len(question.negatives) == 3
    [heading] = add_hard_negatives(
        [TrainingPair("where do ships of Kiel sail", "elsewhere", "Kiel.md", "Kiel > The sea")], retriever, 3
    )
    assert heading.negatives[0] == kiel.text


def test_zero_negatives_need_no_search(retriever: Retriever) -> None:
    pairs = build_pairs(cut(TOWNS), [])
    embedded = len(CountingEmbedder.embedded)
    assert add_hard_negatives(pairs, retriever, 0) == pairs
    assert len(CountingEmbedder.embedded) == embedded
