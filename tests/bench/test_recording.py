"""Tests of recordings: a step's corpus, recorded prompts, and the states that every action leads to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from bench import recording
from bench.rates import Rates
from bench.recorded_states import (
    ACTIONS,
    Recording,
    Seen,
    read_recording,
    shareable,
    write_recording,
)
from bench.recorded_states import BASE as BASE_MODEL
from bench.recording import GOLD, LOSSES, RETRIEVED, RecordingAnswerer, Stage
from bench.regret import run_policy
from bench.step_corpus import corpus_of
from bench.streams import Step, Stream
from ragtide.pipelines.corpus import Corpus, read_corpus
from ragtide.pipelines.data.snapshot import take_snapshot
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.evaluation.evaluator import Evaluator, SystemUnderTest
from ragtide.pipelines.evaluation.questions import GoldenSet
from ragtide.pipelines.evidence.training_data import excess_loss_on_new, split_seen_examples
from ragtide.pipelines.index.folder import IndexVersion
from ragtide.pipelines.models.load import LoadedEmbedder, Models
from ragtide.pipelines.params import Params, PolicyParams
from ragtide.pipelines.ports import Message, Prompt, TrainingSample, no_progress
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.base import json_digest
from ragtide.pipelines.records.data import Chunk
from ragtide.pipelines.records.evaluation import GoldenQuestion
from ragtide.pipelines.records.release import BuiltEmbedder
from ragtide.pipelines.training.embedder_tuning import pair_sketch, tuning_settings
from ragtide.pipelines.training.pairs import TrainingPair
from ragtide.pipelines.workspace import Workspace
from tests.factories import BASE, Shelf, question, workspace, write
from tests.fakes import CountingEmbedder, CountingReader, CountingTrainer

CAREFUL = {"max_removed_documents": 1, "max_removed_share": 0.0}
PARAMS = Params.model_validate({"deletion_guard": CAREFUL, "chunk": {"max_words": 20}})
LONG = "# Long\n\n" + "\n\n".join(f"Paragraph {number} has some words of its own to say." for number in range(6))

# --- a step's data -------------------------------------------------------------------------------------------------


def step(documents: dict[str, str], *examples: dict[str, str], truth: tuple[GoldenQuestion, ...] = ()) -> Step:
    return Step(documents=documents, examples=examples, questions=truth, truth=truth, right=None, description="a step")


def pages(*numbers: int) -> dict[str, str]:
    return {f"{number}.md": f"# Page {number}\n\nThis is page {number}.\n" for number in numbers}


def example(doc: str | None) -> dict[str, str]:
    return {"prompt": f"What is in {doc}?", "completion": "That."} | ({"doc": doc} if doc else {})


def rows(documents: dict[str, str]) -> tuple[Chunk, ...]:
    """Return the chunks of an index of these documents."""
    return corpus_of(step(documents), {}, PARAMS).knowledge.chunks


def indexed(documents: dict[str, str]) -> dict[str, str]:
    return {chunk.document: chunk.document_digest for chunk in rows(documents)}


def after(before: dict[str, str], now: Step) -> Corpus:
    """Return the corpus of a step with an index of earlier documents."""
    return corpus_of(now, indexed(before), PARAMS, rows(before))


def names(corpus: Corpus) -> list[str]:
    return list(dict.fromkeys(chunk.document for chunk in corpus.knowledge.chunks))


def test_an_allowed_deletion_is_carried_out() -> None:
    corpus = after(pages(1, 2, 3), step(pages(2, 3)))
    assert (names(corpus), corpus.knowledge.pending_deletions, corpus.knowledge.waiting) == (["2.md", "3.md"], {}, 0)


def test_pages_deleted_in_a_mass_deletion_stay_as_the_rows_hold_them() -> None:
    before = pages(1, 2, 3) | {"long.md": LONG}
    corpus = after(before, step(pages(2) | {"4.md": "# Page 4\n\nNew.\n"}))
    assert list(corpus.knowledge.pending_deletions) == ["1.md", "3.md", "long.md"]
    assert corpus.knowledge.waiting == 3
    assert names(corpus) == ["1.md", "2.md", "3.md", "4.md", "long.md"]
    assert set(rows(before)) < set(corpus.knowledge.chunks)
    assert list(corpus.knowledge.chunks) == sorted(corpus.knowledge.chunks, key=lambda chunk: chunk.key)


def test_a_renamed_page_is_not_a_deletion() -> None:
    corpus = after(pages(1, 2, 3), step({f"moved/{name}": text for name, text in pages(1, 2, 3).items()}))
    assert (corpus.knowledge.pending_deletions, names(corpus)) == ({}, ["moved/1.md", "moved/2.md", "moved/3.md"])


def test_a_page_pending_deletion_can_still_be_asked_about() -> None:
    corpus = after({"long.md": LONG, **pages(1, 2)}, step(pages(2)))
    assert list(corpus.knowledge.texts) == ["1.md", "2.md", "long.md"]
    assert all(f"Paragraph {number} has" in corpus.knowledge.texts["long.md"] for number in range(6))


def test_an_example_is_an_orphan_only_once_its_page_is_deleted() -> None:
    examples = [example("1.md"), example("2.md"), example(None)]
    pending = after(pages(1, 2, 3), step(pages(2), *examples))
    deleted = after(pages(1, 2), step(pages(2), *examples))
    assert ([kept.doc for kept in pending.training.examples], pending.training.orphans) == (["1.md", "2.md", None], ())
    assert ([kept.doc for kept in deleted.training.examples], [orphan.doc for orphan in deleted.training.orphans]) == (
        ["2.md", None],
        ["1.md"],
    )


def test_pending_deletions_do_not_change_the_snapshot() -> None:
    now = step(pages(2), example("2.md"), truth=(question(),))
    assert after(pages(1, 2, 3), now).snapshot == corpus_of(now, {}, PARAMS).snapshot
    ids = {
        corpus_of(other, {}, PARAMS).snapshot.id
        for other in (now, step(pages(2)), step(pages(3), example("2.md"), truth=(question(),)))
    }
    assert len(ids) == 3


def test_a_page_that_moved_and_was_edited_is_a_move_and_examples_follow_it() -> None:
    edited = {"moved/long.md": LONG.replace("Paragraph 3 has", "Paragraph 3 had"), **pages(1, 2)}
    corpus = after({"long.md": LONG, **pages(1, 2)}, step(edited, example("long.md")))
    assert (corpus.knowledge.paths.moves, corpus.knowledge.deleted) == ({"long.md": "moved/long.md"}, {})
    assert [kept.doc for kept in corpus.training.examples] == ["moved/long.md"]


def test_deleted_pages_are_named_and_those_pending_are_not_among_them() -> None:
    assert list(after(pages(1, 2, 3), step(pages(2, 3))).knowledge.deleted) == ["1.md"]
    assert after(pages(1, 2, 3), step(pages(3))).knowledge.deleted == {}


MOVED = {"moved/long.md": LONG.replace("Paragraph 3 has", "Paragraph 3 had")}


@pytest.mark.parametrize(
    "remaining",
    [pages(1, 2, 3, 4), pages(1, 2, 3), pages(1), pages(1, 2, 3, 4) | MOVED, pages(1, 2, 3) | {"long.md": "# Long\n"}],
    ids=["one deleted", "two pending", "three pending", "moved and edited", "deleted and emptied"],
)
def test_a_steps_corpus_equals_the_one_that_the_project_reads_from_the_same_folders(
    remaining: dict[str, str], tmp_path: Path
) -> None:
    before = {"long.md": LONG, **pages(2, 3, 4), **pages(1)}
    now = step(remaining, *map(example, ("4.md", None, "4.md", "long.md")))
    space = workspace(tmp_path, deletion_guard=CAREFUL, chunk={"max_words": 20})
    shelf = Shelf(space.index_uri, chunk=space.params.chunk)
    shelf.refresh(rows(before))
    for name, text in now.documents.items():
        write(space.kb / name, text)
    write(space.train / "a.jsonl", "".join(json.dumps(line) + "\n" for line in now.examples))
    real = read_corpus(space, take_snapshot(space), IndexVersion(shelf.index, shelf.latest))
    made = corpus_of(now, shelf.index.documents(), PARAMS, shelf.index.chunks(sorted(before), shelf.latest))
    for name in ("chunks", "documents", "pending_deletions", "deleted", "waiting", "lost"):
        assert getattr(made.knowledge, name) == getattr(real.knowledge, name)
    assert made.knowledge.paths.moves == real.knowledge.paths.moves
    assert [kept.doc for kept in made.training.examples] == [kept.doc for kept in real.training.examples]
    assert [orphan.doc for orphan in made.training.orphans] == [orphan.doc for orphan in real.training.orphans]
    assert [issue.kind for issue in made.training.filtered] == [issue.kind for issue in real.training.filtered]
    assert made.snapshot.kb_id == real.snapshot.kb_id


# --- recorded prompts ----------------------------------------------------------------------------------------------

PUMP = "# Pump\n\n## Pump 1\n\n- End of life: 2027-01-01\n"
PUMP_QUESTION = question(question="When does Pump 1 reach end of life?", answers=("2027-01-01",), docs=("pump.md",))


def recording_answerer(root: Path) -> RecordingAnswerer:
    return RecordingAnswerer(
        workspace(root), Models(CountingEmbedder(), CountingReader(), CountingTrainer()), no_progress
    )


def prompt(text: str) -> Prompt:
    return (Message("user", text),)


def sample(text: str) -> TrainingSample:
    return TrainingSample(prompt(text), "That.")


def test_prompts_are_recorded_once_per_signal_and_then_forgotten(tmp_path: Path) -> None:
    answerer = recording_answerer(tmp_path)
    answerer.answer(RETRIEVED, [prompt("a"), prompt("b"), prompt("a")], BASE)
    answerer.answer(GOLD, [prompt("a")], BASE)
    answerer.losses(LOSSES, [sample("a"), sample("c")], BASE)
    asked = answerer.take()
    assert [len(keys) for keys in (asked.retrieved, asked.gold, asked.losses)] == [2, 1, 2]
    # The same prompt has the same key, whichever signal asks; the key of a loss differs.
    assert set(asked.gold) < set(asked.retrieved)
    assert not set(asked.losses) & set(asked.retrieved)
    assert answerer.take().retrieved == ()


def test_cached_answers_are_recorded_too_since_another_policy_may_not_have_paid_for_them(tmp_path: Path) -> None:
    answerer = recording_answerer(tmp_path)
    records = []
    for _ in range(2):
        answerer.answer(RETRIEVED, [prompt("a")], BASE)
        records.append(answerer.take())
    assert records[0] == records[1] != recording_answerer(tmp_path).take()


def test_prompts_to_another_adapter_have_other_keys(tmp_path: Path) -> None:
    answerer = recording_answerer(tmp_path)
    write(tmp_path / ".ragtide/adapters/a1/skills.json", '{"reads": true}')
    keys = set()
    for model in (BASE, BASE.model_copy(update={"adapter": "a1"})):
        answerer.answer(RETRIEVED, [prompt("a")], model)
        keys |= set(answerer.take().retrieved)
    assert len(keys) == 2


def test_prompts_of_the_evidence_are_recorded_under_the_labels_that_are_paid_for(tmp_path: Path) -> None:
    answerer = recording_answerer(tmp_path)
    write(tmp_path / ".ragtide/adapters/a1/skills.json", '{"reads": true}')
    corpus = corpus_of(step({"pump.md": PUMP}, example("pump.md")), {}, PARAMS)
    shelf = Shelf(str(tmp_path / "lance"), CountingEmbedder())
    shelf.refresh(corpus.knowledge.chunks)
    retriever, model = shelf.index.retriever(shelf.latest), BASE.model_copy(update={"adapter": "a1"})
    evaluator = Evaluator(corpus.knowledge, GoldenSet((PUMP_QUESTION,), ()), answerer, PARAMS)
    evaluator.with_gold(SystemUnderTest(retriever, model))
    evaluator.with_retrieval(SystemUnderTest(retriever, model))
    examples = split_seen_examples(corpus.training.examples, model, "s")
    excess_loss_on_new(examples, corpus.knowledge.chunks_by_document, retriever, answerer, PARAMS)
    asked = answerer.take()
    assert [len(keys) for keys in (asked.retrieved, asked.gold, asked.losses)] == [1, 1, 1]


# --- carried out actions -------------------------------------------------------------------------------------------

TUNED, PLAIN = "tuned", "plain"
PUMPS = ("Pump 1", "Pump 2", "Pump 3", "Pump 4")


class TunedEmbedder(CountingEmbedder):
    """The same embedder with other weights."""

    def __init__(self, digest: str) -> None:
        super().__init__()
        self.fingerprint = digest


class CountingTuner:
    """Stand-in for fine-tuning the embedder that counts its pairs."""

    def __init__(self) -> None:
        self.pair_counts: list[int] = []

    def build(
        self, space: Workspace, pairs: Sequence[TrainingPair], _retriever: object, _progress: object
    ) -> BuiltEmbedder:
        self.pair_counts.append(len(pairs))
        digest = json_digest(pair_sketch(pairs))
        (space.tuned_embedders / digest).mkdir(parents=True)
        return BuiltEmbedder(
            digest=digest,
            base="bag-of-words",
            settings=tuning_settings(space.params),
            pairs=len(pairs),
            sketch=pair_sketch(pairs),
            steps=1,
            final_loss=0.1,
            seconds=1.0,
        )

    @staticmethod
    def load(_space: Workspace, _embedder: object, tuned: BuiltEmbedder) -> LoadedEmbedder:
        return LoadedEmbedder(TunedEmbedder(tuned.digest), tuned)


@dataclass(frozen=True)
class Carried:
    """One stream recorded under two names with fakes: only `tuned` has enough pairs for tuning the embedder.

    `again` is `tuned` recorded once more in the same folder; `pair_counts` and `pair_counts_again` are the numbers of
    pairs tuned on before and during that.
    """

    plain: Recording
    tuned: Recording
    again: Recording
    pair_counts: list[int]
    pair_counts_again: list[int]


@pytest.fixture(scope="module")
def carried(tmp_path_factory: pytest.TempPathFactory) -> Carried:
    fakes: dict[str, Any] = {
        "embed": {"model": "tests.fakes:CountingEmbedder"},
        "generate": {"model": "tests.fakes:CountingReader"},
        "finetune": {"trainer": "tests.fakes:CountingTrainer", "min_examples": 1},
    }
    tuner, root = CountingTuner(), tmp_path_factory.mktemp("stage")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recording, "PARAMS", recording.PARAMS | fakes)
        patch.setitem(recording.STREAM_PARAMS, TUNED, {"embedder_tuning": {"batch_size": 2, "epochs": 3}})
        patch.setattr(recording, "build_embedder", tuner.build)
        patch.setattr(recording, "load_index_embedder", tuner.load)
        plain = carried_out(PLAIN, root / PLAIN)
        tuned = carried_out(TUNED, root / TUNED)
        pair_counts = list(tuner.pair_counts)
        again = carried_out(TUNED, root / TUNED)
    return Carried(plain, tuned, again, pair_counts, tuner.pair_counts[len(pair_counts) :])


def carried_out(name: str, root: Path) -> Recording:
    """Record a stream with questions about two pumps: first an example is added, then a pump's end of life changes."""
    return Stage(Stream(name, stream_steps(), "test"), root, no_progress).carry_out()


