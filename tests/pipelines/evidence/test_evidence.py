"""Is it told which half is out of date? Small cases by hand: a stale index, a model that cannot read, and neither."""

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
# A target of 1 makes the model's gap of a reader without fault exactly nothing.
BLOCKS: dict[str, dict[str, Any]] = {"score": {"target": 1.0}, "index": {"top_k": 2}}


@pytest.fixture(autouse=True)
def _nothing_counted() -> None:
    fakes.forget()


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    return workspace(tmp_path, **BLOCKS)


def page(name: str, end_of_life: str = OLD) -> str:
    return f"# {name}\n\n## {name} 1\n\n- End of life: {end_of_life}\n\n## {name} 2\n\n- Latest release: 2.7.1\n"


def pages(*moved: str) -> dict[str, str]:
    """A page a product; those of `moved` hold another date."""
    return {f"{name}.md": page(name, NEW if name in moved else OLD) for name in NAMES}


def corpus_of(texts: dict[str, str], train: dict[str, str] | None = None, examples: tuple[Example, ...] = ()) -> Corpus:
    documents = [document(name, text) for name, text in texts.items()]
    data = snapshot({one.id: one.digest for one in documents}, train)
    chunks = chunk_documents(documents, Params().chunk)
    knowledge = KnowledgeBase(snapshot=data, documents=tuple(documents), chunks=tuple(chunks))
    return Corpus(knowledge, TrainingSet(examples))


def end_of_life(name: str, answer: str = OLD, **fields: Any) -> GoldenQuestion:
    usual = {"question": f"When does {name} 1 reach end of life?", "docs": (f"{name}.md",)}
    return GoldenQuestion(id=name, answers=(answer,), **(usual | fields))


def golden(*moved: str) -> tuple[GoldenQuestion, ...]:
    """The date of every product; of those in `moved` the new one is right."""
    return tuple(end_of_life(name, NEW if name in moved else OLD) for name in NAMES)


def examiner(space: Workspace, corpus: Corpus, questions: tuple[GoldenQuestion, ...]) -> Evaluator:
    return Evaluator(corpus.knowledge, GoldenSet(questions, ()), Answerer(space, MODELS, no_progress), space.params)


def index_of(space: Workspace, texts: dict[str, str]) -> Retriever:
    index = open_index(space, MODELS.embedder)
    built = index.refresh(corpus_of(texts).knowledge.source, "s", no_progress)
    return index.retriever(built.version)


def taught(space: Workspace) -> BuiltModel:
    """A model whose adapter has learnt to read."""
    write(space.adapters / "a1" / SKILLS, json.dumps({"reads": True, "json": False}))
    return BuiltModel(base="reader-1", adapter="a1", examples="x", settings="s")


@dataclass(frozen=True)
class World:
    """What evidence is gathered about."""

    corpus: Corpus
    changes: ChangeSet
    live: Release | None
    before: LiveIndexView | None


def world(
    corpus: Corpus, changes: ChangeSet, live: Release | None = None, before: LiveIndexView | None = None
) -> World:
    return World(corpus, changes, live, before)


def gather_evidence(
    about: World, evaluator: Evaluator, subject: SystemUnderTest, embedder: Embedder, params: Params
) -> Evidence:
    """The evidence about a world; the changes are those that it names."""
    watch, knowledge = Stopwatch(), about.corpus.knowledge
    data = describe_data_change(knowledge, about.live, delta())
    scores = measure_answers(evaluator, subject, about.before, about.changes.renamed, params.score, watch)
    text = measure_text(knowledge, about.before, subject.reader, embedder, params, watch)
    with watch("excess_loss"):
        training = measure_training_data(about.corpus, about.live, subject, evaluator.answerer, None, params)
    limits = Limits(costs=COSTS)
    return Evidence(data=data, scores=scores, text=text, training=training, limits=limits, signal_seconds=watch.seconds)


def before_of(
    space: Workspace, corpus: Corpus, subject: SystemUnderTest, questions: tuple[GoldenQuestion, ...]
) -> LiveIndexView | None:
    if subject.reader is None:
        return None
    asked = {doc for question in questions for doc in question.docs}
    index = open_index(space, MODELS.embedder)
    return LiveIndexView.of(
        index, subject.reader.version, corpus.knowledge.chunks, asked, space.params.evidence.old_chunks
    )


def seen(
    space: Workspace,
    now: dict[str, str],
    subject: SystemUnderTest,
    questions: tuple[GoldenQuestion, ...],
    renamed: tuple[Rename, ...] = (),
) -> Evidence:
    """The evidence about the pages as they are `now`, with a release live that has the subject's index."""
    corpus = corpus_of(now)
    changes = ChangeSet(before="s0", after=corpus.snapshot.id, edited=tuple(now), renamed=renamed)
    about = world(corpus, changes, release(), before=before_of(space, corpus, subject, questions))
    return gather_evidence(about, examiner(space, corpus, questions), subject, MODELS.embedder, space.params)


