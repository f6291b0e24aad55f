"""Does the model learn from what retrieval really returns, the right passage always among it?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragtide.pipelines.corpus import InMemorySource
from ragtide.pipelines.index.search import Retriever
from ragtide.pipelines.index.table import Index
from ragtide.pipelines.models.prompts import SYSTEM, question_prompt
from ragtide.pipelines.params import ChunkParams, Params
from ragtide.pipelines.ports import Message, TrainingSample, no_progress
from ragtide.pipelines.records.data import Chunk
from ragtide.pipelines.training.examples import Example
from ragtide.pipelines.training.samples import (
    best_chunk,
    decline_answer,
    documents_in,
    draw_unanswerable,
    samples_with_passages,
    training_samples,
    unanswerable_samples,
)
from tests.factories import HashEmbedder, Shelf, chunk

PAGES = 40
# No word of the questions stands in the passages, so that retrieval finds now the right one and now others.
CHUNKS = [chunk(f"{number}.md", f"passage {number} holds value-{number}") for number in range(PAGES)]
BY_DOCUMENT = {one.document: [one] for one in CHUNKS}


@pytest.fixture(scope="module")
def embedder() -> HashEmbedder:
    return HashEmbedder()


@pytest.fixture(scope="module")
def reader(embedder: HashEmbedder, tmp_path_factory: pytest.TempPathFactory) -> Retriever:
    index = Index(str(tmp_path_factory.mktemp("examples") / "lance"), embedder, ChunkParams())
    return index.retriever(index.refresh(InMemorySource.of(CHUNKS), "snapshot", no_progress).version)


def example(number: int, doc: str | None = "", question: str | None = None) -> Example:
    """An example about page `number`; `doc` "" names that page."""
    asked = question or f"What about {number}?"
    page = f"{number}.md" if doc == "" else doc
    return Example((Message("user", asked),), f"value-{number}", page)


EXAMPLES = [example(number, question=f"Topic {number * 31}?") for number in range(PAGES)]


def taught(examples: Sequence[Example], reader: Retriever, top_k: int = 3, seed: int = 7) -> list[TrainingSample]:
    return samples_with_passages(examples, BY_DOCUMENT, reader, top_k, seed)


def contexts(lesson: TrainingSample) -> list[str]:
    return re.findall(r"^\[\d+\] (.+)$", lesson.prompt[-1].content, flags=re.MULTILINE)


def found(example: Example, reader: Retriever, top_k: int = 3) -> list[str]:
    return [hit.text for hit in reader.search([example.question], top_k)[0]]


@pytest.mark.parametrize("top_k", [1, 2, 3, 10])
def test_the_right_passage_is_always_there_and_there_are_top_k(reader: Retriever, top_k: int) -> None:
    for one, lesson in zip(EXAMPLES, taught(EXAMPLES, reader, top_k), strict=True):
        shown = contexts(lesson)
        assert BY_DOCUMENT[str(one.doc)][0].text in shown
        assert len(shown) == len(set(shown)) == top_k


def test_the_other_passages_are_the_best_that_retrieval_returns(reader: Retriever) -> None:
    for one, lesson in zip(EXAMPLES, taught(EXAMPLES, reader), strict=True):
        right = BY_DOCUMENT[str(one.doc)][0].text
        distractors = [text for text in contexts(lesson) if text != right]
        assert distractors == [text for text in found(one, reader) if text != right][:2]


def test_where_retrieval_finds_the_right_passage_its_order_stands(reader: Retriever) -> None:
    asked = [example(number, question=f"passage {number} holds value-{number}") for number in range(PAGES)]
    shown = [contexts(lesson) for lesson in taught(asked, reader)]
    assert shown == [found(one, reader) for one in asked]
    assert shown[4][0] == CHUNKS[4].text


def test_the_place_of_the_right_passage_does_not_give_it_away(reader: Retriever) -> None:
    missed = [one for one in EXAMPLES if BY_DOCUMENT[str(one.doc)][0].text not in found(one, reader)]
    assert len(missed) > PAGES / 2
    learnt = zip(missed, taught(missed, reader), strict=True)
    places = [contexts(lesson).index(BY_DOCUMENT[str(one.doc)][0].text) for one, lesson in learnt]
    assert min(places.count(place) for place in range(3)) > len(missed) / 10


def test_the_same_seed_gives_the_same_lessons_and_another_seed_others(reader: Retriever) -> None:
    assert taught(EXAMPLES, reader) == taught(EXAMPLES, reader)
    other = taught(EXAMPLES, reader, seed=8)
    assert other != taught(EXAMPLES, reader)
    assert [set(contexts(one)) for one in other] == [set(contexts(one)) for one in taught(EXAMPLES, reader)]


@pytest.mark.parametrize("top_k", [1, 3])
def test_an_example_about_behaviour_alone_gets_what_is_found_as_it_will_when_it_is_asked(
    reader: Retriever, top_k: int
) -> None:
    one = example(1, doc=None)
    passages = found(one, reader, top_k)
    assert len(passages) == top_k
    assert taught([one], reader, top_k) == [TrainingSample(question_prompt(one.question, passages), one.completion)]


def test_without_any_passage_an_example_about_behaviour_stands_alone(tmp_path: Path) -> None:
    shelf = Shelf(str(tmp_path / "lance"))
    shelf.refresh(CHUNKS[:1])
    empty = shelf.index.retriever(shelf.refresh([]).version)
    assert taught([example(1, doc=None)], empty) == [TrainingSample((Message("user", "What about 1?"),), "value-1")]


def test_an_example_about_behaviour_does_not_move_the_right_passages_of_the_others(reader: Retriever) -> None:
    some = EXAMPLES[:9]
    mixed = [one for number, about in enumerate(some) for one in (example(number, doc=None), about)]
    assert taught(mixed, reader)[1::2] == taught(some, reader)


def test_examples_with_and_without_a_page_keep_their_order(reader: Retriever) -> None:
    mixed = [example(0, doc=None), example(1), example(2, doc=None), example(3), example(1)]
    learnt = taught(mixed, reader)
    assert [lesson.completion for lesson in learnt] == [one.completion for one in mixed]
    assert [len(contexts(lesson)) for lesson in learnt] == [3] * len(mixed)
    assert all(
        CHUNKS[int(str(one.doc).removesuffix(".md"))].text in contexts(lesson)
        for one, lesson in zip(mixed, learnt, strict=True)
        if one.doc
    )


def test_no_examples_make_no_lessons(reader: Retriever) -> None:
    assert taught([], reader) == []


def test_a_conversation_keeps_its_turns_and_its_last_one_gets_the_passages(reader: Retriever) -> None:
    turns = (Message("user", "Hello"), Message("assistant", "Hi"), Message("user", "What about 5?"))
    [lesson] = taught([Example(turns, "value-5", "5.md")], reader)
    assert lesson.prompt[0] == Message("system", SYSTEM)
    assert lesson.prompt[1:3] == turns[:2]
    assert CHUNKS[5].text in contexts(lesson)
    assert lesson.prompt[-1].content.endswith("Question: What about 5?")


def test_the_right_passage_of_a_page_is_the_one_that_answers(reader: Retriever) -> None:
    page = [chunk("0.md", f"Quill {at} ends in {month}", at) for at, month in enumerate(["May", "June", "May"])]
    asked = Example((Message("user", "When does Quill end?"),), "In June.", "0.md")
    named = Example((Message("user", "When does Quill 2 end?"),), "In May.", "0.md")
    learnt = samples_with_passages([asked, named], {"0.md": page}, reader, 1, 7)
    assert [contexts(lesson) for lesson in learnt] == [["Quill 1 ends in June"], ["Quill 2 ends in May"]]


# --- the right passage is absent -----------------------------------------------------------------------------------

HONEST = "not in the documents"


def sharing(share: float, **settings: Any) -> Params:
    return Params.model_validate({"examples": {"unanswerable_share": share, **settings}})


def absent(examples: Sequence[Example], reader: Retriever, share: float = 1.0) -> list[TrainingSample]:
    return unanswerable_samples(examples, BY_DOCUMENT, reader, sharing(share))


def test_without_the_right_passage_the_nearest_others_stand_there_and_the_answer_is_honest(reader: Retriever) -> None:
    for one, lesson in zip(EXAMPLES, absent(EXAMPLES, reader), strict=True):
        right = BY_DOCUMENT[str(one.doc)][0].text
        assert contexts(lesson) == [text for text in found(one, reader, PAGES) if text != right][:3]
        assert lesson.prompt[-1].content.endswith(f"Question: {one.question}")
        assert lesson.completion == HONEST


@pytest.mark.parametrize(
    ("completion", "told", "again"),
    [
        ("It ends in May.", "Quill 2 ends in May", "In May, Quill 2 ends"),
        ("2027-05-01", "Quill 2 ends on 2027-05-01", "1.5.2027 is the end of Quill 2"),
        ('{"month": "May", "what": []}', "Quill 2 ends in May", "May sees the end of Quill 2"),
        ('{"date": "2027-05-01"}', "Quill 2 ends on 2027-05-01", "1.5.2027 is the end"),
    ],
)
def test_what_tells_the_answer_elsewhere_is_absent_too(tmp_path: Path, completion: str, told: str, again: str) -> None:
    page = [chunk("quill.md", text, at) for at, text in enumerate([told, "Quill is blue"])]
    more = [chunk("news.md", again, 0), chunk("news.md", "Quill ends one day", 1)]
    shelf = Shelf(str(tmp_path / "lance"))
    reader = shelf.index.retriever(shelf.refresh([*page, *more]).version)
    asked = Example((Message("user", "When does Quill 2 end?"),), completion, "quill.md")
    [lesson] = unanswerable_samples([asked], {"quill.md": page}, reader, sharing(1))
    assert set(contexts(lesson)) == {"Quill is blue", "Quill ends one day"}


def test_where_every_passage_tells_the_answer_there_is_nothing_to_be_honest_about(reader: Retriever) -> None:
    asked = Example((Message("user", "Does passage 5 hold value-5?"),), "passage 5", "5.md")
    assert absent([asked], reader) == []


def test_only_examples_with_a_page_are_taught_without_it(reader: Retriever) -> None:
    assert absent([example(1, doc=None)], reader) == []
    assert absent([], reader) == []


def test_a_training_run_sees_every_example_with_its_passage_and_some_once_more_without(reader: Retriever) -> None:
    params = sharing(0.3)
    seen = training_samples(EXAMPLES, BY_DOCUMENT, reader, params)
    assert seen[:PAGES] == taught(EXAMPLES, reader)
    assert seen[PAGES:] == absent(draw_unanswerable(EXAMPLES, params), reader)
    assert 0 < len(seen) - PAGES < PAGES
    assert training_samples(EXAMPLES, BY_DOCUMENT, reader, sharing(0)) == taught(EXAMPLES, reader)


@given(st.sets(st.integers(0, 999), max_size=30), st.integers(0, 999), st.floats(0, 1))
def test_an_example_that_is_added_moves_no_other_in_the_draw(numbers: set[int], added: int, share: float) -> None:
    params = sharing(share)
    before = draw_unanswerable([example(number) for number in sorted(numbers)], params)
    after = draw_unanswerable([example(number) for number in sorted({*numbers, added})], params)
    assert [one for one in after if one != example(added)] == [one for one in before if one != example(added)]


def test_the_share_is_what_is_drawn_and_another_seed_draws_others() -> None:
    many = [example(number) for number in range(2000)]
    drawn = draw_unanswerable(many, sharing(0.2))
    other = Params.model_validate({"examples": {"unanswerable_share": 0.2}, "finetune": {"seed": 8}})
    assert len(drawn) == pytest.approx(400, abs=60)
    assert drawn != draw_unanswerable(many, other)
    assert draw_unanswerable(many, sharing(1)) == many
    assert draw_unanswerable(many, sharing(0)) == []


@pytest.mark.parametrize(
    ("completion", "said"),
    [
        ("May 2027", "?"),
        ('{"value": "May"}', '{"value": "?"}'),
        ('{"a": {"b": 1, "c": ["x"]}, "d": null}', '{"a": {"b": "?", "c": []}, "d": "?"}'),
        ('{"größe": true}', '{"größe": "?"}'),
        ("{}", "{}"),
        ('["May"]', "?"),
        ("42", "?"),
        ('{"value": "May"', "?"),
    ],
)
def test_an_honest_answer_keeps_the_form_of_an_object(completion: str, said: str) -> None:
    assert decline_answer(completion, "?") == said


# --- which passage is meant ----------------------------------------------------------------------------------------


def passages(*texts: str) -> list[Chunk]:
    return [chunk("a.md", text, position) for position, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("text", "texts", "best"),
    [
        ("end of Quill", ["start of Pen", "the end of Quill"], 1),
        ("QUILL", ["pen", "quill."], 1),
        ("1.2.3", ["version 1.2.4", "version 1.2.3."], 1),
        ("pen pen pen quill ink", ["pen pen pen", "quill and ink"], 1),
        ("nothing shared", ["a", "b"], 0),
        ("same", ["the same", "same again"], 0),
        ("日本", ["英国", "日本"], 1),
        ("", ["a", "b"], 0),
    ],
)
def test_the_best_chunk_shares_the_most_distinct_words_and_of_equals_is_the_first(
    text: str, texts: list[str], best: int
) -> None:
    chunks = passages(*texts)
    assert best_chunk(text, chunks) == chunks[best]
    assert best_chunk(text, list(reversed(chunks))) == chunks[best]


def test_a_lesson_says_which_documents_it_shows(reader: Retriever) -> None:
    by_text = {one.text: one.document for one in CHUNKS}
    for one, lesson in zip(EXAMPLES, taught(EXAMPLES, reader), strict=True):
        assert lesson.documents == tuple(by_text[text] for text in contexts(lesson))
        assert one.doc in lesson.documents


def test_a_passage_that_stands_in_two_documents_counts_as_the_one_that_the_example_names(tmp_path: Path) -> None:
    twins = [chunk(name, "passage 1 holds value-1") for name in ("a.md", "b.md")]
    index = Index(str(tmp_path / "lance"), HashEmbedder(), ChunkParams())
    both = index.retriever(index.refresh(InMemorySource.of(twins), "snapshot", no_progress).version)
    by_document = InMemorySource.of(twins).by_document
    shown = [
        samples_with_passages([example(1, doc=name)], by_document, both, 1, 7)[0].documents for name in ("a.md", "b.md")
    ]
    assert shown == [("a.md",), ("b.md",)]


def test_what_was_seen_is_every_document_shown_in_the_form_that_it_had(reader: Retriever) -> None:
    some = taught(EXAMPLES[:2], reader)
    shown = {name for lesson in some for name in lesson.documents}
    assert documents_in(some, BY_DOCUMENT) == {name: BY_DOCUMENT[name][0].document_digest for name in shown}
    assert len(shown) > 2