def stream_steps() -> tuple[Step, ...]:
    documents = {f"{name}.md": f"# {name}\n\n## {name} 1\n\n- End of life: 2027-01-01\n" for name in PUMPS}
    changed = documents | {"Pump 1.md": documents["Pump 1.md"].replace("2027", "2031")}
    questions = tuple(
        question(name, question=f"When does {name} 1 reach end of life?", answers=("2027-01-01",), docs=(f"{name}.md",))
        for name in PUMPS[:2]
    )
    changed_questions = (questions[0].model_copy(update={"answers": ("2031-01-01",)}), *questions[1:])
    plain, more = [example("Pump 4.md")], [example("Pump 4.md"), example("Pump 3.md")]
    return (
        step(documents, *plain, truth=questions),
        step(documents, *more, truth=questions),
        replace(step(changed, *more, truth=changed_questions), changed_facts=changed_questions[:1]),
    )


def with_evidence(recorded: Recording) -> list[tuple[dict[str, Seen], Seen]]:
    """Return every state that may be live before a step's decision, with all states assessed at that step."""
    return [(step.seen, state) for step in recorded.steps for state in step.seen.values() if state.evidence is not None]


def test_every_state_that_an_action_leads_to_is_assessed(carried: Carried) -> None:
    for recorded in (carried.plain, carried.tuned):
        assert recorded.steps[0].seen[recorded.start.key].evidence is not None
        for seen, state in with_evidence(recorded):
            assert all(state.after(action).key in seen for action in state.actions)
            assert all(state.after(action).with_base_model.key in seen for action in state.actions)
        for before, after in pairwise(recorded.steps):
            live = {key for key, state in after.seen.items() if state.evidence is not None}
            # Of the states with the base model, only those that the gate would make live are looked at again.
            assert live <= before.seen.keys()
            assert all(key.split("/")[1] == BASE_MODEL for key in before.seen.keys() - live)