def changed(**kinds: Any) -> ChangeSet:
    return ChangeSet(before="s0", after="s1", **kinds)


def without_times(found: Evidence) -> Evidence:
    return found.model_copy(update={"signal_seconds": {}})


# --- the right passage ---------------------------------------------------------------------------------------------


def first_of(question: GoldenQuestion, corpus: Corpus) -> str:
    """The right passage where there is room for one alone."""
    [passage] = gold_context(question, corpus.knowledge, 1)
    return passage


def test_the_right_passage_is_the_one_that_holds_the_answer() -> None:
    assert first_of(end_of_life("Tank"), corpus_of(pages())) == f"Tank > Tank 1\n- End of life: {OLD}"


def test_a_passage_that_only_sounds_like_the_question_is_not_the_right_one() -> None:
    sounds = "## Ask us\n\nWhen does Tank 1 reach end of life? We do not say it here.\n"
    corpus = corpus_of({"Tank.md": f"# Tank\n\n{sounds}\n## Dates\n\n- Until: {OLD}\n"})
    assert first_of(end_of_life("Tank"), corpus).startswith("Tank > Dates")


def test_of_two_that_hold_the_answer_the_one_nearer_to_the_question_is_taken() -> None:
    lines = "## Tank 1\n\n- End of life: 2027-01-01\n\n## Tank 2\n\n- End of life: 2027-01-01\n"
    corpus = corpus_of({"Tank.md": f"# Tank\n\n{lines}"})
    question = end_of_life("Tank", question="When does Tank 2 reach end of life?")
    assert first_of(question, corpus).startswith("Tank > Tank 2")


def test_another_document_with_the_same_answer_is_not_the_right_one() -> None:
    assert first_of(end_of_life("Tank", docs=("Valve.md",)), corpus_of(pages())).startswith("Valve > Valve 1")


def test_any_of_several_named_documents_may_hold_the_answer() -> None:
    question = end_of_life("Tank", NEW, docs=("gone.md", "Pump.md", "Tank.md"))
    assert first_of(question, corpus_of(pages("Tank"))) == f"Tank > Tank 1\n- End of life: {NEW}"


def test_where_no_passage_holds_the_whole_answer_the_nearest_of_its_document_is_taken() -> None:
    assert first_of(end_of_life("Tank", "2099-09-09"), corpus_of(pages())).startswith("Tank > Tank 1")


@pytest.mark.parametrize("passages", range(1, 7))
def test_the_right_passage_stands_among_the_nearest_of_its_page_however_many(passages: int) -> None:
    """Tank 4 is what is asked about, but only the passage on Tank 2 holds the answer."""
    lines = "\n\n".join(f"## Tank {at}\n\n- End of life: 2027-01-0{at}" for at in range(1, 6))
    corpus = corpus_of({"Tank.md": f"# Tank\n\n{lines}\n"})
    asked = end_of_life("Tank", "2027-01-02", question="When does Tank 4 reach end of life?")
    context = gold_context(asked, corpus.knowledge, passages)
    assert len(context) == len(set(context)) == min(passages, 5)
    assert any("2027-01-02" in passage for passage in context)
    assert context[0].startswith("Tank > Tank 4" if passages > 1 else "Tank > Tank 2")


def test_what_is_right_with_retrieved_passages_is_not_asked_again_with_the_right_one(space: Workspace) -> None:
    asking = examiner(space, corpus_of(pages("Tank")), golden("Tank"))
    subject = SystemUnderTest(index_of(space, pages()), taught(space))
    retrieved = asking.with_retrieval(subject)
    asked = len(CountingReader.prompts)
    assert asking.gold_scores(subject, retrieved) == [1.0] * len(NAMES)
    assert [one.question for one in retrieved if one.score < 1] == ["Tank"]
    assert len(CountingReader.prompts) == asked + 1


@pytest.mark.parametrize(("limit", "asked"), [(0, 4), (1, 1), (2, 2), (9, 4)])
def test_of_what_is_answered_wrong_so_many_are_asked_and_stand_for_the_rest(
    tmp_path: Path, limit: int, asked: int
) -> None:
    space = workspace(tmp_path, **BLOCKS, evidence={"questions": limit})
    asking = examiner(space, corpus_of(pages(*NAMES)), golden(*NAMES))
    subject = SystemUnderTest(index_of(space, pages()), taught(space))
    retrieved = asking.with_retrieval(subject)
    before = len(CountingReader.prompts)
    assert [one.score for one in retrieved] == [0.0] * 4
    assert asking.gold_scores(subject, retrieved) == [1.0] * 4
    assert len(CountingReader.prompts) == before + asked


