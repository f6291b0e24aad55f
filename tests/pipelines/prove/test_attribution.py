"""Is it told which half is out of date? Small cases by hand: a stale index, a model that cannot read, and neither."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.build.candidate import open_index, training_settings
from pipelines.build.chunk import chunk_documents
from pipelines.build.corpus import Corpus
from pipelines.build.models import Models
from pipelines.build.search import Reader
from pipelines.observe.diff import diff
from pipelines.params import Params
from pipelines.ports import quiet
from pipelines.prove.answer import Answerer
from pipelines.prove.attribution import Examiner, Subject, World, gather, gold_context
from pipelines.prove.questions import GoldenSet
from pipelines.records import BuiltModel, ChangeSet, Costs, Evidence, Measure, Question, Release, Rename, Snapshot
from pipelines.workspace import Workspace
from tests import fakes
from tests.factories import delta, document, md5, release, snapshot, workspace, write
from tests.fakes import SKILLS, CountingEmbedder, CountingReader, CountingTrainer

NAMES = ("Pump", "Tank", "Valve", "Motor")
OLD, NEW = "2027-01-01", "2031-05-05"
MODELS = Models(CountingEmbedder(), CountingReader(), CountingTrainer())
BASE = BuiltModel(base="reader-1", adapter=None, examples=None, settings=None)
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


def corpus_of(texts: dict[str, str], train: dict[str, str] | None = None) -> Corpus:
    documents = [document(name, text) for name, text in texts.items()]
    data = snapshot({one.id: one.digest for one in documents}, train)
    chunks = chunk_documents(documents, Params().chunk)
    return Corpus(snapshot=data, documents=tuple(documents), chunks=tuple(chunks), examples=())


def end_of_life(name: str, answer: str = OLD, **fields: Any) -> Question:
    usual = {"question": f"When does {name} 1 reach end of life?", "docs": (f"{name}.md",)}
    return Question(id=name, answers=(answer,), **(usual | fields))


def golden(*moved: str) -> tuple[Question, ...]:
    """The date of every product; of those in `moved` the new one is right."""
    return tuple(end_of_life(name, NEW if name in moved else OLD) for name in NAMES)


def examiner(space: Workspace, corpus: Corpus, questions: tuple[Question, ...]) -> Examiner:
    return Examiner(corpus, GoldenSet(questions, ()), Answerer(space, MODELS, quiet), space.params)


def index_of(space: Workspace, texts: dict[str, str]) -> Reader:
    index = open_index(space, MODELS.embedder)
    built = index.refresh(corpus_of(texts).source, "s", quiet)
    return index.reader(built.version)


def taught(space: Workspace) -> BuiltModel:
    """A model whose adapter has learnt to read."""
    write(space.adapters / "a1" / SKILLS, json.dumps({"reads": True, "json": False}))
    return BuiltModel(base="reader-1", adapter="a1", examples="x", settings="s")


def world(corpus: Corpus, changes: ChangeSet, live: Release | None = None, **fields: Any) -> World:
    usual: dict[str, Any] = {"delta": delta(), "costs": COSTS, "refused": {}}
    return World(corpus=corpus, changes=changes, live=live, **(usual | fields))


def seen(
    space: Workspace,
    now: dict[str, str],
    subject: Subject,
    questions: tuple[Question, ...],
    changes: ChangeSet | None = None,
) -> Evidence:
    """The evidence about the pages as they are `now`, with a release live; by default, every page has changed."""
    corpus = corpus_of(now)
    changed = changes or ChangeSet(before="s0", after=corpus.snapshot.id, edited=tuple(now))
    return gather(world(corpus, changed, release()), examiner(space, corpus, questions), subject, space.params)


# --- the right passage ---------------------------------------------------------------------------------------------


def test_the_right_passage_is_the_one_that_holds_the_answer() -> None:
    corpus = corpus_of(pages())
    [passage] = gold_context(end_of_life("Tank"), corpus)
    assert passage == f"Tank > Tank 1\n- End of life: {OLD}"


def test_a_passage_that_only_sounds_like_the_question_is_not_the_right_one() -> None:
    sounds = "## Ask us\n\nWhen does Tank 1 reach end of life? We do not say it here.\n"
    corpus = corpus_of({"Tank.md": f"# Tank\n\n{sounds}\n## Dates\n\n- Until: {OLD}\n"})
    [passage] = gold_context(end_of_life("Tank"), corpus)
    assert passage.startswith("Tank > Dates")


def test_of_two_that_hold_the_answer_the_one_nearer_to_the_question_is_taken() -> None:
    lines = "## Tank 1\n\n- End of life: 2027-01-01\n\n## Tank 2\n\n- End of life: 2027-01-01\n"
    corpus = corpus_of({"Tank.md": f"# Tank\n\n{lines}"})
    [passage] = gold_context(end_of_life("Tank", question="When does Tank 2 reach end of life?"), corpus)
    assert passage.startswith("Tank > Tank 2")


def test_another_document_with_the_same_answer_is_not_the_right_one() -> None:
    [passage] = gold_context(end_of_life("Tank", docs=("Valve.md",)), corpus_of(pages()))
    assert passage.startswith("Valve > Valve 1")


def test_any_of_several_named_documents_may_hold_the_answer() -> None:
    question = end_of_life("Tank", NEW, docs=("gone.md", "Pump.md", "Tank.md"))
    [passage] = gold_context(question, corpus_of(pages("Tank")))
    assert passage == f"Tank > Tank 1\n- End of life: {NEW}"


def test_where_no_passage_holds_the_whole_answer_the_nearest_of_its_document_is_taken() -> None:
    [passage] = gold_context(end_of_life("Tank", "2099-09-09"), corpus_of(pages()))
    assert passage.startswith("Tank > Tank 1")


@pytest.mark.parametrize("docs", [(), ("gone.md",)])
def test_a_question_without_documents_has_no_right_passage(docs: tuple[str, ...]) -> None:
    assert gold_context(end_of_life("Tank", docs=docs), corpus_of(pages())) == []


def test_a_question_without_documents_is_asked_alone_and_says_nothing_of_recall(space: Workspace) -> None:
    question = Question(id="q", question="Who are you?", answers=("nobody",), docs=())
    asking = examiner(space, corpus_of(pages()), (question,))
    model = taught(space)
    [gold] = asking.with_gold(model)
    assert CountingReader.prompts == ["Who are you?"]
    card = asking.scorecard(Subject(index_of(space, pages()), model))
    assert (gold.hit, card.graded[0].hit) == (None, None)
    assert card.retrieval_recall.value is None
    assert card.answer_score.value == 0.0


# --- which half ----------------------------------------------------------------------------------------------------


def test_a_stale_index_shows_in_the_gap_of_the_index_alone(space: Workspace) -> None:
    subject = Subject(index_of(space, pages()), taught(space))
    found = seen(space, pages("Pump", "Tank"), subject, golden("Pump", "Tank"))
    assert (found.score_gold.value, found.score_retrieved.value) == (1.0, 0.5)
    assert (found.index_gap.value, found.model_gap.value) == (0.5, 0.0)
    assert found.index_gap.n == len(NAMES)
    assert found.refresh_gain.value == 0.5


def test_a_model_that_cannot_read_shows_in_the_gap_of_the_model_alone(space: Workspace) -> None:
    subject = Subject(index_of(space, pages()), BASE)
    found = seen(space, pages(), subject, golden())
    assert (found.model_gap.value or 0) > 0
    assert found.score_gold.value == found.score_retrieved.value
    assert found.index_gap.value == 0.0
    assert (found.refresh_gain.value or 0) <= 0


def test_both_halves_out_of_date_show_in_both_gaps(space: Workspace) -> None:
    # The reader without an adapter answers questions of a length that three divides.
    known = tuple(one for one in golden(*NAMES) if len(one.question) % 3 == 0)
    unknown = tuple(one for one in golden(*NAMES) if len(one.question) % 3)
    assert known
    assert unknown
    found = seen(space, pages(*NAMES), Subject(index_of(space, pages()), BASE), known + unknown)
    share = len(known) / len(NAMES)
    assert (found.index_gap.value, found.model_gap.value) == (share, 1 - share)


def test_where_both_halves_are_current_there_is_no_gap(space: Workspace) -> None:
    found = seen(space, pages("Pump"), Subject(index_of(space, pages("Pump")), taught(space)), golden("Pump"))
    assert (found.index_gap.value, found.model_gap.value, found.refresh_gain.value) == (0.0, 0.0, 0.0)


def test_before_the_first_index_everything_that_the_right_passage_wins_is_the_gap_of_the_index(
    space: Workspace,
) -> None:
    corpus = corpus_of(pages())
    unborn = world(corpus, diff(None, corpus.snapshot), live=None)
    found = gather(unborn, examiner(space, corpus, golden()), Subject(None, taught(space)), space.params)
    assert found.live_release is None
    assert (found.score_gold.value, found.score_retrieved.value) == (1.0, 0.0)
    assert found.index_gap.value == found.refresh_gain.value == 1.0


def test_the_gap_of_the_model_has_the_interval_of_the_score_turned_round(space: Workspace) -> None:
    found = seen(space, pages(), Subject(index_of(space, pages()), BASE), golden())
    gold, gap = found.score_gold, found.model_gap
    assert gold.low is not None
    assert gold.high is not None
    assert gold.low < gold.high
    assert (gap.low, gap.high) == (round(1 - gold.high, 6), round(1 - gold.low, 6))


def test_an_answer_in_another_form_is_malformed_and_wrong(space: Workspace) -> None:
    formed = tuple(one.model_copy(update={"format": r'\{"value": .*\}'}) for one in golden())
    found = seen(space, pages(), Subject(index_of(space, pages()), taught(space)), formed)
    assert (found.malformed_share.value, found.model_gap.value, found.index_gap.value) == (1.0, 1.0, 0.0)


# --- what a refresh can win back -----------------------------------------------------------------------------------


def changed(**kinds: Any) -> ChangeSet:
    return ChangeSet(before="s0", after="s1", **kinds)


@pytest.mark.parametrize(
    ("changes", "gain"),
    [
        (changed(edited=("Pump.md",)), 0.25),
        (changed(added=("Pump.md",)), 0.25),
        (changed(renamed=(Rename(before="Old.md", after="Pump.md"),)), 0.25),
        (changed(edited=("Pump.md", "Tank.md")), 0.5),
        (changed(edited=("Pump.md", "Valve.md")), 0.25),
        (changed(edited=("Valve.md",)), 0.0),
    ],
)
def test_a_refresh_wins_back_only_what_was_lost_to_changed_documents(
    changes: ChangeSet, gain: float, space: Workspace
) -> None:
    # Pump and Tank are stale in the index, Valve and Motor are not.
    subject = Subject(index_of(space, pages()), taught(space))
    found = seen(space, pages("Pump", "Tank"), subject, golden("Pump", "Tank"), changes)
    assert found.index_gap.value == 0.5
    assert (found.refresh_gain.value, found.refresh_gain.n) == (gain, len(NAMES))


@pytest.mark.parametrize(
    "changes",
    [
        changed(),
        changed(edited=("Other.md",)),
        changed(removed=("Pump.md",)),
        changed(renamed=(Rename(before="Pump.md", after="Other.md"),)),
        changed(examples_changed=True, questions_changed=True),
    ],
)
def test_a_gain_that_no_question_asks_for_is_unmeasured_and_not_nought(changes: ChangeSet, space: Workspace) -> None:
    subject = Subject(index_of(space, pages()), taught(space))
    found = seen(space, pages("Pump"), subject, golden("Pump"), changes)
    assert found.refresh_gain == Measure.unmeasured("no golden question asks for a changed document")
    assert (found.index_gap.value or 0) > 0


def test_without_questions_every_score_is_unmeasured_and_none_is_nought(space: Workspace) -> None:
    found = seen(space, pages(), Subject(index_of(space, pages()), taught(space)), ())
    scores = (found.score_gold, found.score_retrieved, found.index_gap, found.model_gap, found.malformed_share)
    assert {(one.value, one.low, one.high, one.n) for one in (*scores, found.refresh_gain)} == {(None, None, None, 0)}
    assert all(one.why for one in (*scores, found.refresh_gain))


# --- the adapter ---------------------------------------------------------------------------------------------------

TAUGHT = snapshot(train={"t.jsonl": md5("t")})


def trained_on(data: Snapshot, params: Params, base: str = "reader-1") -> BuiltModel:
    return BuiltModel(base=base, adapter="a1", examples=data.train_id, settings=training_settings(params, base))


def other(**blocks: dict[str, Any]) -> Params:
    return Params.model_validate(BLOCKS | blocks)


@pytest.mark.parametrize(
    ("model", "current"),
    [
        (trained_on(TAUGHT, other()), True),
        (trained_on(TAUGHT, other(policy={"points_per_hour": 1}, gate={"max_score_loss": 0.5})), True),
        (trained_on(TAUGHT, other(finetune={"rank": 4})), False),
        (trained_on(TAUGHT, other(finetune={"seed": 8})), False),
        (trained_on(TAUGHT, other(index={"top_k": 5})), False),
        (trained_on(snapshot(train={"t.jsonl": md5("another")}), other()), False),
        (trained_on(snapshot(train={"renamed.jsonl": md5("t")}), other()), False),
        (BASE, False),
    ],
)
def test_an_adapter_is_current_only_under_the_same_examples_and_settings(
    model: BuiltModel, current: bool, space: Workspace
) -> None:
    corpus = corpus_of(pages(), {"t.jsonl": md5("t")})
    write(space.adapters / "a1" / SKILLS, json.dumps({"reads": True}))
    asking = examiner(space, corpus, golden())
    found = gather(world(corpus, changed(), release()), asking, Subject(None, model), space.params)
    assert found.adapter_is_current is current


# --- the rest of the evidence --------------------------------------------------------------------------------------


def test_what_is_known_beforehand_is_passed_on_as_it_is(space: Workspace) -> None:
    corpus = corpus_of(pages())
    changes, moved, refused = changed(edited=("Pump.md",)), delta(new=3), {"REFRESH": "the gate refused it"}
    known = world(corpus, changes, release(7), delta=moved, refused=refused)
    asking = Examiner(corpus, GoldenSet(golden(), ("q8", "q9")), Answerer(space, MODELS, quiet), space.params)
    found = gather(known, asking, Subject(None, BASE), space.params)
    assert (found.snapshot, found.live_release) == (corpus.snapshot.id, "7")
    assert (found.changes, found.delta, found.refused, found.costs) == (changes, moved, refused, COSTS)
    assert found.stale_questions == ("q8", "q9")


def test_a_scorecard_says_what_was_measured_and_on_what(space: Workspace) -> None:
    corpus = corpus_of(pages("Pump"))
    reader, model = index_of(space, pages()), taught(space)
    card = examiner(space, corpus, golden("Pump")).scorecard(Subject(reader, model))
    assert (card.snapshot, card.index_version, card.adapter) == (corpus.snapshot.id, reader.version, "a1")
    assert (card.answer_score.value, card.retrieval_recall.value, card.malformed_share.value) == (0.75, 0.75, 0.0)
    assert {one.question: one.hit for one in card.graded} == {"Pump": False, "Tank": True, "Valve": True, "Motor": True}
    assert card.graded[0].sources[0] == "Pump.md"


def test_without_an_index_the_scorecard_names_none_and_no_source(space: Workspace) -> None:
    card = examiner(space, corpus_of(pages()), golden()).scorecard(Subject(None, BASE))
    assert (card.index_version, card.adapter) == (None, None)
    assert {one.sources for one in card.graded} == {()}


def test_the_digest_of_the_questions_stands_on_the_scorecard(space: Workspace) -> None:
    corpus, subject = corpus_of(pages()), Subject(None, BASE)
    cards = [examiner(space, corpus, asked).scorecard(subject) for asked in (golden(), golden(), golden("Pump"))]
    assert cards[0].questions == cards[1].questions
    assert cards[0].questions != cards[2].questions


def test_the_same_evidence_is_gathered_twice_and_asked_once(space: Workspace) -> None:
    subject = Subject(index_of(space, pages()), taught(space))
    found = [seen(space, pages("Pump"), subject, golden("Pump")) for _ in range(2)]
    assert found[0].content_digest() == found[1].content_digest()
    assert len(CountingReader.prompts) == len(set(CountingReader.prompts))