def test_changed_facts_are_asked_of_every_state_that_can_be_live_and_of_no_other(carried: Carried) -> None:
    first, second = carried.plain.steps
    assert {seen.changed_score for seen in first.seen.values()} == {None}
    live = second.seen[carried.plain.start.key]
    scores = {key: seen.changed_score for key, seen in second.seen.items() if seen.state.model != BASE_MODEL}
    assert scores[live.state.key] == 0.0
    assert scores[live.after(Action.REFRESH).key] == 1.0
    assert None not in scores.values()
    assert second.seen[live.state.with_base_model.key].changed_score is None


def test_a_stream_with_too_few_pairs_has_no_tuned_embedders(carried: Carried) -> None:
    recorded = carried.plain
    assert recorded.trained_pairs == {}
    # Two indexes and two models, in the combinations that a policy can have reached, and the base model on each index.
    assert [len(step.seen) for step in recorded.steps] == [3, 6]
    for _, state in with_evidence(recorded):
        assert (state.actions, state.tuned, state.all_chunks, state.scorecard.retrieval) == (ACTIONS, "", 0, {})
        assert state.state.key == f"{state.state.index}/{state.state.model}"
        assert state.evidence is not None
        assert (state.evidence.training.min_pairs or 0) > (state.evidence.training.pairs or 0) > 0