@pytest.mark.parametrize("docs", [(), ("gone.md",)])
def test_a_question_without_documents_has_no_right_passage(docs: tuple[str, ...]) -> None:
    assert gold_context(end_of_life("Tank", docs=docs), corpus_of(pages()).knowledge, 3) == []


def test_a_question_without_documents_is_asked_with_what_is_found_and_says_nothing_of_recall(space: Workspace) -> None:
    asking = examiner(space, corpus_of(pages()), (end_of_life("Tank", docs=()),))
    subject = SystemUnderTest(index_of(space, pages()), taught(space))
    [gold] = asking.with_gold(subject)
    card = asking.scorecard(subject)
    assert (gold.score, card.graded[0].score) == (1.0, 1.0)
    assert len(CountingReader.prompts) == 1
    assert (gold.gold_retrieved, card.graded[0].gold_retrieved) == (None, None)
    assert card.retrieval_recall.value is None


def test_without_an_index_a_question_without_documents_is_asked_alone(space: Workspace) -> None:
    question = end_of_life("Tank", docs=())
    [gold] = examiner(space, corpus_of(pages()), (question,)).with_gold(SystemUnderTest(None, taught(space)))
    assert CountingReader.prompts == [question.question]
    assert (gold.score, gold.sources) == (0.0, ())


def test_whatever_is_wrong_with_a_question_without_documents_is_the_models_fault(space: Workspace) -> None:
    # The index has the old date, but nothing says that it ought to have another.
    questions = (end_of_life("Tank", NEW, docs=()),)
    found = seen(space, pages("Tank"), SystemUnderTest(index_of(space, pages()), taught(space)), questions)
    assert (found.scores.score_retrieved.value, found.scores.index_gap.value, found.scores.model_gap.value) == (
        0.0,
        0.0,
        1.0,
    )
    assert found.scores.refresh_gain == Measure.unmeasured(NOT_MISSING)
    assert found.scores.embedder_gap.value == 0.0


# --- which half ----------------------------------------------------------------------------------------------------


def test_a_stale_index_shows_in_the_gap_of_the_index_alone(space: Workspace) -> None:
    subject = SystemUnderTest(index_of(space, pages()), taught(space))
    found = seen(space, pages("Pump", "Tank"), subject, golden("Pump", "Tank"))
    assert (found.scores.score_gold.value, found.scores.score_retrieved.value) == (1.0, 0.5)
    assert (found.scores.index_gap.value, found.scores.model_gap.value) == (0.5, 0.0)
    assert found.scores.index_gap.n == len(NAMES)
    assert found.scores.refresh_gain.value == 0.5


def test_a_model_that_cannot_read_shows_in_the_gap_of_the_model_alone(space: Workspace) -> None:
    subject = SystemUnderTest(index_of(space, pages()), BASE)
    found = seen(space, pages(), subject, golden())
    assert (found.scores.model_gap.value or 0) > 0
    assert found.scores.score_gold.value == found.scores.score_retrieved.value
    assert found.scores.index_gap.value == 0.0
    assert found.scores.refresh_gain == Measure.unmeasured(NOT_MISSING)
    assert found.scores.embedder_gap.value == 0.0


def test_both_halves_out_of_date_show_in_both_gaps(space: Workspace) -> None:
    # The reader without an adapter answers questions of a length that three divides.
    known = tuple(one for one in golden(*NAMES) if len(one.question) % 3 == 0)
    unknown = tuple(one for one in golden(*NAMES) if len(one.question) % 3)
    assert known
    assert unknown
    found = seen(space, pages(*NAMES), SystemUnderTest(index_of(space, pages()), BASE), known + unknown)
    share = len(known) / len(NAMES)
    assert (found.scores.index_gap.value, found.scores.model_gap.value) == (share, 1 - share)


def test_where_both_halves_are_current_there_is_no_gap(space: Workspace) -> None:
    found = seen(space, pages("Pump"), SystemUnderTest(index_of(space, pages("Pump")), taught(space)), golden("Pump"))
    assert (found.scores.index_gap.value, found.scores.model_gap.value, found.scores.embedder_gap.value) == (
        0.0,
        0.0,
        0.0,
    )
    assert found.scores.refresh_gain == Measure.unmeasured(NOT_MISSING)


def test_before_the_first_index_everything_that_the_right_passage_wins_is_the_gap_of_the_index(
    space: Workspace,
) -> None:
    corpus = corpus_of(pages())
    unborn = world(corpus, diff_snapshots(None, corpus.snapshot), live=None)
    subject = SystemUnderTest(None, taught(space))
    found = gather_evidence(unborn, examiner(space, corpus, golden()), subject, MODELS.embedder, space.params)
    assert found.data.live_release is None
    assert (found.scores.score_gold.value, found.scores.score_retrieved.value) == (1.0, 0.0)
    assert found.scores.index_gap.value == found.scores.refresh_gain.value == 1.0
    assert found.scores.embedder_gap == Measure.unmeasured(ALL_MISSING)


