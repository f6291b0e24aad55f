"""Tests of gathered evidence: gold context, gaps of index and model, groups, adapters and scorecards."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from ragtide.pipelines.build import open_index, training_settings
from ragtide.pipelines.corpus import Corpus, KnowledgeBase, TrainingSet
from ragtide.pipelines.data.diff import diff_snapshots
from ragtide.pipelines.evaluation.assistant import Answerer
from ragtide.pipelines.evaluation.evaluator import Evaluator, SystemUnderTest, gold_context
from ragtide.pipelines.evaluation.questions import GoldenSet, split_stale
from ragtide.pipelines.evidence.answer_scores import (
    ALL_MISSING,
    GROUPS,
    NOT_MISSING,
    folder_of,
    kind_of_answer,
    measure_answers,
)
from ragtide.pipelines.evidence.data_change import describe_data_change
from ragtide.pipelines.evidence.live_index import LiveIndexView, Stopwatch
from ragtide.pipelines.evidence.text_signals import measure_text
from ragtide.pipelines.evidence.training_data import measure_training_data
from ragtide.pipelines.index.chunking import chunk_documents
from ragtide.pipelines.index.search import Retriever
from ragtide.pipelines.models.load import Models
from ragtide.pipelines.params import Params
from ragtide.pipelines.ports import Embedder, JudgeRequest, Message, no_progress
from ragtide.pipelines.records.data import ChangeSet, DataIssue, IssueKind, Rename, Snapshot
from ragtide.pipelines.records.evaluation import GoldenQuestion
from ragtide.pipelines.records.evidence import Costs, Evidence, Gap, Limits, Measure
from ragtide.pipelines.records.release import BuiltModel, Release
from ragtide.pipelines.training.examples import Example
from ragtide.pipelines.workspace import Workspace
from tests import fakes
from tests.factories import BASE, delta, document, md5, release, snapshot, with_signals, workspace, write
from tests.fakes import SKILLS, CountingEmbedder, CountingReader, CountingTrainer

NAMES = ("Pump", "Tank", "Valve", "Motor")
OLD, NEW = "2027-01-01", "2031-05-05"
MODELS = Models(CountingEmbedder(), CountingReader(), CountingTrainer())
COSTS = Costs(refresh_seconds=1, retrain_seconds=1, prove_seconds=1, source="prior")
# With a target of 1 the model gap of a perfect reader is exactly 0.
BLOCKS: dict[str, dict[str, Any]] = {"score": {"target": 1.0}, "index": {"top_k": 2}}


@pytest.fixture(autouse=True)
def _reset_counters() -> None:
    fakes.forget()


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    return workspace(tmp_path, **BLOCKS)


def page(name: str, end_of_life: str = OLD) -> str:
    return f"# {name}\n\n## {name} 1\n\n- End of life: {end_of_life}\n\n## {name} 2\n\n- Latest release: 2.7.1\n"


def pages(*moved: str) -> dict[str, str]:
    """One page per product; the pages of `moved` have the new date."""
    return {f"{name}.md": page(name, NEW if name in moved else OLD) for name in NAMES}


def corpus_of(texts: dict[str, str], train: dict[str, str] | None = None, examples: tuple[Example, ...] = ()) -> Corpus:
    documents = [document(name, text) for name, text in texts.items()]
    data = snapshot({document.id: document.digest for document in documents}, train)
    chunks = chunk_documents(documents, Params().chunk)
    knowledge = KnowledgeBase(snapshot=data, documents=tuple(documents), chunks=tuple(chunks))
    return Corpus(knowledge, TrainingSet(examples))


def end_of_life(name: str, answer: str = OLD, **fields: Any) -> GoldenQuestion:
    defaults = {"question": f"When does {name} 1 reach end of life?", "docs": (f"{name}.md",)}
    return GoldenQuestion(id=name, answers=(answer,), **(defaults | fields))


def golden(*moved: str) -> tuple[GoldenQuestion, ...]:
    """A question for the date of every product; the new date is correct for those in `moved`."""
    return tuple(end_of_life(name, NEW if name in moved else OLD) for name in NAMES)


def evaluator_of(space: Workspace, corpus: Corpus, questions: tuple[GoldenQuestion, ...]) -> Evaluator:
    return Evaluator(corpus.knowledge, GoldenSet(questions, ()), Answerer(space, MODELS, no_progress), space.params)


def index_of(space: Workspace, texts: dict[str, str]) -> Retriever:
    index = open_index(space, MODELS.embedder)
    built = index.refresh(corpus_of(texts).knowledge.source, "s", no_progress)
    return index.retriever(built.version)


def trained_model(space: Workspace) -> BuiltModel:
    """A model whose adapter can read passages."""
    write(space.adapters / "a1" / SKILLS, json.dumps({"reads": True, "json": False}))
    return BuiltModel(base="reader-1", adapter="a1", examples="x", settings="s")


@dataclass(frozen=True)
class Situation:
    """The data and the release that evidence is gathered about."""

    corpus: Corpus
    changes: ChangeSet
    live: Release | None
    before: LiveIndexView | None


def situation_of(
    corpus: Corpus, changes: ChangeSet, live: Release | None = None, before: LiveIndexView | None = None
) -> Situation:
    return Situation(corpus, changes, live, before)


def gather_evidence(
    situation: Situation, evaluator: Evaluator, subject: SystemUnderTest, embedder: Embedder, params: Params
) -> Evidence:
    """The evidence about a situation."""
    watch, knowledge = Stopwatch(), situation.corpus.knowledge
    data = describe_data_change(knowledge, situation.live, delta())
    scores = measure_answers(evaluator, subject, situation.before, params.score, watch)
    text = measure_text(knowledge, situation.before, subject.reader, embedder, params, watch)
    with watch("excess_loss"):
        training = measure_training_data(situation.corpus, situation.live, subject, evaluator.answerer, None, params)
    limits = Limits(costs=COSTS)
    return Evidence(data=data, scores=scores, text=text, training=training, limits=limits, signal_seconds=watch.seconds)


def live_view(
    space: Workspace, corpus: Corpus, subject: SystemUnderTest, questions: tuple[GoldenQuestion, ...]
) -> LiveIndexView | None:
    if subject.reader is None:
        return None
    index = open_index(space, MODELS.embedder)
    return LiveIndexView.of(
        index, subject.reader.version, corpus.knowledge.chunks, questions, space.params.evidence.old_chunks
    )


def observe(
    space: Workspace,
    now: dict[str, str],
    subject: SystemUnderTest,
    questions: tuple[GoldenQuestion, ...],
    renamed: tuple[Rename, ...] = (),
) -> Evidence:
    """The evidence about the pages `now` when a release with the index of `subject` is live."""
    corpus = corpus_of(now)
    changes = ChangeSet(before="s0", after=corpus.snapshot.id, edited=tuple(now), renamed=renamed)
    situation = situation_of(corpus, changes, release(), before=live_view(space, corpus, subject, questions))
    return gather_evidence(situation, evaluator_of(space, corpus, questions), subject, MODELS.embedder, space.params)


def changed(**kinds: Any) -> ChangeSet:
    return ChangeSet(before="s0", after="s1", **kinds)


def without_times(evidence: Evidence) -> Evidence:
    return evidence.model_copy(update={"signal_seconds": {}})


# --- the gold passage ------------------------------------------------------------------------------------------------


def gold_passage(question: GoldenQuestion, corpus: Corpus) -> str:
    """The gold context of a single passage."""
    [passage] = gold_context(question, corpus.knowledge, 1)
    return passage


def test_the_gold_passage_holds_the_answer() -> None:
    assert gold_passage(end_of_life("Tank"), corpus_of(pages())) == f"Tank > Tank 1\n- End of life: {OLD}"


def test_a_passage_that_only_repeats_the_question_is_not_the_gold_passage() -> None:
    sounds = "## Ask us\n\nWhen does Tank 1 reach end of life? We do not say it here.\n"
    corpus = corpus_of({"Tank.md": f"# Tank\n\n{sounds}\n## Dates\n\n- Until: {OLD}\n"})
    assert gold_passage(end_of_life("Tank"), corpus).startswith("Tank > Dates")


def test_of_two_passages_with_the_answer_the_more_similar_to_the_question_is_gold() -> None:
    lines = "## Tank 1\n\n- End of life: 2027-01-01\n\n## Tank 2\n\n- End of life: 2027-01-01\n"
    corpus = corpus_of({"Tank.md": f"# Tank\n\n{lines}"})
    question = end_of_life("Tank", question="When does Tank 2 reach end of life?")
    assert gold_passage(question, corpus).startswith("Tank > Tank 2")


def test_the_gold_passage_is_in_a_document_of_the_question() -> None:
    assert gold_passage(end_of_life("Tank", docs=("Valve.md",)), corpus_of(pages())).startswith("Valve > Valve 1")


def test_any_of_several_named_documents_may_hold_the_answer() -> None:
    question = end_of_life("Tank", NEW, docs=("deleted.md", "Pump.md", "Tank.md"))
    assert gold_passage(question, corpus_of(pages("Tank"))) == f"Tank > Tank 1\n- End of life: {NEW}"


def test_without_a_passage_with_the_answer_the_most_similar_one_is_gold() -> None:
    assert gold_passage(end_of_life("Tank", "2099-09-09"), corpus_of(pages())).startswith("Tank > Tank 1")


@pytest.mark.parametrize("passages", range(1, 7))
def test_gold_context_of_any_size_contains_the_gold_passage(passages: int) -> None:
    """The question is about Tank 4, but only the passage on Tank 2 holds the answer."""
    lines = "\n\n".join(f"## Tank {at}\n\n- End of life: 2027-01-0{at}" for at in range(1, 6))
    corpus = corpus_of({"Tank.md": f"# Tank\n\n{lines}\n"})
    question = end_of_life("Tank", "2027-01-02", question="When does Tank 4 reach end of life?")
    context = gold_context(question, corpus.knowledge, passages)
    assert len(context) == len(set(context)) == min(passages, 5)
    assert any("2027-01-02" in passage for passage in context)
    assert context[0].startswith("Tank > Tank 4" if passages > 1 else "Tank > Tank 2")


def test_a_missing_one_of_several_gold_passages_is_the_error_of_the_index(tmp_path: Path) -> None:
    space = workspace(tmp_path, **(BLOCKS | {"index": {"top_k": 1}}))
    desks = "\n\n".join(f"## Desk {name}\n\n{name} sits here." for name in ("Ada", "Bob", "Eve"))
    texts = pages() | {"Staff.md": f"# Staff\n\n{desks}\n"}
    both = GoldenQuestion(id="both", question="Who sits at desk Ada?", answers=("Ada, Eve",), docs=("Staff.md",))
    one = both.model_copy(update={"id": "one", "answers": ("Ada",)})
    evaluator = evaluator_of(space, corpus_of(texts), (both, one))
    subject = SystemUnderTest(index_of(space, texts), trained_model(space))
    assert [answer.gold_retrieved for answer in evaluator.with_retrieval(subject)] == [False, True]
    context = gold_context(both, corpus_of(texts).knowledge, 1)
    assert context == ["Staff > Desk Ada\nAda sits here.", "Staff > Desk Eve\nEve sits here."]


def test_questions_answered_correctly_with_retrieval_are_not_asked_with_gold_context(space: Workspace) -> None:
    evaluator = evaluator_of(space, corpus_of(pages("Tank")), golden("Tank"))
    subject = SystemUnderTest(index_of(space, pages()), trained_model(space))
    retrieved = evaluator.with_retrieval(subject)
    prompts = len(CountingReader.prompts)
    assert evaluator.gold_scores(subject, retrieved) == [1.0] * len(NAMES)
    assert [answer.question for answer in retrieved if answer.score < 1] == ["Tank"]
    assert len(CountingReader.prompts) == prompts + 1


@pytest.mark.parametrize(("limit", "expected"), [(0, 4), (1, 1), (2, 2), (9, 4)])
def test_a_limited_sample_of_wrong_answers_is_asked_with_gold_context(
    tmp_path: Path, limit: int, expected: int
) -> None:
    space = workspace(tmp_path, **BLOCKS, evidence={"questions": limit})
    evaluator = evaluator_of(space, corpus_of(pages(*NAMES)), golden(*NAMES))
    subject = SystemUnderTest(index_of(space, pages()), trained_model(space))
    retrieved = evaluator.with_retrieval(subject)
    before = len(CountingReader.prompts)
    assert [answer.score for answer in retrieved] == [0.0] * 4
    assert evaluator.gold_scores(subject, retrieved) == [1.0] * 4
    assert len(CountingReader.prompts) == before + expected


@pytest.mark.parametrize("docs", [(), ("deleted.md",)])
def test_a_question_without_documents_has_no_gold_passage(docs: tuple[str, ...]) -> None:
    assert gold_context(end_of_life("Tank", docs=docs), corpus_of(pages()).knowledge, 3) == []


def test_a_question_without_documents_uses_retrieval_and_has_no_recall(space: Workspace) -> None:
    evaluator = evaluator_of(space, corpus_of(pages()), (end_of_life("Tank", docs=()),))
    subject = SystemUnderTest(index_of(space, pages()), trained_model(space))
    [gold] = evaluator.with_gold(subject)
    card = evaluator.scorecard(subject)
    assert (gold.score, card.graded[0].score) == (1.0, 1.0)
    assert len(CountingReader.prompts) == 1
    assert (gold.gold_retrieved, card.graded[0].gold_retrieved) == (None, None)
    assert card.retrieval_recall.value is None


def test_without_an_index_a_question_without_documents_has_no_context(space: Workspace) -> None:
    question = end_of_life("Tank", docs=())
    [gold] = evaluator_of(space, corpus_of(pages()), (question,)).with_gold(SystemUnderTest(None, trained_model(space)))
    assert CountingReader.prompts == [question.question]
    assert (gold.score, gold.sources) == (0.0, ())


def test_a_wrong_answer_without_documents_counts_to_the_model_gap(space: Workspace) -> None:
    # The index has the old date, but without documents nothing shows that it is outdated.
    questions = (end_of_life("Tank", NEW, docs=()),)
    evidence = observe(space, pages("Tank"), SystemUnderTest(index_of(space, pages()), trained_model(space)), questions)
    assert (
        evidence.scores.score_retrieved.value,
        evidence.scores.index_gap.value,
        evidence.scores.model_gap.value,
    ) == (
        0.0,
        0.0,
        1.0,
    )
    assert evidence.scores.refresh_gain == Measure.unmeasured(NOT_MISSING)
    assert evidence.scores.embedder_gap.value == 0.0


# --- index and model------------------------------------------------------------------------------------------------


def test_a_stale_index_shows_only_in_the_index_gap(space: Workspace) -> None:
    subject = SystemUnderTest(index_of(space, pages()), trained_model(space))
    evidence = observe(space, pages("Pump", "Tank"), subject, golden("Pump", "Tank"))
    assert (evidence.scores.score_gold.value, evidence.scores.score_retrieved.value) == (1.0, 0.5)
    assert (evidence.scores.index_gap.value, evidence.scores.model_gap.value) == (0.5, 0.0)
    assert evidence.scores.index_gap.n == len(NAMES)
    assert evidence.scores.refresh_gain.value == 0.5


def test_a_model_that_cannot_read_shows_only_in_the_model_gap(space: Workspace) -> None:
    subject = SystemUnderTest(index_of(space, pages()), BASE)
    evidence = observe(space, pages(), subject, golden())
    assert (evidence.scores.model_gap.value or 0) > 0
    assert evidence.scores.score_gold.value == evidence.scores.score_retrieved.value
    assert evidence.scores.index_gap.value == 0.0
    assert evidence.scores.refresh_gain == Measure.unmeasured(NOT_MISSING)
    assert evidence.scores.embedder_gap.value == 0.0


def test_an_outdated_index_and_model_show_in_both_gaps(space: Workspace) -> None:
    # The reader without an adapter answers questions whose length is a multiple of three.
    known = tuple(question for question in golden(*NAMES) if len(question.question) % 3 == 0)
    unknown = tuple(question for question in golden(*NAMES) if len(question.question) % 3)
    assert known
    assert unknown
    evidence = observe(space, pages(*NAMES), SystemUnderTest(index_of(space, pages()), BASE), known + unknown)
    share = len(known) / len(NAMES)
    assert (evidence.scores.index_gap.value, evidence.scores.model_gap.value) == (share, 1 - share)


def test_a_current_index_and_model_have_no_gap(space: Workspace) -> None:
    evidence = observe(
        space, pages("Pump"), SystemUnderTest(index_of(space, pages("Pump")), trained_model(space)), golden("Pump")
    )
    assert (evidence.scores.index_gap.value, evidence.scores.model_gap.value, evidence.scores.embedder_gap.value) == (
        0.0,
        0.0,
        0.0,
    )
    assert evidence.scores.refresh_gain == Measure.unmeasured(NOT_MISSING)


def test_before_the_first_index_the_whole_gain_of_gold_context_is_the_index_gap(
    space: Workspace,
) -> None:
    corpus = corpus_of(pages())
    before_release = situation_of(corpus, diff_snapshots(None, corpus.snapshot), live=None)
    subject = SystemUnderTest(None, trained_model(space))
    evidence = gather_evidence(
        before_release, evaluator_of(space, corpus, golden()), subject, MODELS.embedder, space.params
    )
    assert evidence.data.live_release is None
    assert (evidence.scores.score_gold.value, evidence.scores.score_retrieved.value) == (1.0, 0.0)
    assert evidence.scores.index_gap.value == evidence.scores.refresh_gain.value == 1.0
    assert evidence.scores.embedder_gap == Measure.unmeasured(ALL_MISSING)


def test_the_interval_of_the_model_gap_mirrors_that_of_the_score(space: Workspace) -> None:
    evidence = observe(space, pages(), SystemUnderTest(index_of(space, pages()), BASE), golden())
    gold, gap = evidence.scores.score_gold, evidence.scores.model_gap
    assert gold.low is not None
    assert gold.high is not None
    assert gold.low < gold.high
    assert (gap.low, gap.high) == (round(1 - gold.high, 6), round(1 - gold.low, 6))


def test_an_answer_in_another_format_is_malformed_and_wrong(space: Workspace) -> None:
    with_format = tuple(question.model_copy(update={"format": r'\{"value": .*\}'}) for question in golden())
    evidence = observe(space, pages(), SystemUnderTest(index_of(space, pages()), trained_model(space)), with_format)
    assert (
        evidence.scores.malformed_share.value,
        evidence.scores.model_gap.value,
        evidence.scores.index_gap.value,
    ) == (
        1.0,
        1.0,
        0.0,
    )


# --- refresh gain and embedder gap -----------------------------------------------------------------------------------

# Two pages per product with the words of the question but no answer, so that they fill the top_k of 2.
HIDDEN = {f"ask/{name} {copy}.md": f"# {name}\n\n{name} 1 end of life\n" for name in ("Pump", "Tank") for copy in "ab"}


@pytest.mark.parametrize(
    ("moved", "refresh", "retriever"),
    [
        ((), None, 0.5),
        (("Pump",), 0.25, 0.25),
        (("Valve",), 0.25, 0.5),
        (("Pump", "Valve"), 0.5, 0.25),
        (("Pump", "Tank", "Valve"), 0.75, 0.0),
        (NAMES, 1.0, None),
    ],
)
def test_answers_missing_from_the_index_are_the_refresh_gain_and_unretrieved_ones_the_embedder_gap(
    moved: tuple[str, ...], refresh: float | None, retriever: float | None, space: Workspace
) -> None:
    subject = SystemUnderTest(index_of(space, pages() | HIDDEN), trained_model(space))
    evidence = observe(space, pages(*moved) | HIDDEN, subject, golden(*moved))
    assert evidence.scores.score_gold.value == 1.0
    assert (evidence.scores.refresh_gain.value, evidence.scores.embedder_gap.value) == (refresh, retriever)
    assert evidence.scores.index_gap.value == (refresh or 0) + (retriever or 0)
    assert {gap.n for gap in (evidence.scores.refresh_gain, evidence.scores.embedder_gap) if gap.value is not None} == {
        len(NAMES)
    }


def test_a_wrong_answer_with_the_gold_passage_retrieved_is_a_model_gap_and_not_asked_again(
    space: Workspace,
) -> None:
    """A page with the same heading and another date is ranked before the gold passage and misleads the model."""
    misleading = {"a/Pump.md": "# Pump\n\n## Pump 1\n\n- End of life: 2001-01-01\n"}
    evidence = observe(
        space,
        pages() | misleading,
        SystemUnderTest(index_of(space, pages() | misleading), trained_model(space)),
        golden(),
    )
    assert (evidence.scores.score_gold.value, evidence.scores.model_gap.value) == (0.75, 0.25)
    assert (evidence.scores.index_gap.value, evidence.scores.embedder_gap.value) == (0.0, 0.0)
    assert len(CountingReader.prompts) == len(NAMES)


def test_an_unmeasured_part_of_the_index_gap_has_a_reason(space: Workspace) -> None:
    subject = SystemUnderTest(index_of(space, pages()), trained_model(space))
    fresh, stale = observe(space, pages(), subject, golden()), observe(space, pages(*NAMES), subject, golden(*NAMES))
    assert (fresh.scores.refresh_gain, stale.scores.embedder_gap) == (
        Measure.unmeasured(NOT_MISSING),
        Measure.unmeasured(ALL_MISSING),
    )


def test_an_added_document_counts_to_the_refresh_gain(space: Workspace) -> None:
    live = {name: text for name, text in pages().items() if name != "Pump.md"}
    evidence = observe(space, pages(), SystemUnderTest(index_of(space, live), trained_model(space)), golden())
    assert (evidence.scores.refresh_gain.value, evidence.scores.embedder_gap.value) == (0.25, 0.0)


def test_a_cosmetic_edit_has_no_changed_sentences_and_no_gain(space: Workspace) -> None:
    now = {name: text.replace("- Latest release:", "* LATEST release:") for name, text in pages().items()}
    evidence = observe(space, now, SystemUnderTest(index_of(space, pages()), trained_model(space)), golden())
    assert (evidence.text.changed_sentence_share.value, evidence.scores.index_gap.value) == (0.0, 0.0)
    assert evidence.scores.refresh_gain == Measure.unmeasured(NOT_MISSING)
    assert evidence.text.stale_facts == Measure.unmeasured("no fact was edited")


def test_a_renamed_document_is_found_under_its_old_name(space: Workspace) -> None:
    now = {f"moved/{name}": text for name, text in pages().items()}
    questions = tuple(end_of_life(name, docs=(f"moved/{name}.md",)) for name in NAMES)
    renamed = tuple(Rename(before=name, after=f"moved/{name}") for name in pages())
    evidence = observe(space, now, SystemUnderTest(index_of(space, pages()), trained_model(space)), questions, renamed)
    assert (
        evidence.text.changed_sentence_share.value,
        evidence.scores.index_gap.value,
        evidence.scores.embedder_gap.value,
    ) == (
        0.0,
        0.0,
        0.0,
    )
    assert evidence.scores.refresh_gain == Measure.unmeasured(NOT_MISSING)


def test_a_page_with_the_same_answer_does_not_stand_for_an_added_document(space: Workspace) -> None:
    now = pages() | {"Other.md": page("Other")}
    evidence = observe(
        space, now, SystemUnderTest(index_of(space, pages()), trained_model(space)), (end_of_life("Other"),)
    )
    assert (evidence.scores.refresh_gain.value, evidence.scores.index_gap.value) == (1.0, 1.0)


# --- groups of questions ---------------------------------------------------------------------------------------------


def weighted_gaps(gaps: tuple[Gap, ...]) -> tuple[float, float, int]:
    """Index gap and model gap over all groups, weighted by their questions, and the number of questions."""
    total = sum(gap.index_gap.n for gap in gaps)
    index = sum((gap.index_gap.value or 0) * gap.index_gap.n for gap in gaps)
    model = sum((gap.model_gap.value or 0) * gap.model_gap.n for gap in gaps)
    return round(index / total, 6), round(model / total, 6), total


def test_groups_and_kinds_add_up_to_the_total_gaps(space: Workspace) -> None:
    docs = ("wet/Pump.md", "wet/Tank.md", "dry/Valve.md", "dry/Motor.md")
    now, live = (dict(zip(docs, texts.values(), strict=True)) for texts in (pages("Pump", "Valve"), pages()))
    dates = [
        question.model_copy(update={"docs": (doc,)})
        for question, doc in zip(golden("Pump", "Valve"), docs, strict=True)
    ]
    with_format = end_of_life("formed", NEW, docs=("wet/Tank.md",), format="a word")
    without_document = end_of_life("unbound", "someone", docs=())
    questions = (*dates, with_format, without_document)
    evidence = observe(space, now, SystemUnderTest(index_of(space, live), trained_model(space)), questions)
    assert weighted_gaps(evidence.scores.groups) == (
        evidence.scores.index_gap.value,
        evidence.scores.model_gap.value,
        len(questions),
    )
    assert weighted_gaps(evidence.scores.kinds) == (
        evidence.scores.index_gap.value,
        evidence.scores.model_gap.value,
        len(questions),
    )
    groups = {gap.name: (gap.index_gap.value, gap.model_gap.value) for gap in evidence.scores.groups}
    assert groups == {"wet/": (0.333333, 0.333333), "dry/": (0.5, 0.0), "no document": (0.0, 1.0)}
    kinds = {gap.name: (gap.index_gap.value, gap.model_gap.value) for gap in evidence.scores.kinds}
    assert kinds == {"date": (0.5, 0.0), "demanded format": (0.0, 1.0), "a few words": (0.0, 1.0)}
    assert [group.name for group in evidence.scores.groups] == ["wet/", "dry/", "no document"]


def test_only_the_largest_groups_are_listed(space: Workspace) -> None:
    folders = [f"{number:02}" for number in range(GROUPS + 3)]
    docs = [f"{folder}/a.md" for folder in folders] + [f"{folders[-1]}/b.md"]
    questions = tuple(end_of_life(f"q{at}", docs=(doc,)) for at, doc in enumerate(docs))
    evidence = observe(space, pages(), SystemUnderTest(None, BASE), questions)
    assert [group.name for group in evidence.scores.groups] == [
        f"{name}/" for name in (folders[-1], *folders[: GROUPS - 1])
    ]
    assert evidence.scores.groups[0].index_gap.n == 2


@pytest.mark.parametrize(
    ("docs", "name"),
    [
        ((), "no document"),
        (("a.md",), "top folder"),
        (("guide/a.md",), "guide/"),
        (("guide/deep/a.md", "other/b.md"), "guide/"),
    ],
)
def test_a_question_belongs_to_the_first_folder_of_its_first_document(docs: tuple[str, ...], name: str) -> None:
    assert folder_of(end_of_life("Tank", docs=docs)) == name


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("2027-01-01", "date"),
        ("2027-01", "date"),
        ("1.5.2027", "date"),
        ("5/1/27", "date"),
        ("2.7.1", "number or version"),
        ("42 bar", "number or version"),
        ("version 4 or later", "a few words"),
        ("the red valve", "a few words"),
        ("close the red valve first", "text"),
    ],
)
def test_the_kind_of_an_answer_follows_from_its_form(answer: str, kind: str) -> None:
    assert kind_of_answer(end_of_life("Tank", answer)) == kind
    assert kind_of_answer(end_of_life("Tank", answer, format=".*")) == "demanded format"
    assert kind_of_answer(end_of_life("Tank", answer, scorer="json_f1")) == "demanded format"
    assert kind_of_answer(end_of_life("Tank", answer, scorer="token_f1")) == kind


# --- scorers ---------------------------------------------------------------------------------------------------------


class HalfRightJudge:
    """A judge that scores every answer 0.5 and records its requests."""

    identity = "lenient"

    def __init__(self) -> None:
        self.requests: list[JudgeRequest] = []

    def judge(self, request: JudgeRequest) -> float:
        self.requests.append(request)
        return 0.5


def test_only_questions_with_the_judge_scorer_are_judged(space: Workspace) -> None:
    judge = HalfRightJudge()
    questions = (
        end_of_life("Pump", scorer="judge"),
        end_of_life("Tank"),
        end_of_life("Valve", scorer="judge", format="x"),
    )
    evaluator = Evaluator(
        corpus_of(pages()).knowledge,
        GoldenSet(questions, ()),
        Answerer(space, MODELS, no_progress, judge),
        space.params,
    )
    graded = evaluator.with_gold(SystemUnderTest(None, trained_model(space)))
    assert [answer.score for answer in graded] == [0.5, 1.0, 0.0]
    assert judge.requests == [JudgeRequest(questions[0].question, graded[0].answer, (OLD,))]


def test_a_partly_correct_answer_counts_partly(space: Workspace) -> None:
    questions = tuple(end_of_life(name, f"{OLD} for sure", scorer="token_f1") for name in NAMES)
    subject = SystemUnderTest(index_of(space, pages()), trained_model(space))
    evidence = observe(space, pages(), subject, questions)
    assert evidence.scores.score_gold.value == evidence.scores.score_retrieved.value == 0.5
    assert evidence.scores.stale_questions == ()
    assert evidence.scores.model_gap.value == 0.5


def test_a_passage_with_the_values_of_a_json_answer_is_the_gold_passage(space: Workspace) -> None:
    question = end_of_life("Pump", f'{{"end": "{OLD}"}}', scorer="json_f1")
    assert OLD in gold_passage(question, corpus_of(pages()))


def test_filtered_lines_are_counted_by_kind_of_issue(space: Workspace) -> None:
    kinds = (IssueKind.LEAK, IssueKind.STALE, IssueKind.LEAK)
    issues = tuple(DataIssue(where=f"a.jsonl:{at}", kind=kind, why="") for at, kind in enumerate(kinds))
    corpus = replace(corpus_of(pages()), training=TrainingSet((), filtered=issues))
    situation = situation_of(corpus, ChangeSet(before=None, after="s"))
    evidence = gather_evidence(
        situation, evaluator_of(space, corpus, golden()), SystemUnderTest(None, BASE), MODELS.embedder, space.params
    )
    assert evidence.training.filtered == {"leak": 2, "stale answer": 1}


# --- unmeasured scores -----------------------------------------------------------------------------------------------


def test_without_questions_every_score_is_unmeasured_and_not_0(space: Workspace) -> None:
    evidence = observe(space, pages(), SystemUnderTest(index_of(space, pages()), trained_model(space)), ())
    scores = (
        evidence.scores.score_gold,
        evidence.scores.score_retrieved,
        evidence.scores.index_gap,
        evidence.scores.model_gap,
        evidence.scores.malformed_share,
    )
    parts = (evidence.scores.refresh_gain, evidence.scores.embedder_gap)
    assert {(score.value, score.low, score.high, score.n) for score in (*scores, *parts)} == {(None, None, None, 0)}
    assert all(score.why for score in (*scores, *parts))
    assert (evidence.scores.groups, evidence.scores.kinds) == ((), ())


def test_a_stale_question_counts_in_no_score(space: Workspace) -> None:
    deleted = end_of_life("deleted", docs=("deleted.md",))
    other = end_of_life("other", "2099-09-09", docs=("Valve.md",))
    corpus, subject = corpus_of(pages("Pump")), SystemUnderTest(index_of(space, pages()), trained_model(space))
    situation = situation_of(corpus, changed(), release(), before=live_view(space, corpus, subject, golden("Pump")))
    gathered = []
    for questions in (golden("Pump"), (deleted, *golden("Pump"), other)):
        evaluator = Evaluator(
            corpus.knowledge,
            split_stale(questions, corpus.knowledge.texts),
            Answerer(space, MODELS, no_progress),
            space.params,
        )
        gathered.append(without_times(gather_evidence(situation, evaluator, subject, MODELS.embedder, space.params)))
    assert [evidence.scores.stale_questions for evidence in gathered] == [(), ("deleted", "other")]
    assert gathered[0].scores.index_gap.n == len(NAMES)
    assert gathered[0] == with_signals(gathered[1], stale_questions=())


# --- the adapter -----------------------------------------------------------------------------------------------------

EXAMPLES = tuple(Example((Message("user", f"Question {at}?"),), f"Answer {at}", None) for at in range(3))
SEEN = tuple(example.digest for example in EXAMPLES)
TRAIN_SNAPSHOT = snapshot(train={"t.jsonl": md5("t")})


def trained_on(data: Snapshot, params: Params, base: str = "reader-1", seen: tuple[str, ...] = ()) -> BuiltModel:
    settings = training_settings(params, base)
    return BuiltModel(base=base, adapter="a1", examples=data.train_id, settings=settings, trained_on=seen)


def other(**blocks: dict[str, Any]) -> Params:
    return Params.model_validate(BLOCKS | blocks)


CUT_SHORT = {"cut_short": True, "trained_examples": 1}
ELSEWHERE = snapshot(train={"renamed.jsonl": md5("t")})


@pytest.mark.parametrize(
    ("model", "current"),
    [
        (trained_on(TRAIN_SNAPSHOT, other(), seen=SEEN), True),
        (
            trained_on(TRAIN_SNAPSHOT, other(policy={"points_per_hour": 1}, gate={"max_score_loss": 0.5}), seen=SEEN),
            True,
        ),
        (trained_on(TRAIN_SNAPSHOT, other(finetune={"rank": 4}), seen=SEEN), False),
        (trained_on(TRAIN_SNAPSHOT, other(finetune={"seed": 8}), seen=SEEN), False),
        (trained_on(TRAIN_SNAPSHOT, other(index={"top_k": 5}), seen=SEEN), False),
        # The digests of the examples count, in any file and any order.
        (trained_on(ELSEWHERE, other(), seen=SEEN[::-1]), True),
        (trained_on(ELSEWHERE, other(), seen=SEEN[:2]), False),
        (trained_on(ELSEWHERE, other(), seen=(*SEEN, "another")), False),
        (trained_on(TRAIN_SNAPSHOT, other(examples={"replay_share": 0.3}), seen=SEEN), False),
        # Replayed examples come from deleted files, and may be in the current ones again.
        (trained_on(TRAIN_SNAPSHOT, other(), seen=(*SEEN, "old")).model_copy(update={"replayed": ("old",)}), True),
        (trained_on(TRAIN_SNAPSHOT, other(), seen=SEEN).model_copy(update={"replayed": SEEN[:1]}), True),
        (trained_on(TRAIN_SNAPSHOT, other(), seen=SEEN[1:]).model_copy(update={"replayed": SEEN[:1]}), False),
        (BASE, False),
    ],
)
def test_an_adapter_is_current_only_with_the_same_examples_and_settings(
    model: BuiltModel, current: bool, space: Workspace
) -> None:
    corpus = corpus_of(pages(), {"t.jsonl": md5("t")}, EXAMPLES)
    write(space.adapters / "a1" / SKILLS, json.dumps({"reads": True}))
    evaluator = evaluator_of(space, corpus, golden())
    situation = situation_of(corpus, changed(), release())
    evidence = gather_evidence(situation, evaluator, SystemUnderTest(None, model), MODELS.embedder, space.params)
    assert evidence.training.adapter_is_current is current
    assert evidence.training.examples == len(EXAMPLES)


@pytest.mark.parametrize(
    ("model", "after", "new"),
    [
        (trained_on(TRAIN_SNAPSHOT, other(), seen=SEEN), None, 0),
        (trained_on(TRAIN_SNAPSHOT, other(), seen=SEEN).model_copy(update=CUT_SHORT), 1, 2),
        # Another limit, and more examples, make another adapter.
        (
            trained_on(TRAIN_SNAPSHOT, other(finetune={"max_minutes": 1}), seen=SEEN).model_copy(update=CUT_SHORT),
            None,
            3,
        ),
        (trained_on(TRAIN_SNAPSHOT, other(), seen=SEEN[:2]).model_copy(update=CUT_SHORT), None, 2),
    ],
    ids=["complete", "same limit", "no limit now", "more examples"],
)
def test_an_adapter_whose_training_was_cut_short_is_not_current(
    model: BuiltModel, after: int | None, new: int, space: Workspace
) -> None:
    corpus = corpus_of(pages(), {"t.jsonl": md5("t")}, EXAMPLES)
    write(space.adapters / "a1" / SKILLS, json.dumps({"reads": True}))
    situation, evaluator = situation_of(corpus, changed(), release()), evaluator_of(space, corpus, golden())
    gathered = gather_evidence(situation, evaluator, SystemUnderTest(None, model), MODELS.embedder, space.params)
    training = gathered.training
    assert (training.cut_short_after, training.new_examples, len(EXAMPLES)) == (after, new, 3)
    assert training.adapter_is_current is not model.cut_short


def test_an_adapter_of_another_base_model_is_not_current(space: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = corpus_of(pages(), {"t.jsonl": md5("t")}, EXAMPLES)
    write(space.adapters / "a1" / SKILLS, json.dumps({"reads": True}))
    situation, subject = (
        situation_of(corpus, changed(), release()),
        SystemUnderTest(None, trained_on(TRAIN_SNAPSHOT, other(), seen=SEEN)),
    )
    gathered = [
        gather_evidence(situation, evaluator_of(space, corpus, golden()), subject, MODELS.embedder, space.params)
    ]
    monkeypatch.setattr(Answerer, "base", "reader-2")
    gathered += [
        gather_evidence(situation, evaluator_of(space, corpus, golden()), subject, MODELS.embedder, space.params)
    ]
    assert [evidence.training.adapter_is_current for evidence in gathered] == [True, False]


@pytest.mark.parametrize(
    ("live", "today", "new_base_model"),
    [
        ("packaged:one@aaa", "packaged:one@aaa", None),
        # The same weights in another folder.
        ("/here/one@aaa", "/there/one@aaa", None),
        ("packaged:one@aaa", "packaged:two@bbb", "packaged:two"),
        # The weights under the same name have changed.
        ("packaged:one@aaa", "packaged:one@bbb", "packaged:one"),
        ("reader-1", "reader-2", "reader-2"),
        (None, "packaged:one@aaa", None),
    ],
)
def test_a_base_model_other_than_that_of_the_live_release_is_named(
    live: str | None, today: str, new_base_model: str | None, space: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = release(model=BASE.model_copy(update={"base": live})) if live else None
    situation, evaluator = (
        situation_of(corpus_of(pages()), changed(), made),
        evaluator_of(space, corpus_of(pages()), golden()),
    )
    monkeypatch.setattr(Answerer, "base", today)
    evidence = gather_evidence(situation, evaluator, SystemUnderTest(None, BASE), MODELS.embedder, space.params)
    assert evidence.training.new_base_model == new_base_model


def test_a_model_without_an_adapter_is_not_current_even_without_examples(space: Workspace) -> None:
    corpus = corpus_of(pages())
    situation = situation_of(corpus, changed(), release())
    bare = BASE.model_copy(update={"settings": training_settings(space.params, BASE.base)})
    evidence = gather_evidence(
        situation, evaluator_of(space, corpus, golden()), SystemUnderTest(None, bare), MODELS.embedder, space.params
    )
    assert not evidence.training.adapter_is_current


# --- evidence as a whole ---------------------------------------------------------------------------------------------


def test_the_data_change_compares_the_live_release_and_the_corpus(space: Workspace) -> None:
    corpus = corpus_of(pages())
    live = release(7, snapshot=snapshot({"Pump.md": md5("old"), "Old.md": md5("deleted")}))
    evaluator = Evaluator(
        corpus.knowledge, GoldenSet(golden(), ("q8", "q9")), Answerer(space, MODELS, no_progress), space.params
    )
    situation = situation_of(corpus, changed(), live)
    evidence = gather_evidence(situation, evaluator, SystemUnderTest(None, BASE), MODELS.embedder, space.params)
    assert (evidence.data.snapshot, evidence.data.live_release) == (corpus.snapshot.id, "7")
    assert evidence.data.changes == diff_snapshots(live.snapshot, corpus.snapshot)
    assert (evidence.data.changes.edited, evidence.data.changes.removed) == (("Pump.md",), ("Old.md",))
    assert evidence.scores.stale_questions == ("q8", "q9")


TIMED = {
    "score_gold",
    "score_retrieved",
    "changed_sentence_share",
    "stale_facts",
    "resurfaced_deletions",
    "novelty",
    "vocabulary",
    "captured_questions",
    "excess_loss",
}


def test_every_signal_that_takes_time_is_timed(space: Workspace) -> None:
    subject = SystemUnderTest(index_of(space, pages()), trained_model(space))
    evidence = observe(space, pages("Pump"), subject, golden("Pump"))
    assert set(evidence.signal_seconds) == TIMED
    assert min(evidence.signal_seconds.values()) >= 0


def test_text_signals_and_excess_loss_are_measured_together(space: Workspace) -> None:
    space = Workspace(space.root, other(chunk={"max_words": 20}))
    model = trained_on(TRAIN_SNAPSHOT, space.params, seen=SEEN[:1])
    write(space.adapters / "a1" / SKILLS, json.dumps({"reads": True, "json": False}))
    strange = Example((Message("user", "Say it in JSON."),), '{"value": "x"}', None)
    now = corpus_of(pages("Pump"), examples=(*EXAMPLES[:1], strange))
    subject = SystemUnderTest(index_of(space, {**pages(), "Old.md": page("Old")}), model)
    before = live_view(space, now, subject, ())
    situation = situation_of(now, changed(edited=("Pump.md",), removed=("Old.md",)), release(), before=before)
    evidence = gather_evidence(
        situation, evaluator_of(space, now, golden("Pump")), subject, MODELS.embedder, space.params
    )
    assert (evidence.text.stale_facts.value, evidence.text.resurfaced_deletions.value) == (1.0, 1.0)
    # One of eight facts: four pages with two each.
    assert (evidence.text.changed_sentence_share.value, evidence.text.changed_sentence_share.n) == (0.125, 8)
    assert evidence.training.new_examples == 1
    assert evidence.training.excess_loss.value == pytest.approx(1.9, abs=0.05)
    assert (evidence.text.vocabulary.value, evidence.text.vocabulary.n) == (0.0, 1)


def test_before_the_first_release_text_signals_are_unmeasured_with_a_reason(space: Workspace) -> None:
    corpus = corpus_of(pages(), examples=EXAMPLES)
    before_release = situation_of(corpus, diff_snapshots(None, corpus.snapshot), live=None)
    evidence = gather_evidence(
        before_release,
        evaluator_of(space, corpus, golden()),
        SystemUnderTest(None, BASE),
        MODELS.embedder,
        space.params,
    )
    signals = ("changed_sentence_share", "stale_facts", "resurfaced_deletions", "novelty", "shift", "vocabulary")
    first = Measure.unmeasured("there is no live release to compare with")
    assert {name: getattr(evidence.text, name) for name in signals} == dict.fromkeys(signals, first)
    assert evidence.training.excess_loss == Measure.unmeasured("there is no adapter yet")
    assert evidence.training.new_examples == len(EXAMPLES)


def test_a_scorecard_records_scores_and_what_they_were_measured_on(space: Workspace) -> None:
    corpus = corpus_of(pages("Pump"))
    reader, model = index_of(space, pages()), trained_model(space)
    card = evaluator_of(space, corpus, golden("Pump")).scorecard(SystemUnderTest(reader, model))
    assert (card.snapshot, card.index_version, card.adapter) == (corpus.snapshot.id, reader.version, "a1")
    assert (card.answer_score.value, card.retrieval_recall.value, card.malformed_share.value) == (0.75, 0.75, 0.0)
    assert {answer.question: answer.gold_retrieved for answer in card.graded} == {
        "Pump": False,
        "Tank": True,
        "Valve": True,
        "Motor": True,
    }
    assert card.graded[0].sources[0] == "Pump.md"


def test_without_an_index_the_scorecard_has_no_index_version_and_no_sources(space: Workspace) -> None:
    card = evaluator_of(space, corpus_of(pages()), golden()).scorecard(SystemUnderTest(None, BASE))
    assert (card.index_version, card.adapter) == (None, None)
    assert {answer.sources for answer in card.graded} == {()}


def test_the_scorecard_has_the_digest_of_the_questions(space: Workspace) -> None:
    corpus, subject = corpus_of(pages()), SystemUnderTest(None, BASE)
    cards = [
        evaluator_of(space, corpus, questions).scorecard(subject) for questions in (golden(), golden(), golden("Pump"))
    ]
    assert cards[0].questions == cards[1].questions
    assert cards[0].questions != cards[2].questions


def test_evidence_gathered_twice_is_equal_and_uses_cached_answers(space: Workspace) -> None:
    subject = SystemUnderTest(index_of(space, pages()), trained_model(space))
    gathered = [observe(space, pages("Pump"), subject, golden("Pump")) for _ in range(2)]
    assert without_times(gathered[0]).content_digest() == without_times(gathered[1]).content_digest()
    assert len(CountingReader.prompts) == len(set(CountingReader.prompts))