def test_states_without_a_tuned_embedder_are_recorded_alike_in_both_streams(carried: Carried) -> None:
    def values(seen: Seen) -> tuple[Any, ...]:
        return seen.score, seen.asked, seen.refreshed, seen.retrained, seen.to_embed, seen.scorecard.graded

    for plain, tuned in zip(carried.plain.steps, carried.tuned.steps, strict=True):
        assert plain.seen.keys() < tuned.seen.keys()
        assert [values(seen) for seen in plain.seen.values()] == [values(tuned.seen[key]) for key in plain.seen]


def test_the_pairs_and_chunks_of_an_embedder_tuning_are_recorded(carried: Carried) -> None:
    recorded = carried.tuned
    first, second = (step.seen[recorded.start.key] for step in recorded.steps)
    # Four headings and the questions of two examples, in three passes; in the second step a page has changed.
    assert carried.pair_counts == [6, 6]
    assert recorded.trained_pairs == {first.tuned: 18, second.tuned: 18}
    assert (first.all_chunks, first.to_embed, second.all_chunks, second.to_embed) == (4, 0, 4, 1)
    assert first.evidence is not None
    training = first.evidence.training
    assert (training.pairs, training.min_pairs, training.new_pairs) == (6, 2, 1.0)
    after = recorded.steps[1].seen[first.after(Action.TUNE_EMBEDDER).key]
    assert after.evidence is not None
    assert 0 < (after.evidence.training.new_pairs or 0) < 1