def test_the_gap_of_the_model_has_the_interval_of_the_score_turned_round(space: Workspace) -> None:
    found = seen(space, pages(), SystemUnderTest(index_of(space, pages()), BASE), golden())
    gold, gap = found.scores.score_gold, found.scores.model_gap
    assert gold.low is not None
    assert gold.high is not None
    assert gold.low < gold.high
    assert (gap.low, gap.high) == (round(1 - gold.high, 6), round(1 - gold.low, 6))


def test_an_answer_in_another_form_is_malformed_and_wrong(space: Workspace) -> None:
    formed = tuple(one.model_copy(update={"format": r'\{"value": .*\}'}) for one in golden())
    found = seen(space, pages(), SystemUnderTest(index_of(space, pages()), taught(space)), formed)
    assert (found.scores.malformed_share.value, found.scores.model_gap.value, found.scores.index_gap.value) == (
        1.0,
        1.0,
        0.0,
    )


# --- what a refresh can win back, and what only a better search ----------------------------------------------------

# Two pages of a product that say all that is asked for but the answer, and nothing else: as many as are looked at.
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
def test_what_the_live_rows_lack_is_the_refreshs_and_what_they_hold_but_do_not_bring_up_the_retrievers(
    moved: tuple[str, ...], refresh: float | None, retriever: float | None, space: Workspace
) -> None:
    subject = SystemUnderTest(index_of(space, pages() | HIDDEN), taught(space))
    found = seen(space, pages(*moved) | HIDDEN, subject, golden(*moved))
    assert found.scores.score_gold.value == 1.0
    assert (found.scores.refresh_gain.value, found.scores.embedder_gap.value) == (refresh, retriever)
    assert found.scores.index_gap.value == (refresh or 0) + (retriever or 0)
    assert {one.n for one in (found.scores.refresh_gain, found.scores.embedder_gap) if one.value is not None} == {
        len(NAMES)
    }


def test_with_the_right_passage_brought_up_it_is_the_model_that_fails_and_it_is_not_asked_again(
    space: Workspace,
) -> None:
    """A page with the same heading and another date stands before the right one, and the model believes it."""
    astray = {"a/Pump.md": "# Pump\n\n## Pump 1\n\n- End of life: 2001-01-01\n"}
    found = seen(space, pages() | astray, SystemUnderTest(index_of(space, pages() | astray), taught(space)), golden())
    assert (found.scores.score_gold.value, found.scores.model_gap.value) == (0.75, 0.25)
    assert (found.scores.index_gap.value, found.scores.embedder_gap.value) == (0.0, 0.0)
    assert len(CountingReader.prompts) == len(NAMES)


def test_which_part_was_not_measured_is_said(space: Workspace) -> None:
    subject = SystemUnderTest(index_of(space, pages()), taught(space))
    fresh, stale = seen(space, pages(), subject, golden()), seen(space, pages(*NAMES), subject, golden(*NAMES))
    assert (fresh.scores.refresh_gain, stale.scores.embedder_gap) == (
        Measure.unmeasured(NOT_MISSING),
        Measure.unmeasured(ALL_MISSING),
    )


def test_a_document_that_was_added_is_the_refreshs(space: Workspace) -> None:
    live = {name: text for name, text in pages().items() if name != "Pump.md"}
    found = seen(space, pages(), SystemUnderTest(index_of(space, live), taught(space)), golden())
    assert (found.scores.refresh_gain.value, found.scores.embedder_gap.value) == (0.25, 0.0)


def test_a_cosmetic_edit_brings_no_news_and_nothing_to_win_back(space: Workspace) -> None:
    now = {name: text.replace("- Latest release:", "* LATEST release:") for name, text in pages().items()}
    found = seen(space, now, SystemUnderTest(index_of(space, pages()), taught(space)), golden())
    assert (found.text.changed_sentence_share.value, found.scores.index_gap.value) == (0.0, 0.0)
    assert found.scores.refresh_gain == Measure.unmeasured(NOT_MISSING)
    assert found.text.stale_facts == Measure.unmeasured("no fact was edited")


def test_what_was_renamed_is_found_under_its_old_name(space: Workspace) -> None:
    now = {f"moved/{name}": text for name, text in pages().items()}
    questions = tuple(end_of_life(name, docs=(f"moved/{name}.md",)) for name in NAMES)
    renamed = tuple(Rename(before=name, after=f"moved/{name}") for name in pages())
    found = seen(space, now, SystemUnderTest(index_of(space, pages()), taught(space)), questions, renamed)
    assert (found.text.changed_sentence_share.value, found.scores.index_gap.value, found.scores.embedder_gap.value) == (
        0.0,
        0.0,
        0.0,
    )
    assert found.scores.refresh_gain == Measure.unmeasured(NOT_MISSING)


