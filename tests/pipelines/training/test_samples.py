"""Tests of training samples: retrieved passages with and without the gold passage, draws and word overlap."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragtide.pipelines.index.search import Retriever
from ragtide.pipelines.index.source import InMemorySource
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
# Questions and passages share no word, so that retrieval finds the gold passage only sometimes.
CHUNKS = [chunk(f"{number}.md", f"passage {number} holds value-{number}") for number in range(PAGES)]
BY_DOCUMENT = {page.document: [page] for page in CHUNKS}


@pytest.fixture(scope="module")
def embedder() -> HashEmbedder:
    return HashEmbedder()


@pytest.fixture(scope="module")
def retriever(embedder: HashEmbedder, tmp_path_factory: pytest.TempPathFactory) -> Retriever:
    index = Index(str(tmp_path_factory.mktemp("examples") / "lance"), embedder, ChunkParams())
    return index.retriever(index.refresh(InMemorySource.of(CHUNKS), "snapshot", no_progress).version)


def example(number: int, doc: str | None = "", question: str | None = None) -> Example:
    """An example about page `number`; `doc` "" names that page."""
    text = question or f"What about {number}?"
    page = f"{number}.md" if doc == "" else doc
    return Example((Message("user", text),), f"value-{number}", page)


EXAMPLES = [example(number, question=f"Topic {number * 31}?") for number in range(PAGES)]


def samples_of(
    examples: Sequence[Example], retriever: Retriever, top_k: int = 3, seed: int = 7
) -> list[TrainingSample]:
    return samples_with_passages(examples, BY_DOCUMENT, retriever, top_k, seed)


def contexts(sample: TrainingSample) -> list[str]:
    return re.findall(r"^\[\d+\] (.+)$", sample.prompt[-1].content, flags=re.MULTILINE)


def retrieved(example: Example, retriever: Retriever, top_k: int = 3) -> list[str]:
    return [passage.text for passage in retriever.search([example.question], top_k)[0]]


@pytest.mark.parametrize("top_k", [1, 2, 3, 10])
def test_the_gold_passage_is_always_among_the_top_k(retriever: Retriever, top_k: int) -> None:
    for item, sample in zip(EXAMPLES, samples_of(EXAMPLES, retriever, top_k), strict=True):
        shown = contexts(sample)
        assert BY_DOCUMENT[str(item.doc)][0].text in shown
        assert len(shown) == len(set(shown)) == top_k


def test_the_distractors_are_the_best_that_retrieval_returns(retriever: Retriever) -> None:
    for item, sample in zip(EXAMPLES, samples_of(EXAMPLES, retriever), strict=True):
        gold = BY_DOCUMENT[str(item.doc)][0].text
        distractors = [text for text in contexts(sample) if text != gold]
        assert distractors == [text for text in retrieved(item, retriever) if text != gold][:2]


def test_the_order_of_retrieval_is_kept_if_it_finds_the_gold_passage(retriever: Retriever) -> None:
    examples = [example(number, question=f"passage {number} holds value-{number}") for number in range(PAGES)]
    shown = [contexts(sample) for sample in samples_of(examples, retriever)]
    assert shown == [retrieved(item, retriever) for item in examples]
    assert shown[4][0] == CHUNKS[4].text


def test_an_inserted_gold_passage_stands_at_a_random_position(retriever: Retriever) -> None:
    missed = [item for item in EXAMPLES if BY_DOCUMENT[str(item.doc)][0].text not in retrieved(item, retriever)]
    assert len(missed) > PAGES / 2
    pairs = zip(missed, samples_of(missed, retriever), strict=True)
    places = [contexts(sample).index(BY_DOCUMENT[str(item.doc)][0].text) for item, sample in pairs]
    assert min(places.count(place) for place in range(3)) > len(missed) / 10


def test_the_samples_depend_on_the_seed(retriever: Retriever) -> None:
    assert samples_of(EXAMPLES, retriever) == samples_of(EXAMPLES, retriever)
    other = samples_of(EXAMPLES, retriever, seed=8)
    assert other != samples_of(EXAMPLES, retriever)
    assert [set(contexts(sample)) for sample in other] == [
        set(contexts(sample)) for sample in samples_of(EXAMPLES, retriever)
    ]


@pytest.mark.parametrize("top_k", [1, 3])
def test_an_example_without_a_page_gets_the_retrieved_passages(retriever: Retriever, top_k: int) -> None:
    item = example(1, doc=None)
    passages = retrieved(item, retriever, top_k)
    assert len(passages) == top_k
    assert samples_of([item], retriever, top_k) == [
        TrainingSample(question_prompt(item.question, passages), item.completion)
    ]


def test_without_any_passage_an_example_without_a_page_has_no_context(tmp_path: Path) -> None:
    shelf = Shelf(str(tmp_path / "lance"))
    shelf.refresh(CHUNKS[:1])
    empty = shelf.index.retriever(shelf.refresh([]).version)
    assert samples_of([example(1, doc=None)], empty) == [TrainingSample((Message("user", "What about 1?"),), "value-1")]


def test_an_example_without_a_page_does_not_change_the_samples_of_others(retriever: Retriever) -> None:
    with_page = EXAMPLES[:9]
    mixed = [item for number, about in enumerate(with_page) for item in (example(number, doc=None), about)]
    assert samples_of(mixed, retriever)[1::2] == samples_of(with_page, retriever)


def test_examples_with_and_without_a_page_keep_their_order(retriever: Retriever) -> None:
    mixed = [example(0, doc=None), example(1), example(2, doc=None), example(3), example(1)]
    samples = samples_of(mixed, retriever)
    assert [sample.completion for sample in samples] == [item.completion for item in mixed]
    assert [len(contexts(sample)) for sample in samples] == [3] * len(mixed)
    assert all(
        CHUNKS[int(str(item.doc).removesuffix(".md"))].text in contexts(sample)
        for item, sample in zip(mixed, samples, strict=True)
        if item.doc
    )


def test_no_examples_make_no_samples(retriever: Retriever) -> None:
    assert samples_of([], retriever) == []


def test_a_conversation_keeps_its_turns_and_its_last_one_gets_the_passages(retriever: Retriever) -> None:
    turns = (Message("user", "Hello"), Message("assistant", "Hi"), Message("user", "What about 5?"))
    [sample] = samples_of([Example(turns, "value-5", "5.md")], retriever)
    assert sample.prompt[0] == Message("system", SYSTEM)
    assert sample.prompt[1:3] == turns[:2]
    assert CHUNKS[5].text in contexts(sample)
    assert sample.prompt[-1].content.endswith("Question: What about 5?")


def test_the_gold_passage_of_a_page_is_the_one_with_the_answer(retriever: Retriever) -> None:
    page = [chunk("0.md", f"Quill {at} ends in {month}", at) for at, month in enumerate(["May", "June", "May"])]
    question = Example((Message("user", "When does Quill end?"),), "In June.", "0.md")
    named = Example((Message("user", "When does Quill 2 end?"),), "In May.", "0.md")
    samples = samples_with_passages([question, named], {"0.md": page}, retriever, 1, 7)
    assert [contexts(sample) for sample in samples] == [["Quill 1 ends in June"], ["Quill 2 ends in May"]]


# --- unanswerable samples ------------------------------------------------------------------------------------------

REPLY = "not in the documents"


def sharing(share: float, **settings: Any) -> Params:
    return Params.model_validate({"examples": {"unanswerable_share": share, **settings}})


def unanswerable(examples: Sequence[Example], retriever: Retriever, share: float = 1.0) -> list[TrainingSample]:
    return unanswerable_samples(examples, BY_DOCUMENT, retriever, sharing(share))


def test_an_unanswerable_sample_has_the_nearest_other_passages_and_the_reply(retriever: Retriever) -> None:
    for item, sample in zip(EXAMPLES, unanswerable(EXAMPLES, retriever), strict=True):
        gold = BY_DOCUMENT[str(item.doc)][0].text
        assert contexts(sample) == [text for text in retrieved(item, retriever, PAGES) if text != gold][:3]
        assert sample.prompt[-1].content.endswith(f"Question: {item.question}")
        assert sample.completion == REPLY


@pytest.mark.parametrize(
    ("completion", "gold", "paraphrase"),
    [
        ("It ends in May.", "Quill 2 ends in May", "In May, Quill 2 ends"),
        ("2027-05-01", "Quill 2 ends on 2027-05-01", "1.5.2027 is the end of Quill 2"),
        ('{"month": "May", "what": []}', "Quill 2 ends in May", "May sees the end of Quill 2"),
        ('{"date": "2027-05-01"}', "Quill 2 ends on 2027-05-01", "1.5.2027 is the end"),
    ],
)
def test_other_passages_with_the_answer_are_excluded_too(
    tmp_path: Path, completion: str, gold: str, paraphrase: str
) -> None:
    page = [chunk("quill.md", text, at) for at, text in enumerate([gold, "Quill is blue"])]
    more = [chunk("other.md", paraphrase, 0), chunk("other.md", "Quill ends one day", 1)]
    shelf = Shelf(str(tmp_path / "lance"))
    retriever = shelf.index.retriever(shelf.refresh([*page, *more]).version)
    question = Example((Message("user", "When does Quill 2 end?"),), completion, "quill.md")
    [sample] = unanswerable_samples([question], {"quill.md": page}, retriever, sharing(1))
    assert set(contexts(sample)) == {"Quill is blue", "Quill ends one day"}


def test_an_example_answered_by_every_passage_makes_no_unanswerable_sample(retriever: Retriever) -> None:
    question = Example((Message("user", "Does passage 5 hold value-5?"),), "passage 5", "5.md")
    assert unanswerable([question], retriever) == []


def test_only_examples_with_a_page_make_unanswerable_samples(retriever: Retriever) -> None:
    assert unanswerable([example(1, doc=None)], retriever) == []
    assert unanswerable([], retriever) == []


def test_the_samples_are_every_example_with_its_gold_passage_and_some_again_without(retriever: Retriever) -> None:
    params = sharing(0.3)
    samples = training_samples(EXAMPLES, BY_DOCUMENT, retriever, params)
    assert samples[:PAGES] == samples_of(EXAMPLES, retriever)
    assert samples[PAGES:] == unanswerable(draw_unanswerable(EXAMPLES, params), retriever)
    assert 0 < len(samples) - PAGES < PAGES
    assert training_samples(EXAMPLES, BY_DOCUMENT, retriever, sharing(0)) == samples_of(EXAMPLES, retriever)


@given(st.sets(st.integers(0, 999), max_size=30), st.integers(0, 999), st.floats(0, 1))
def test_an_added_example_does_not_change_the_draw_of_others(numbers: set[int], added: int, share: float) -> None:
    params = sharing(share)
    before = draw_unanswerable([example(number) for number in sorted(numbers)], params)
    after = draw_unanswerable([example(number) for number in sorted({*numbers, added})], params)
    others = [[item for item in drawn if item != example(added)] for drawn in (before, after)]
    assert others[0] == others[1]


def test_the_draw_has_the_share_and_depends_on_the_seed() -> None:
    many = [example(number) for number in range(2000)]
    drawn = draw_unanswerable(many, sharing(0.2))
    other = Params.model_validate({"examples": {"unanswerable_share": 0.2}, "finetune": {"seed": 8}})
    assert len(drawn) == pytest.approx(400, abs=60)
    assert drawn != draw_unanswerable(many, other)
    assert draw_unanswerable(many, sharing(1)) == many
    assert draw_unanswerable(many, sharing(0)) == []


@pytest.mark.parametrize(
    ("completion", "declined"),
    [
        ("May 2027", "?"),
        ('{"value": "May"}', '{"value": "?"}'),
        ('{"a": {"b": 1, "c": ["x"]}, "d": null}', '{"a": {"b": "?", "c": []}, "d": "?"}'),
        ('{"größe": true}', '{"größe": "?"}'),
        ("{}", "{}"),
        ('["May"]', "?"),
        ("42", "?"),
        ('{"value": "May"', "?"),
        (r'{"\ud800": "May"}', "?"),
    ],
)
def test_a_declined_answer_keeps_the_form_of_a_json_object(completion: str, declined: str) -> None:
    assert decline_answer(completion, "?") == declined


# --- word overlap --------------------------------------------------------------------------------------------------


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


def test_a_sample_lists_the_documents_of_its_passages(retriever: Retriever) -> None:
    by_text = {page.text: page.document for page in CHUNKS}
    for item, sample in zip(EXAMPLES, samples_of(EXAMPLES, retriever), strict=True):
        assert sample.documents == tuple(by_text[text] for text in contexts(sample))
        assert item.doc in sample.documents


def test_a_passage_of_two_documents_counts_for_the_one_that_the_example_names(tmp_path: Path) -> None:
    twins = [chunk(name, "passage 1 holds value-1") for name in ("a.md", "b.md")]
    index = Index(str(tmp_path / "lance"), HashEmbedder(), ChunkParams())
    both = index.retriever(index.refresh(InMemorySource.of(twins), "snapshot", no_progress).version)
    by_document = InMemorySource.of(twins).by_document
    shown = [
        samples_with_passages([example(1, doc=name)], by_document, both, 1, 7)[0].documents for name in ("a.md", "b.md")
    ]
    assert shown == [("a.md",), ("b.md",)]


def test_documents_in_maps_every_document_of_the_samples_to_its_digest(retriever: Retriever) -> None:
    shown_in = samples_of(EXAMPLES[:2], retriever)
    shown = {name for sample in shown_in for name in sample.documents}
    assert documents_in(shown_in, BY_DOCUMENT) == {name: BY_DOCUMENT[name][0].document_digest for name in shown}
    assert len(shown) > 2