def test_a_refresh_keeps_the_tuned_embedder_and_another_tuning_replaces_it(carried: Carried) -> None:
    recorded = carried.tuned
    tuned = recorded.steps[0].seen[recorded.start.key].after(Action.TUNE_EMBEDDER)
    later = recorded.steps[1].seen[tuned.key]
    refreshed, again = later.after(Action.REFRESH), later.after(Action.TUNE_EMBEDDER.with_retrain())
    assert (refreshed.tuned_embedder, refreshed.model) == (tuned.tuned_embedder, tuned.model)
    assert refreshed.index == again.index != tuned.index
    assert again.tuned_embedder not in ("", tuned.tuned_embedder)
    assert recorded.steps[1].seen[refreshed.key].score > recorded.steps[1].seen[tuned.key].score


def test_search_methods_are_compared_where_the_embedder_can_be_tuned(carried: Carried) -> None:
    assessed = [seen for step in carried.tuned.steps for seen in step.seen.values()]
    assert all("hybrid" in seen.scorecard.retrieval for seen in assessed)


def test_a_second_run_tunes_nothing_twice(carried: Carried) -> None:
    assert carried.pair_counts_again == []
    assert carried.again.trained_pairs == carried.tuned.trained_pairs
    assert [step.seen.keys() for step in carried.again.steps] == [step.seen.keys() for step in carried.tuned.steps]