def test_only_a_renames_old_name_stands_for_a_document_not_any_page_with_the_same_answer(space: Workspace) -> None:
    now = pages() | {"Other.md": page("Other")}
    found = seen(space, now, SystemUnderTest(index_of(space, pages()), taught(space)), (end_of_life("Other"),))
    assert (found.scores.refresh_gain.value, found.scores.index_gap.value) == (1.0, 1.0)


# --- groups of questions -------------------------------------------------------------------------------------------


def whole(gaps: tuple[Gap, ...]) -> tuple[float, float, int]:
    """Both gaps of all groups together, weighed by their questions, and how many these are."""
    total = sum(gap.index_gap.n for gap in gaps)
    index = sum((gap.index_gap.value or 0) * gap.index_gap.n for gap in gaps)
    model = sum((gap.model_gap.value or 0) * gap.model_gap.n for gap in gaps)
    return round(index / total, 6), round(model / total, 6), total


def test_groups_and_kinds_add_up_to_the_whole(space: Workspace) -> None:
    docs = ("wet/Pump.md", "wet/Tank.md", "dry/Valve.md", "dry/Motor.md")
    now, live = (dict(zip(docs, some.values(), strict=True)) for some in (pages("Pump", "Valve"), pages()))
    dates = [one.model_copy(update={"docs": (doc,)}) for one, doc in zip(golden("Pump", "Valve"), docs, strict=True)]
    formed = end_of_life("formed", NEW, docs=("wet/Tank.md",), format="a word")
    unbound = end_of_life("unbound", "someone", docs=())
    asked = (*dates, formed, unbound)
    found = seen(space, now, SystemUnderTest(index_of(space, live), taught(space)), asked)
    assert whole(found.scores.groups) == (found.scores.index_gap.value, found.scores.model_gap.value, len(asked))
    assert whole(found.scores.kinds) == (found.scores.index_gap.value, found.scores.model_gap.value, len(asked))
    groups = {one.name: (one.index_gap.value, one.model_gap.value) for one in found.scores.groups}
    assert groups == {"wet/": (0.333333, 0.333333), "dry/": (0.5, 0.0), "no document": (0.0, 1.0)}
    kinds = {one.name: (one.index_gap.value, one.model_gap.value) for one in found.scores.kinds}
    assert kinds == {"date": (0.5, 0.0), "demanded format": (0.0, 1.0), "a few words": (0.0, 1.0)}
    assert [one.name for one in found.scores.groups] == ["wet/", "dry/", "no document"]


def test_of_many_groups_the_largest_are_told(space: Workspace) -> None:
    folders = [f"{number:02}" for number in range(GROUPS + 3)]
    docs = [f"{folder}/a.md" for folder in folders] + [f"{folders[-1]}/b.md"]
    asked = tuple(end_of_life(f"q{at}", docs=(doc,)) for at, doc in enumerate(docs))
    found = seen(space, pages(), SystemUnderTest(None, BASE), asked)
    assert [one.name for one in found.scores.groups] == [f"{name}/" for name in (folders[-1], *folders[: GROUPS - 1])]
    assert found.scores.groups[0].index_gap.n == 2


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
def test_the_kind_of_an_answer_is_told_by_its_form(answer: str, kind: str) -> None:
    assert kind_of_answer(end_of_life("Tank", answer)) == kind
    assert kind_of_answer(end_of_life("Tank", answer, format=".*")) == "demanded format"
    assert kind_of_answer(end_of_life("Tank", answer, scorer="json_f1")) == "demanded format"
    assert kind_of_answer(end_of_life("Tank", answer, scorer="token_f1")) == kind


# --- scorers -------------------------------------------------------------------------------------------------------


class Lenient:
    """Calls every answer half right; counts its opinions."""

    identity = "lenient"

    def __init__(self) -> None:
        self.asked: list[JudgeRequest] = []

    def judge(self, claim: JudgeRequest) -> float:
        self.asked.append(claim)
        return 0.5


def test_the_judge_grades_the_questions_that_ask_for_one_and_no_other(space: Workspace) -> None:
    judge = Lenient()
    asked = (end_of_life("Pump", scorer="judge"), end_of_life("Tank"), end_of_life("Valve", scorer="judge", format="x"))
    asking = Evaluator(
        corpus_of(pages()).knowledge, GoldenSet(asked, ()), Answerer(space, MODELS, no_progress, judge), space.params
    )
    graded = asking.with_gold(SystemUnderTest(None, taught(space)))
    assert [one.score for one in graded] == [0.5, 1.0, 0.0]
    assert judge.asked == [JudgeRequest(asked[0].question, graded[0].answer, (OLD,))]


