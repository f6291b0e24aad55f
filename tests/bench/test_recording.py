"""Does a recording take a step's data as the project takes its folders, and note all that the model is asked?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.recording import FOUND, GOLD, READING, Listening, corpus_of
from bench.streams import Step
from pipelines.build.corpus import Corpus, read_corpus
from pipelines.build.models import Models
from pipelines.observe.snapshot import observe
from pipelines.params import Params
from pipelines.ports import Lesson, Message, Prompt, quiet
from pipelines.prove.attribution import Examiner, Subject
from pipelines.prove.questions import GoldenSet
from pipelines.prove.signals import pupil_of, surprise_of
from pipelines.records import BuiltModel, Chunk, Question
from tests.factories import Shelf, question, workspace, write
from tests.fakes import CountingEmbedder, CountingReader, CountingTrainer

CAREFUL = {"max_removed_documents": 1, "max_removed_share": 0.0}
PARAMS = Params.model_validate({"guard": CAREFUL, "chunk": {"max_words": 20}})
UNTAUGHT = BuiltModel(base="reader-1", adapter=None, examples=None, settings=None)
LONG = "# Long\n\n" + "\n\n".join(f"Paragraph {number} has some words of its own to tell." for number in range(6))

# --- a step's data -------------------------------------------------------------------------------------------------


def step(documents: dict[str, str], *examples: dict[str, str], truth: tuple[Question, ...] = ()) -> Step:
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
    assert (names(corpus), corpus.held, corpus.waiting) == (["2.md", "3.md"], {}, 0)


def test_pages_that_vanish_together_stay_as_the_rows_have_them() -> None:
    before = pages(1, 2, 3) | {"long.md": LONG}
    corpus = after(before, step(pages(2) | {"4.md": "# Page 4\n\nNew.\n"}))
    assert list(corpus.held) == ["1.md", "3.md", "long.md"]
    assert corpus.waiting == 3
    assert names(corpus) == ["1.md", "2.md", "3.md", "4.md", "long.md"]
    assert set(rows(before)) < set(corpus.chunks)
    assert list(corpus.chunks) == sorted(corpus.chunks, key=lambda chunk: chunk.key)


def test_a_page_that_has_only_another_name_is_no_removal() -> None:
    corpus = after(pages(1, 2, 3), step({f"moved/{name}": text for name, text in pages(1, 2, 3).items()}))
    assert (corpus.held, names(corpus)) == ({}, ["moved/1.md", "moved/2.md", "moved/3.md"])


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
    space = workspace(tmp_path, guard=CAREFUL, chunk={"max_words": 20})
    shelf = Shelf(space.index_uri, chunk=space.params.chunk)
    shelf.refresh(rows(before))
    for name, text in now.documents.items():
        write(space.kb / name, text)
    write(space.train / "a.jsonl", "".join(json.dumps(one) + "\n" for one in now.examples))
    real = read_corpus(space, observe(space), shelf.index, shelf.latest)
    made = corpus_of(now, shelf.index.documents(), PARAMS, shelf.index.chunks(sorted(before), shelf.latest))
    assert (made.chunks, made.documents, made.held) == (real.chunks, real.documents, real.held)
    assert made.waiting == real.waiting
    assert [one.doc for one in made.examples] == [one.doc for one in real.examples]
    assert [one.doc for one in made.orphans] == [one.doc for one in real.orphans]
    assert [one.kind for one in made.left_out] == [one.kind for one in real.left_out]
    assert made.snapshot.kb_id == real.snapshot.kb_id


# --- what is asked -------------------------------------------------------------------------------------------------

PUMP = "# Pump\n\n## Pump 1\n\n- End of life: 2027-01-01\n"
ASKS = question(question="When does Pump 1 reach end of life?", answers=("2027-01-01",), docs=("pump.md",))


def listening(root: Path) -> Listening:
    return Listening(workspace(root), Models(CountingEmbedder(), CountingReader(), CountingTrainer()), quiet)


def prompt(text: str) -> Prompt:
    return (Message("user", text),)


def lesson(text: str) -> Lesson:
    return Lesson(prompt(text), "That.")


def test_what_is_asked_is_noted_once_for_each_signal_and_then_forgotten(tmp_path: Path) -> None:
    answerer = listening(tmp_path)
    answerer.answer(FOUND, [prompt("a"), prompt("b"), prompt("a")], UNTAUGHT)
    answerer.answer(GOLD, [prompt("a")], UNTAUGHT)
    answerer.losses(READING, [lesson("a"), lesson("c")], UNTAUGHT)
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
        answerer.answer(FOUND, [prompt("a")], UNTAUGHT)
        notes.append(answerer.take())
    assert notes[0] == notes[1] != listening(tmp_path).take()


def test_another_adapter_is_asked_anew(tmp_path: Path) -> None:
    answerer = listening(tmp_path)
    write(tmp_path / ".ragtide/adapters/a1/skills.json", '{"reads": true}')
    keys = set()
    for model in (UNTAUGHT, UNTAUGHT.model_copy(update={"adapter": "a1"})):
        answerer.answer(FOUND, [prompt("a")], model)
        keys |= set(answerer.take().found)
    assert len(keys) == 2


def test_what_the_evidence_asks_is_heard_under_the_names_that_are_paid_for(tmp_path: Path) -> None:
    answerer = listening(tmp_path)
    write(tmp_path / ".ragtide/adapters/a1/skills.json", '{"reads": true}')
    corpus = corpus_of(step({"pump.md": PUMP}, example("pump.md")), {}, PARAMS)
    shelf = Shelf(str(tmp_path / "lance"), CountingEmbedder())
    shelf.refresh(corpus.chunks)
    reader, model = shelf.index.reader(shelf.latest), UNTAUGHT.model_copy(update={"adapter": "a1"})
    examiner = Examiner(corpus, GoldenSet((ASKS,), ()), answerer, PARAMS)
    examiner.with_gold(Subject(reader, model))
    examiner.with_retrieval(Subject(reader, model))
    surprise_of(pupil_of(corpus, model, "s"), corpus, reader, answerer, PARAMS)
    asked = answerer.take()
    assert [len(one) for one in (asked.found, asked.gold, asked.losses)] == [1, 1, 1]