# --- files ---------------------------------------------------------------------------------------------------------


def test_a_recording_is_read_as_it_was_written_and_written_again_to_the_byte(carried: Carried, tmp_path: Path) -> None:
    first, second = tmp_path / "first.json.gz", tmp_path / "second.json.gz"
    size = write_recording(carried.tuned, first)
    assert read_recording(first) == shareable(carried.tuned)
    assert write_recording(read_recording(first), second) == size
    assert first.read_bytes() == second.read_bytes()


def test_a_shared_recording_has_no_text_of_answers_and_short_names(carried: Carried) -> None:
    shared = shareable(carried.tuned)
    assert "2031-01-01" in carried.tuned.model_dump_json()
    assert not any(answer in shared.model_dump_json() for answer in ("2027-01-01", "2031-01-01", "Paragraph"))
    assert shared.start.key == "i0/m0"
    for step in shared.steps:
        assert all(key == seen.state.key and key.startswith("i") for key, seen in step.seen.items())


def test_a_shared_recording_gives_the_same_runs(carried: Carried) -> None:
    rates = Rates(
        answer_seconds=1.0,
        loss_seconds=0.1,
        example_seconds=2.0,
        refresh_seconds=3.0,
        chunk_seconds=0.01,
        pair_seconds=0.3,
    )
    for name in ("evidence", "always"):
        runs = [run_policy(of, rates, PolicyParams(name=name), 0.0) for of in (carried.tuned, shareable(carried.tuned))]
        assert [step.points for step in runs[0].steps] == [step.points for step in runs[1].steps]
        assert runs[0].seconds == pytest.approx(runs[1].seconds)


def test_a_file_that_is_no_recording_is_told_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "broken.json.gz").write_bytes(b"no gzip")
    with pytest.raises(UserError, match=r"broken\.json\.gz"):
        read_recording(tmp_path / "broken.json.gz")