def test_an_answer_that_is_right_in_part_counts_in_part(space: Workspace) -> None:
    asked = tuple(end_of_life(name, f"{OLD} for sure", scorer="token_f1") for name in NAMES)
    subject = SystemUnderTest(index_of(space, pages()), taught(space))
    found = seen(space, pages(), subject, asked)
    assert found.scores.score_gold.value == found.scores.score_retrieved.value == 0.5
    assert found.scores.stale_questions == ()
    assert found.scores.model_gap.value == 0.5


def test_a_passage_with_the_same_numbers_is_the_right_one_for_an_answer_in_json(space: Workspace) -> None:
    asked = end_of_life("Pump", f'{{"end": "{OLD}"}}', scorer="json_f1")
    assert OLD in first_of(asked, corpus_of(pages()))


def test_lines_that_are_left_out_are_counted_by_what_is_wrong_with_them(space: Workspace) -> None:
    flaws = (IssueKind.LEAK, IssueKind.STALE, IssueKind.LEAK)
    findings = tuple(DataIssue(where=f"a.jsonl:{at}", kind=kind, why="") for at, kind in enumerate(flaws))
    corpus = replace(corpus_of(pages()), training=TrainingSet((), filtered=findings))
    about = world(corpus, ChangeSet(before=None, after="s"))
    found = gather_evidence(
        about, examiner(space, corpus, golden()), SystemUnderTest(None, BASE), MODELS.embedder, space.params
    )
    assert found.training.filtered == {"leak": 2, "stale answer": 1}


# --- what was not measured -----------------------------------------------------------------------------------------


def test_without_questions_every_score_is_unmeasured_and_none_is_nought(space: Workspace) -> None:
    found = seen(space, pages(), SystemUnderTest(index_of(space, pages()), taught(space)), ())
    scores = (
        found.scores.score_gold,
        found.scores.score_retrieved,
        found.scores.index_gap,
        found.scores.model_gap,
        found.scores.malformed_share,
    )
    parts = (found.scores.refresh_gain, found.scores.embedder_gap)
    assert {(one.value, one.low, one.high, one.n) for one in (*scores, *parts)} == {(None, None, None, 0)}
    assert all(one.why for one in (*scores, *parts))
    assert (found.scores.groups, found.scores.kinds) == ((), ())


def test_a_stale_question_stays_out_of_every_score(space: Workspace) -> None:
    gone = end_of_life("gone", docs=("gone.md",))
    other = end_of_life("other", "2099-09-09", docs=("Valve.md",))
    corpus, subject = corpus_of(pages("Pump")), SystemUnderTest(index_of(space, pages()), taught(space))
    about = world(corpus, changed(), release(), before=before_of(space, corpus, subject, golden("Pump")))
    found = []
    for questions in (golden("Pump"), (gone, *golden("Pump"), other)):
        asking = Evaluator(
            corpus.knowledge,
            split_stale(questions, corpus.knowledge.texts),
            Answerer(space, MODELS, no_progress),
            space.params,
        )
        found.append(without_times(gather_evidence(about, asking, subject, MODELS.embedder, space.params)))
    assert [one.scores.stale_questions for one in found] == [(), ("gone", "other")]
    assert found[0].scores.index_gap.n == len(NAMES)
    assert found[0] == with_signals(found[1], stale_questions=())


# --- the adapter ---------------------------------------------------------------------------------------------------

EXAMPLES = tuple(Example((Message("user", f"Question {at}?"),), f"Answer {at}", None) for at in range(3))
SEEN = tuple(one.digest for one in EXAMPLES)
TAUGHT = snapshot(train={"t.jsonl": md5("t")})


def trained_on(data: Snapshot, params: Params, base: str = "reader-1", seen: tuple[str, ...] = ()) -> BuiltModel:
    settings = training_settings(params, base)
    return BuiltModel(base=base, adapter="a1", examples=data.train_id, settings=settings, trained_on=seen)


def other(**blocks: dict[str, Any]) -> Params:
    return Params.model_validate(BLOCKS | blocks)


ELSEWHERE = snapshot(train={"renamed.jsonl": md5("t")})


