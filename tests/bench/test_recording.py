"""Does a recording take a step's data as the project takes its folders, and note all that the model is asked?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from bench import recording
from bench.recording import ACTIONS, FOUND, GOLD, READING, Listening, Recording, Seen, Stage, corpus_of
from bench.streams import Step, Stream
from ragtide.pipelines.corpus import Corpus, IndexVersion, read_corpus
from ragtide.pipelines.data.snapshot import take_snapshot
from ragtide.pipelines.evaluation.evaluator import Evaluator, SystemUnderTest
from ragtide.pipelines.evaluation.questions import GoldenSet
from ragtide.pipelines.evidence.text_signals import excess_loss_on_new, split_seen_examples
from ragtide.pipelines.models.load import LoadedEmbedder, Models
from ragtide.pipelines.params import Params
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
LONG = "# Long\n\n" + "\n\n".join(f"Paragraph {number} has some words of its own to tell." for number in range(6))

# --- a step's data -------------------------------------------------------------------------------------------------


def step(documents: dict[str, str], *examples: dict[str, str], truth: tuple[GoldenQuestion, ...] = ()) -> Step:
    return Step(documents=documents, examples=examples, questions=truth, truth=truth, right=None, what="a step")


def pages(*numbers: int) -> dict[str, str]:
    return {f"{number}.md": f"# Page {number}\n\nThis is page {number}.\n" for number in numbers}


def example(doc: str | None) -> dict[str, str]:
    return {"prompt": f"What is in {doc}?", "completion": "That."} | ({"doc": doc} if doc else {})


def rows(documents: dict[str, str]) -> tuple[Chunk, ...]:
    """What an index of these documents holds."""
    return corpus_of(step(documents), {}, PARAMS).chunks


def indexed(documents: dict[str, str]) -> dict[str, str]:
    return {chunk.document: chunk.document_digest for chunk in rows(documents)}


def after(before: dict[str, str], now: Step) -> Corpus:
    """The corpus of a step, with an index of what was there before."""
    return corpus_of(now, indexed(before), PARAMS, rows(before))


def names(corpus: Corpus) -> list[str]:
    return list(dict.fromkeys(chunk.document for chunk in corpus.chunks))


def test_what_may_go_is_gone() -> None:
    corpus = after(pages(1, 2, 3), step(pages(2, 3)))
    assert (names(corpus), corpus.pending_deletions, corpus.waiting) == (["2.md", "3.md"], {}, 0)


def test_pages_that_vanish_together_stay_as_the_rows_have_them() -> None:
    before = pages(1, 2, 3) | {"long.md": LONG}
    corpus = after(before, step(pages(2) | {"4.md": "# Page 4\n\nNew.\n"}))
    assert list(corpus.pending_deletions) == ["1.md", "3.md", "long.md"]
    assert corpus.waiting == 3
    assert names(corpus) == ["1.md", "2.md", "3.md", "4.md", "long.md"]
    assert set(rows(before)) < set(corpus.chunks)
    assert list(corpus.chunks) == sorted(corpus.chunks, key=lambda chunk: chunk.key)


def test_a_page_that_has_only_another_name_is_no_removal() -> None:
    corpus = after(pages(1, 2, 3), step({f"moved/{name}": text for name, text in pages(1, 2, 3).items()}))
    assert (corpus.pending_deletions, names(corpus)) == ({}, ["moved/1.md", "moved/2.md", "moved/3.md"])


def test_a_held_page_can_still_be_asked_about() -> None:
    corpus = after({"long.md": LONG, **pages(1, 2)}, step(pages(2)))
    assert list(corpus.texts) == ["1.md", "2.md", "long.md"]
    assert all(f"Paragraph {number} has" in corpus.texts["long.md"] for number in range(6))


def test_an_example_is_an_orphan_only_when_its_page_is_really_gone() -> None:
    taught = [example("1.md"), example("2.md"), example(None)]
    waits = after(pages(1, 2, 3), step(pages(2), *taught))
    gone = after(pages(1, 2), step(pages(2), *taught))
    assert ([one.doc for one in waits.examples], waits.orphans) == (["1.md", "2.md", None], ())
    assert ([one.doc for one in gone.examples], [one.doc for one in gone.orphans]) == (["2.md", None], ["1.md"])


def test_what_is_held_does_not_change_what_the_data_is_called() -> None:
    now = step(pages(2), example("2.md"), truth=(question(),))
    assert after(pages(1, 2, 3), now).snapshot == corpus_of(now, {}, PARAMS).snapshot
    ids = {
        corpus_of(other, {}, PARAMS).snapshot.id
        for other in (now, step(pages(2)), step(pages(3), example("2.md"), truth=(question(),)))
    }
    assert len(ids) == 3


@pytest.mark.parametrize("left", [(1, 2, 3, 4), (1, 2, 3), (1,)], ids=["all", "one goes", "three wait"])
def test_a_steps_corpus_is_what_the_project_reads_from_the_same_folders(left: tuple[int, ...], tmp_path: Path) -> None:
    before, now = (
        {"long.md": LONG, **pages(2, 3, 4), **pages(1)},
        step(pages(*left), *map(example, ("4.md", None, "4.md"))),
    )
    space = workspace(tmp_path, deletion_guard=CAREFUL, chunk={"max_words": 20})
    shelf = Shelf(space.index_uri, chunk=space.params.chunk)
    shelf.refresh(rows(before))
    for name, text in now.documents.items():
        write(space.kb / name, text)
    write(space.train / "a.jsonl", "".join(json.dumps(one) + "\n" for one in now.examples))
    real = read_corpus(space, take_snapshot(space), IndexVersion(shelf.index, shelf.latest))
    made = corpus_of(now, shelf.index.documents(), PARAMS, shelf.index.chunks(sorted(before), shelf.latest))
    assert (made.chunks, made.documents, made.pending_deletions) == (
        real.chunks,
        real.documents,
        real.pending_deletions,
    )
    assert made.waiting == real.waiting
    assert [one.doc for one in made.examples] == [one.doc for one in real.examples]
    assert [one.doc for one in made.orphans] == [one.doc for one in real.orphans]
    assert [one.kind for one in made.filtered] == [one.kind for one in real.filtered]
    assert made.snapshot.kb_id == real.snapshot.kb_id


# --- what is asked -------------------------------------------------------------------------------------------------

PUMP = "# Pump\n\n## Pump 1\n\n- End of life: 2027-01-01\n"
ASKS = question(question="When does Pump 1 reach end of life?", answers=("2027-01-01",), docs=("pump.md",))


def listening(root: Path) -> Listening:
    return Listening(workspace(root), Models(CountingEmbedder(), CountingReader(), CountingTrainer()), no_progress)


def prompt(text: str) -> Prompt:
    return (Message("user", text),)


def lesson(text: str) -> TrainingSample:
    return TrainingSample(prompt(text), "That.")


def test_what_is_asked_is_noted_once_for_each_signal_and_then_forgotten(tmp_path: Path) -> None:
    answerer = listening(tmp_path)
    answerer.answer(FOUND, [prompt("a"), prompt("b"), prompt("a")], BASE)
    answerer.answer(GOLD, [prompt("a")], BASE)
    answerer.losses(READING, [lesson("a"), lesson("c")], BASE)
    asked = answerer.take()
    assert [len(one) for one in (asked.found, asked.gold, asked.losses)] == [2, 1, 2]
    # The same prompt is the same question, whichever signal asks; a loss is another one.
    assert set(asked.gold) < set(asked.found)
    assert not set(asked.losses) & set(asked.found)
    assert answerer.take().found == ()


def test_what_is_known_already_is_noted_too_for_another_path_may_not_have_asked_it(tmp_path: Path) -> None:
    answerer = listening(tmp_path)
    notes = []
    for _ in range(2):
        answerer.answer(FOUND, [prompt("a")], BASE)
        notes.append(answerer.take())
    assert notes[0] == notes[1] != listening(tmp_path).take()


def test_another_adapter_is_asked_anew(tmp_path: Path) -> None:
    answerer = listening(tmp_path)
    write(tmp_path / ".ragtide/adapters/a1/skills.json", '{"reads": true}')
    keys = set()
    for model in (BASE, BASE.model_copy(update={"adapter": "a1"})):
        answerer.answer(FOUND, [prompt("a")], model)
        keys |= set(answerer.take().found)
    assert len(keys) == 2


def test_what_the_evidence_asks_is_heard_under_the_names_that_are_paid_for(tmp_path: Path) -> None:
    answerer = listening(tmp_path)
    write(tmp_path / ".ragtide/adapters/a1/skills.json", '{"reads": true}')
    corpus = corpus_of(step({"pump.md": PUMP}, example("pump.md")), {}, PARAMS)
    shelf = Shelf(str(tmp_path / "lance"), CountingEmbedder())
    shelf.refresh(corpus.chunks)
    reader, model = shelf.index.retriever(shelf.latest), BASE.model_copy(update={"adapter": "a1"})
    examiner = Evaluator(corpus, GoldenSet((ASKS,), ()), answerer, PARAMS)
    examiner.with_gold(SystemUnderTest(reader, model))
    examiner.with_retrieval(SystemUnderTest(reader, model))
    excess_loss_on_new(split_seen_examples(corpus, model, "s"), corpus, reader, answerer, PARAMS)
    asked = answerer.take()
    assert [len(one) for one in (asked.found, asked.gold, asked.losses)] == [1, 1, 1]


# --- what is carried out -------------------------------------------------------------------------------------------

TUNED, PLAIN = "tuned", "plain"
PUMPS = ("Pump 1", "Pump 2", "Pump 3", "Pump 4")


class TunedEmbedder(CountingEmbedder):
    """Other weights of the same embedder."""

    def __init__(self, digest: str) -> None:
        super().__init__()
        self.fingerprint = digest


class Tuner:
    """Tunes nothing, and counts what it was given."""

    def __init__(self) -> None:
        self.given: list[int] = []

    def build(
        self, space: Workspace, pairs: Sequence[TrainingPair], _reader: object, _progress: object
    ) -> BuiltEmbedder:
        self.given.append(len(pairs))
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
    """One stream under two names, carried out by the real stage on fakes: only as `tuned` are two pairs enough.

    `again` is `tuned` once more in the same folder; `given` and `given_again` are the sizes of what was tuned on, until
    then and from then on.
    """

    plain: Recording
    tuned: Recording
    again: Recording
    given: list[int]
    given_again: list[int]


@pytest.fixture(scope="module")
def carried(tmp_path_factory: pytest.TempPathFactory) -> Carried:
    fakes: dict[str, Any] = {
        "embed": {"model": "tests.fakes:CountingEmbedder"},
        "generate": {"model": "tests.fakes:CountingReader"},
        "finetune": {"trainer": "tests.fakes:CountingTrainer", "min_examples": 1},
    }
    tuner, root = Tuner(), tmp_path_factory.mktemp("stage")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recording, "PARAMS", recording.PARAMS | fakes)
        patch.setitem(recording.BESIDES, TUNED, {"embedder_tuning": {"batch_size": 2, "epochs": 3}})
        patch.setattr(recording, "build_embedder", tuner.build)
        patch.setattr(recording, "load_index_embedder", tuner.load)
        plain = carried_out(PLAIN, root / PLAIN)
        tuned = carried_out(TUNED, root / TUNED)
        given = list(tuner.given)
        again = carried_out(TUNED, root / TUNED)
    return Carried(plain, tuned, again, given, tuner.given[len(given) :])


def carried_out(name: str, root: Path) -> Recording:
    """Two pumps are asked about; there are more examples, and then one pump lives longer."""
    return Stage(Stream(name, stream_steps(), "test"), root, no_progress).carry_out()


def stream_steps() -> tuple[Step, ...]:
    documents = {f"{name}.md": f"# {name}\n\n## {name} 1\n\n- End of life: 2027-01-01\n" for name in PUMPS}
    moved = documents | {"Pump 1.md": documents["Pump 1.md"].replace("2027", "2031")}
    asks = tuple(
        question(name, question=f"When does {name} 1 reach end of life?", answers=("2027-01-01",), docs=(f"{name}.md",))
        for name in PUMPS[:2]
    )
    moved_asks = (asks[0].model_copy(update={"answers": ("2031-01-01",)}), *asks[1:])
    plain, more = [example("Pump 4.md")], [example("Pump 4.md"), example("Pump 3.md")]
    return (
        step(documents, *plain, truth=asks),
        step(documents, *more, truth=asks),
        step(moved, *more, truth=moved_asks),
    )


def looked_at(of: Recording) -> list[tuple[dict[str, Seen], Seen]]:
    """Every state that may be live before something is done about a step, with all that was seen at that step."""
    return [(turn.seen, one) for turn in of.turns for one in turn.seen.values() if one.evidence is not None]


def test_every_state_that_an_action_leads_to_was_looked_at(carried: Carried) -> None:
    for of in (carried.plain, carried.tuned):
        assert of.turns[0].seen[of.start.key].evidence is not None
        for seen, one in looked_at(of):
            assert all(one.after(action).key in seen for action in one.actions)
        for before, after in pairwise(of.turns):
            assert before.seen.keys() == {key for key, one in after.seen.items() if one.evidence is not None}


def test_a_stream_that_cannot_tune_knows_nothing_of_retrievers(carried: Carried) -> None:
    of = carried.plain
    assert of.trained_pairs == {}
    # Two indexes and two models, each beside each as far as a policy can have come.
    assert [len(turn.seen) for turn in of.turns] == [2, 4]
    for _, one in looked_at(of):
        assert (one.actions, one.tuned, one.all_chunks, one.scorecard.retrieval) == (ACTIONS, "", 0, {})
        assert one.state.key == f"{one.state.index}/{one.state.model}"
        assert one.evidence is not None
        assert (one.evidence.min_pairs or 0) > (one.evidence.pairs or 0) > 0


def test_where_nothing_is_tuned_a_stream_that_can_tune_records_the_same(carried: Carried) -> None:
    def told(one: Seen) -> tuple[Any, ...]:
        return one.score, one.asked, one.refreshed, one.retrained, one.to_embed, one.scorecard.graded

    for plain, tuned in zip(carried.plain.turns, carried.tuned.turns, strict=True):
        assert plain.seen.keys() < tuned.seen.keys()
        assert [told(one) for one in plain.seen.values()] == [told(tuned.seen[key]) for key in plain.seen]


def test_what_a_tuning_takes_is_told_by_its_pairs_and_all_chunks(carried: Carried) -> None:
    of = carried.tuned
    first, second = (turn.seen[of.start.key] for turn in of.turns)
    # Four headings and the questions of two examples, three times; then a page says something else.
    assert carried.given == [6, 6]
    assert of.trained_pairs == {first.tuned: 18, second.tuned: 18}
    assert (first.all_chunks, first.to_embed, second.all_chunks, second.to_embed) == (4, 0, 4, 1)
    assert first.evidence is not None
    assert (first.evidence.pairs, first.evidence.min_pairs, first.evidence.new_pairs) == (6, 2, 1.0)
    after = of.turns[1].seen[first.after(Action.TUNE_EMBEDDER).key]
    assert after.evidence is not None
    assert 0 < (after.evidence.new_pairs or 0) < 1


def test_a_refresh_keeps_the_tuned_retriever_and_another_tuning_takes_its_place(carried: Carried) -> None:
    of = carried.tuned
    tuned = of.turns[0].seen[of.start.key].after(Action.TUNE_EMBEDDER)
    later = of.turns[1].seen[tuned.key]
    refreshed, again = later.after(Action.REFRESH), later.after(Action.TUNE_EMBEDDER.with_retrain())
    assert (refreshed.tuned_embedder, refreshed.model) == (tuned.tuned_embedder, tuned.model)
    assert refreshed.index == again.index != tuned.index
    assert again.tuned_embedder not in ("", tuned.tuned_embedder)
    assert of.turns[1].seen[refreshed.key].score > of.turns[1].seen[tuned.key].score


def test_only_where_a_retriever_can_be_tuned_it_is_seen_how_high_documents_are_found(carried: Carried) -> None:
    seen = [one for turn in carried.tuned.turns for one in turn.seen.values()]
    assert all("hybrid" in one.scorecard.retrieval for one in seen)


def test_a_run_that_was_broken_off_tunes_nothing_twice(carried: Carried) -> None:
    assert carried.given_again == []
    assert carried.again.trained_pairs == carried.tuned.trained_pairs
    assert [turn.seen.keys() for turn in carried.again.turns] == [turn.seen.keys() for turn in carried.tuned.turns]


def test_a_recording_of_before_there_were_tuned_retrievers_can_still_be_read(carried: Carried, tmp_path: Path) -> None:
    carried.plain.write(tmp_path / "new.json")
    assert Recording.read(tmp_path / "new.json") == carried.plain
    old = json.loads((tmp_path / "new.json").read_text(encoding="utf-8"))
    del old["trained_pairs"]
    del old["start"]["tuned_embedder"]
    for seen in (one for turn in old["turns"] for one in turn["seen"].values()):
        del seen["tuned"], seen["all_chunks"], seen["state"]["tuned_embedder"]
    write(tmp_path / "old.json", json.dumps(old))
    assert Recording.read(tmp_path / "old.json") == carried.plain
