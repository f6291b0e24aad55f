"""Tests of gold passages: one that supports the answer alone, several that do together, and gold context."""

from __future__ import annotations

from typing import Any

import pytest

from ragtide.pipelines.corpus import KnowledgeBase
from ragtide.pipelines.evaluation.gold import GoldPassages, gold_context
from ragtide.pipelines.index.chunking import chunk_documents, text_digest
from ragtide.pipelines.params import ChunkParams
from ragtide.pipelines.records.data import Chunk
from ragtide.pipelines.records.evaluation import GoldenQuestion
from tests.factories import document, snapshot

FILLER = "It is a boiler among boilers. " * 20


def knowledge_of(max_words: int = 160, **pages: str) -> KnowledgeBase:
    documents = [document(f"{name}.md", text) for name, text in pages.items()]
    chunks = chunk_documents(documents, ChunkParams(max_words=max_words))
    return KnowledgeBase(snapshot({page.id: page.digest for page in documents}), tuple(documents), tuple(chunks))


def staff(*people: str, filler: str = "") -> KnowledgeBase:
    return knowledge_of(
        Staff="# Staff\n\n"
        + "\n\n".join(f"## Desk {at}\n\n{name} sits here. {filler}" for at, name in enumerate(people))
    )


def question(*answers: str, docs: tuple[str, ...] = ("Staff.md",), **fields: Any) -> GoldenQuestion:
    asked = {"question": "Who sits in the office?"} | fields
    return GoldenQuestion(id="q", answers=answers, docs=docs, **asked)


def digests(*chunks: Chunk) -> set[str]:
    return {chunk.digest for chunk in chunks}


def test_a_passage_that_supports_the_answer_alone_is_gold() -> None:
    gold = GoldPassages.of(question("Ada"), staff("Ada", "Bob", "Eve"))
    assert [chunk.position for chunk in gold.supporting] == [0]
    assert not gold.together
    assert gold.are_in(digests(gold.passages[0]))
    assert not gold.are_in(digests(*gold.passages[1:]))


def test_an_answer_over_several_passages_has_them_as_gold_together() -> None:
    gold = GoldPassages.of(question("Bob, Eve"), staff("Ada", "Bob", "Jan", "Eve"))
    assert not gold.supporting
    assert [chunk.position for chunk in gold.together] == [1, 3]
    assert gold.are_in(digests(gold.passages[1], gold.passages[3]))
    for missing in (1, 3):
        assert not gold.are_in(digests(*(chunk for chunk in gold.passages if chunk.position != missing)))


def test_another_passage_with_the_same_item_is_as_good() -> None:
    gold = GoldPassages.of(question("Bob, Eve"), staff("Bob", "Bob", "Eve"))
    assert gold.are_in(digests(gold.passages[0], gold.passages[2]))
    assert gold.are_in(digests(gold.passages[1], gold.passages[2]))


def test_a_named_passage_that_is_cut_has_its_parts_as_gold() -> None:
    sentence = " ".join(f"word{at}" for at in range(36))
    knowledge = knowledge_of(20, Staff=f"# Staff\n\nFirst of all.\n\n{sentence}\n\n## Other\n\nNothing at all.\n")
    gold = GoldPassages.of(question("no", passage=sentence), knowledge)
    assert [chunk.text.split()[-1] for chunk in gold.together] == ["word19", "word35"]
    assert not gold.are_in(digests(gold.together[0]))
    assert gold.are_in(digests(*gold.together))


@pytest.mark.parametrize("fields", [{"answers": ("yes",)}, {"answers": ("Zoe",)}])
def test_where_no_chunk_is_known_to_support_the_answer_any_counts(fields: dict[str, tuple[str, ...]]) -> None:
    gold = GoldPassages.of(question(*fields["answers"]), staff("Ada", "Bob"))
    assert all(gold.are_in(digests(chunk)) for chunk in gold.passages)
    assert not gold.are_in({text_digest("a row of yesterday")})


def test_an_overview_that_has_the_answer_counts_and_is_no_gold_passage_itself() -> None:
    gold = GoldPassages.of(question("Ada, Eve"), staff("Ada", "Bob", "Eve", filler=FILLER))
    overview = gold.chunks[0]
    assert overview.is_overview
    assert [chunk.position for chunk in gold.together] == [0, 2]
    assert gold.are_in(digests(overview))


@pytest.mark.parametrize("passages", range(1, 7))
def test_gold_context_of_any_size_holds_all_that_is_needed(passages: int) -> None:
    for filler in ("", FILLER):
        knowledge = staff("Ada", "Bob", "Jan", "Eve", "Ann", filler=filler)
        asked = question("Bob, Ann", question="Is Eve who sits at desk 3?")
        context = gold_context(asked, knowledge, passages)
        held = GoldPassages.of(asked, knowledge)
        assert {chunk.text for chunk in held.together} <= {*context}
        assert len(context) == len({*context})


def test_gold_context_of_a_question_about_a_whole_page_is_that_page() -> None:
    lines = "\n\n".join(f"## Boiler {n}\n\n- Released: 20{n}-01-01" for n in range(10, 20))
    knowledge = knowledge_of(Boiler=f"# Boiler\n\n{lines}\n")
    asked = question("Boiler 19", question="Which line is the newest?", docs=("Boiler.md",))
    assert gold_context(asked, knowledge, 3) == [chunk.text for chunk in knowledge.chunks]
    named = question("2015-01-01", question="When was Boiler 15 released?", docs=("Boiler.md",))
    assert len(gold_context(named, knowledge, 3)) == 3