@pytest.mark.parametrize(
    ("model", "current"),
    [
        (trained_on(TAUGHT, other(), seen=SEEN), True),
        (trained_on(TAUGHT, other(policy={"points_per_hour": 1}, gate={"max_score_loss": 0.5}), seen=SEEN), True),
        (trained_on(TAUGHT, other(finetune={"rank": 4}), seen=SEEN), False),
        (trained_on(TAUGHT, other(finetune={"seed": 8}), seen=SEEN), False),
        (trained_on(TAUGHT, other(index={"top_k": 5}), seen=SEEN), False),
        # Known by its examples, wherever they stand now and in whatever order.
        (trained_on(ELSEWHERE, other(), seen=SEEN[::-1]), True),
        (trained_on(ELSEWHERE, other(), seen=SEEN[:2]), False),
        (trained_on(ELSEWHERE, other(), seen=(*SEEN, "another")), False),
        (trained_on(TAUGHT, other(examples={"replay_share": 0.3}), seen=SEEN), False),
        # What was replayed is of files that are gone, and may be of today's again.
        (trained_on(TAUGHT, other(), seen=(*SEEN, "old")).model_copy(update={"replayed": ("old",)}), True),
        (trained_on(TAUGHT, other(), seen=SEEN).model_copy(update={"replayed": SEEN[:1]}), True),
        (trained_on(TAUGHT, other(), seen=SEEN[1:]).model_copy(update={"replayed": SEEN[:1]}), False),
        (BASE, False),
    ],
)
def test_an_adapter_is_current_only_under_the_same_examples_and_settings(
    model: BuiltModel, current: bool, space: Workspace
) -> None:
    corpus = corpus_of(pages(), {"t.jsonl": md5("t")}, EXAMPLES)
    write(space.adapters / "a1" / SKILLS, json.dumps({"reads": True}))
    asking = examiner(space, corpus, golden())
    about = world(corpus, changed(), release())
    found = gather_evidence(about, asking, SystemUnderTest(None, model), MODELS.embedder, space.params)
    assert found.training.adapter_is_current is current
    assert found.training.examples == len(EXAMPLES)


def test_an_adapter_of_another_base_than_todays_is_not_current(
    space: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = corpus_of(pages(), {"t.jsonl": md5("t")}, EXAMPLES)
    write(space.adapters / "a1" / SKILLS, json.dumps({"reads": True}))
    about, subject = world(corpus, changed(), release()), SystemUnderTest(None, trained_on(TAUGHT, other(), seen=SEEN))
    found = [gather_evidence(about, examiner(space, corpus, golden()), subject, MODELS.embedder, space.params)]
    monkeypatch.setattr(Answerer, "base", "reader-2")
    found += [gather_evidence(about, examiner(space, corpus, golden()), subject, MODELS.embedder, space.params)]
    assert [one.training.adapter_is_current for one in found] == [True, False]


@pytest.mark.parametrize(
    ("live", "today", "told"),
    [
        ("packaged:one@aaa", "packaged:one@aaa", None),
        # The same weights in another folder.
        ("/here/one@aaa", "/there/one@aaa", None),
        ("packaged:one@aaa", "packaged:two@bbb", "packaged:two"),
        # The weights under the name are others now.
        ("packaged:one@aaa", "packaged:one@bbb", "packaged:one"),
        ("reader-1", "reader-2", "reader-2"),
        (None, "packaged:one@aaa", None),
    ],
)
def test_a_base_model_that_is_not_the_live_releases_is_named(
    live: str | None, today: str, told: str | None, space: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = release(model=BASE.model_copy(update={"base": live})) if live else None
    about, asking = world(corpus_of(pages()), changed(), made), examiner(space, corpus_of(pages()), golden())
    monkeypatch.setattr(Answerer, "base", today)
    found = gather_evidence(about, asking, SystemUnderTest(None, BASE), MODELS.embedder, space.params)
    assert found.training.new_base_model == told


def test_a_base_model_alone_is_never_current_even_without_examples(space: Workspace) -> None:
    corpus = corpus_of(pages())
    about = world(corpus, changed(), release())
    bare = BASE.model_copy(update={"settings": training_settings(space.params, BASE.base)})
    found = gather_evidence(
        about, examiner(space, corpus, golden()), SystemUnderTest(None, bare), MODELS.embedder, space.params
    )
    assert not found.training.adapter_is_current


# --- the rest of the evidence --------------------------------------------------------------------------------------


def test_the_data_change_is_that_between_the_live_release_and_the_corpus(space: Workspace) -> None:
    corpus = corpus_of(pages())
    live = release(7, snapshot=snapshot({"Pump.md": md5("old"), "Old.md": md5("gone")}))
    asking = Evaluator(
        corpus.knowledge, GoldenSet(golden(), ("q8", "q9")), Answerer(space, MODELS, no_progress), space.params
    )
    about = world(corpus, changed(), live)
    found = gather_evidence(about, asking, SystemUnderTest(None, BASE), MODELS.embedder, space.params)
    assert (found.data.snapshot, found.data.live_release) == (corpus.snapshot.id, "7")
    assert found.data.changes == diff_snapshots(live.snapshot, corpus.snapshot)
    assert (found.data.changes.edited, found.data.changes.removed) == (("Pump.md",), ("Old.md",))
    assert found.scores.stale_questions == ("q8", "q9")


TIMED = {
    "score_gold",
    "score_retrieved",
    "changed_sentence_share",
    "stale_facts",
    "resurfaced_deletions",
    "novelty",
    "vocabulary",
    "excess_loss",
}


def test_every_signal_that_takes_time_is_timed(space: Workspace) -> None:
    subject = SystemUnderTest(index_of(space, pages()), taught(space))
    found = seen(space, pages("Pump"), subject, golden("Pump"))
    assert set(found.signal_seconds) == TIMED
    assert min(found.signal_seconds.values()) >= 0


def test_the_changed_text_and_the_new_examples_speak_for_themselves(space: Workspace) -> None:
    space = Workspace(space.root, other(chunk={"max_words": 20}))
    model = trained_on(TAUGHT, space.params, seen=SEEN[:1])
    write(space.adapters / "a1" / SKILLS, json.dumps({"reads": True, "json": False}))
    strange = Example((Message("user", "Say it in JSON."),), '{"value": "x"}', None)
    now = corpus_of(pages("Pump"), examples=(*EXAMPLES[:1], strange))
    subject = SystemUnderTest(index_of(space, {**pages(), "Old.md": page("Old")}), model)
    before = before_of(space, now, subject, ())
    about = world(now, changed(edited=("Pump.md",), removed=("Old.md",)), release(), before=before)
    found = gather_evidence(about, examiner(space, now, golden("Pump")), subject, MODELS.embedder, space.params)
    assert (found.text.stale_facts.value, found.text.resurfaced_deletions.value) == (1.0, 1.0)
    # One of the two facts on each of four pages.
    assert (found.text.changed_sentence_share.value, found.text.changed_sentence_share.n) == (0.125, 8)
    assert found.training.new_examples == 1
    assert found.training.excess_loss.value == pytest.approx(1.9, abs=0.05)
    assert (found.text.vocabulary.value, found.text.vocabulary.n) == (0.0, 1)


def test_before_the_first_release_each_signal_of_changed_text_says_why_there_is_none(space: Workspace) -> None:
    corpus = corpus_of(pages(), examples=EXAMPLES)
    unborn = world(corpus, diff_snapshots(None, corpus.snapshot), live=None)
    found = gather_evidence(
        unborn, examiner(space, corpus, golden()), SystemUnderTest(None, BASE), MODELS.embedder, space.params
    )
    signals = ("changed_sentence_share", "stale_facts", "resurfaced_deletions", "novelty", "shift", "vocabulary")
    first = Measure.unmeasured("there is no live release to compare with")
    assert {name: getattr(found.text, name) for name in signals} == dict.fromkeys(signals, first)
    assert found.training.excess_loss == Measure.unmeasured("there is no adapter yet")
    assert found.training.new_examples == len(EXAMPLES)


def test_a_scorecard_says_what_was_measured_and_on_what(space: Workspace) -> None:
    corpus = corpus_of(pages("Pump"))
    reader, model = index_of(space, pages()), taught(space)
    card = examiner(space, corpus, golden("Pump")).scorecard(SystemUnderTest(reader, model))
    assert (card.snapshot, card.index_version, card.adapter) == (corpus.snapshot.id, reader.version, "a1")
    assert (card.answer_score.value, card.retrieval_recall.value, card.malformed_share.value) == (0.75, 0.75, 0.0)
    assert {one.question: one.gold_retrieved for one in card.graded} == {
        "Pump": False,
        "Tank": True,
        "Valve": True,
        "Motor": True,
    }
    assert card.graded[0].sources[0] == "Pump.md"


def test_without_an_index_the_scorecard_names_none_and_no_source(space: Workspace) -> None:
    card = examiner(space, corpus_of(pages()), golden()).scorecard(SystemUnderTest(None, BASE))
    assert (card.index_version, card.adapter) == (None, None)
    assert {one.sources for one in card.graded} == {()}


def test_the_digest_of_the_questions_stands_on_the_scorecard(space: Workspace) -> None:
    corpus, subject = corpus_of(pages()), SystemUnderTest(None, BASE)
    cards = [examiner(space, corpus, asked).scorecard(subject) for asked in (golden(), golden(), golden("Pump"))]
    assert cards[0].questions == cards[1].questions
    assert cards[0].questions != cards[2].questions


def test_the_same_evidence_is_gathered_twice_and_asked_once(space: Workspace) -> None:
    subject = SystemUnderTest(index_of(space, pages()), taught(space))
    found = [seen(space, pages("Pump"), subject, golden("Pump")) for _ in range(2)]
    assert without_times(found[0]).content_digest() == without_times(found[1]).content_digest()
    assert len(CountingReader.prompts) == len(set(CountingReader.prompts))
