"""Tests of the signals of changed text, vectors and new examples."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragtide.pipelines.build import training_settings
from ragtide.pipelines.corpus import Corpus, KnowledgeBase, TrainingSet
from ragtide.pipelines.evaluation.assistant import Answerer
from ragtide.pipelines.evidence import live_index as watch_module
from ragtide.pipelines.evidence.live_index import LiveIndexView, Stopwatch
from ragtide.pipelines.evidence.text_signals import FIRST, OFF, TextComparison, measure_text
from ragtide.pipelines.evidence.training_data import SeenExamples, excess_loss_on_new, split_seen_examples
from ragtide.pipelines.index.chunking import chunk_documents
from ragtide.pipelines.index.search import Retriever
from ragtide.pipelines.index.table import Index
from ragtide.pipelines.models.load import Models
from ragtide.pipelines.params import Params
from ragtide.pipelines.ports import Advance, Message, Prompt, no_progress
from ragtide.pipelines.records.data import Chunk
from ragtide.pipelines.records.evidence import Measure
from ragtide.pipelines.records.release import BuiltModel
from ragtide.pipelines.training.examples import Example
from ragtide.pipelines.training.samples import samples_with_passages
from tests import fakes
from tests.factories import SHORT, Shelf, chunk, document, question, snapshot, workspace, write
from tests.fakes import SKILLS, CountingEmbedder, CountingReader, CountingTrainer

law = settings(derandomize=True, deadline=None)
TOOLS = ("Anvil", "Brace", "Chisel", "Drill", "Easel", "Funnel", "Gauge", "Hammer", "Iron", "Jack")
OLD, NEW = "2027-01-01", "2031-05-05"
PARAMS = Params.model_validate({"score": {"resamples": 100}, "index": {"top_k": 3}})
# The number of sentences on a page, each in its own passage.
SENTENCES = 2
ALL = ("changed_sentence_share", "stale_facts", "resurfaced_deletions", "novelty", "shift", "vocabulary")
Texts = dict[str, str]


@pytest.fixture(autouse=True)
def _reset_counters() -> None:
    fakes.forget()


def page(name: str, end_of_life: str = OLD) -> str:
    return f"# {name}\n\n## {name} 1\n\n- End of life: {end_of_life}\n\n## {name} 2\n\n- Latest release: 2.7.1\n"


def pages(*moved: str) -> Texts:
    """One page per tool; the pages of `moved` have the new date."""
    return {f"{name}.md": page(name, NEW if name in moved else OLD) for name in TOOLS}


def without(deleted: str) -> Texts:
    return {name: text for name, text in pages().items() if name != f"{deleted}.md"}


def chunks_of(texts: Texts) -> list[Chunk]:
    return chunk_documents([document(name, text) for name, text in texts.items()], SHORT)


def corpus_of(chunks: Sequence[Chunk], *examples: Example) -> Corpus:
    return Corpus(KnowledgeBase(snapshot(), (), tuple(chunks)), TrainingSet(examples))


def empty_shelf(folder: Path) -> Shelf:
    return Shelf(str(folder / "lance"), CountingEmbedder())


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    """An index of the old pages that no test changes."""
    shelf = empty_shelf(tmp_path_factory.mktemp("live"))
    shelf.refresh(chunks_of(pages()))
    return shelf


def live_view(live: Shelf, now: Sequence[Chunk], limit: int = 100) -> LiveIndexView:
    return LiveIndexView.of(live.index, live.latest, now, (), limit)


def text_signals(live: Shelf, now: Texts, **evidence: int) -> TextComparison:
    """The comparison of the pages `now` with the live index; `evidence` are settings of that block."""
    chunks = chunks_of(now)
    return TextComparison(corpus_of(chunks).knowledge, live_view(live, chunks), with_evidence(**evidence))


def with_evidence(**evidence: int) -> Params:
    return Params.model_validate(PARAMS.model_dump() | {"evidence": evidence})


def measured(text: TextComparison, reader: Retriever) -> dict[str, Measure]:
    novelty, shift = text.vectors(CountingEmbedder())
    measures = (
        text.changed_sentence_share(),
        text.stale_facts(reader),
        text.resurfaced_deletions(reader),
        novelty,
        shift,
        text.vocabulary(),
    )
    return dict(zip(ALL, measures, strict=True))


def unmeasured_reasons(text: TextComparison, reader: Retriever) -> dict[str, str]:
    """The reasons of the unmeasured signals, by signal."""
    reasons = {name: measure.why for name, measure in measured(text, reader).items() if measure.value is None}
    assert all(reasons.values())
    return {name: str(reason) for name, reason in reasons.items()}


# --- the live index --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "changed"),
    [
        (pages(), set()),
        (pages("Anvil", "Jack"), {"Anvil.md", "Jack.md"}),
        (pages() | {"New.md": page("New")}, {"New.md"}),
        (without("Drill"), {"Drill.md"}),
        (without("Drill") | {"moved/Drill.md": page("Drill")}, {"Drill.md", "moved/Drill.md"}),
        ({}, set(pages())),
    ],
    ids=["nothing", "edited", "only in the corpus", "only in the table", "renamed", "all deleted"],
)
def test_changed_documents_do_not_depend_on_the_order_of_the_chunks(live: Shelf, now: Texts, changed: set[str]) -> None:
    chunks = chunks_of(now)
    assert live_view(live, chunks).changed == live_view(live, chunks[::-1]).changed == changed


def test_the_order_of_writing_rows_makes_no_difference(live: Shelf, tmp_path: Path) -> None:
    other, chunks = empty_shelf(tmp_path), chunks_of(pages("Jack", "Hammer"))
    for batch in (chunks[-2:], chunks[-8:], chunks):
        other.refresh(batch)
    other.refresh(chunks_of(pages()))
    now = chunks_of(pages("Brace"))
    first, second = live_view(live, now), live_view(other, now)
    assert (first.changed, first.passages) == (second.changed, second.passages)
    assert first.sample is not None
    assert second.sample is not None
    assert first.sample.texts == second.sample.texts


@pytest.mark.parametrize(
    ("texts", "differs"),
    [(("a", "b"), False), (("b", "a"), True), (("a",), True), (("a", "b", "b"), True), (("a", "a"), True)],
)
def test_a_document_is_changed_if_its_passages_or_their_order_are(
    texts: tuple[str, ...], differs: bool, tmp_path: Path
) -> None:
    shelf = empty_shelf(tmp_path)
    shelf.refresh([chunk("x.md", "a", 0, "whole"), chunk("x.md", "b", 1, "whole")])
    now = [chunk("x.md", text, position, "another file around") for position, text in enumerate(texts)]
    assert live_view(shelf, now).changed == ({"x.md"} if differs else set())


class InMemoryRows:
    """The part of an index that a live view reads, in memory."""

    def __init__(self, chunks: Sequence[Chunk]) -> None:
        self._chunks = chunks

    def rows(self, version: int) -> dict[tuple[str, int], tuple[str, str]]:
        return {chunk.key: (chunk.digest, chunk.document_digest) for chunk in self._chunks}

    def chunks(self, documents: Sequence[str], version: int) -> list[Chunk]:
        return [chunk for chunk in self._chunks if chunk.document in documents]


BOOKS = st.dictionaries(st.sampled_from("abcd"), st.lists(st.sampled_from("xyz"), min_size=1, max_size=3))


def cut(books: dict[str, list[str]]) -> list[Chunk]:
    return [chunk(name, text, position) for name, texts in books.items() for position, text in enumerate(texts)]


@law
@given(BOOKS, BOOKS, st.randoms(use_true_random=False))
def test_exactly_the_changed_documents_are_listed(
    before: dict[str, list[str]], now: dict[str, list[str]], random: Any
) -> None:
    old_chunks, chunks = cut(before), cut(now)
    random.shuffle(old_chunks)
    random.shuffle(chunks)
    view = LiveIndexView.of(cast(Index, InMemoryRows(old_chunks)), 1, chunks, (), 0)
    assert view.changed == {name for name in before.keys() | now.keys() if before.get(name) != now.get(name)}
    assert view.passages.keys() == view.changed & before.keys()
    assert view.digests == {chunk.digest for chunk in old_chunks}


def test_passages_cover_the_changed_documents(live: Shelf) -> None:
    view = live_view(live, chunks_of(pages("Anvil")))
    assert [chunk.text for chunk in view.passages["Anvil.md"]] == [
        f"Anvil > Anvil 1\n- End of life: {OLD}",
        "Anvil > Anvil 2\n- Latest release: 2.7.1",
    ]


def test_the_given_version_is_compared(tmp_path: Path) -> None:
    shelf = empty_shelf(tmp_path)
    first = shelf.refresh(chunks_of(pages()))
    shelf.index.tag("release-1", first.version)
    shelf.refresh(chunks_of(pages("Anvil")))
    now = chunks_of(pages("Anvil"))
    assert LiveIndexView.of(shelf.index, "release-1", now, (), 0).changed == {"Anvil.md"}
    assert LiveIndexView.of(shelf.index, shelf.latest, now, (), 0).changed == set()


def test_a_sample_has_the_requested_size_and_limit_0_disables_it(live: Shelf) -> None:
    now = chunks_of(pages())
    few, none = live_view(live, now, limit=7).sample, live_view(live, now, limit=0).sample
    assert few is not None
    assert (len(few.texts), len(few.vectors)) == (7, 7)
    assert none is None


# --- captured questions ----------------------------------------------------------------------------------------------

GOLDEN = [question(name, question=f"When does {name} 1 reach end of life?", docs=(f"{name}.md",)) for name in TOOLS]


def captured(live: Shelf, now: Texts) -> tuple[Measure, str | None]:
    """The captured questions among GOLDEN where the documents are `now` other ones."""
    chunks = chunks_of(now)
    view = LiveIndexView.of(live.index, live.latest, chunks, GOLDEN, 100)
    text = TextComparison(corpus_of(chunks).knowledge, view, with_evidence())
    return text.captured_questions(CountingEmbedder(), live.index.retriever(live.latest))


def test_a_page_that_copies_the_questions_is_named_with_its_share(live: Shelf) -> None:
    copied = "".join(f"## {asked.question}\n\n- Nobody knows.\n\n" for asked in GOLDEN[:3])
    share, name = captured(live, pages() | {"copy.md": f"# Questions\n\n{copied}"})
    assert share.value is not None
    assert share.value >= 3 / len(GOLDEN)
    assert (share.n, name) == (len(GOLDEN), "copy.md")


def test_a_page_that_answers_its_own_questions_captures_none(live: Shelf) -> None:
    share, name = captured(live, pages("Anvil"))
    assert (share.value, name) == (0.0, None)


def test_without_new_chunks_captured_questions_are_not_measured(live: Shelf) -> None:
    assert captured(live, pages()) == (Measure.unmeasured("there are no new chunks"), None)


# --- questions whose answers are not kept -----------------------------------------------------------------------------


def affected(live: Shelf, now: Texts, limit: int = 100, **evidence: int) -> int | None:
    """How many of GOLDEN may get other passages where the documents are `now` other ones."""
    chunks = chunks_of(now)
    view = LiveIndexView.of(live.index, live.latest, chunks, GOLDEN, limit)
    text = TextComparison(corpus_of(chunks).knowledge, view, with_evidence(**evidence))
    return text.affected_questions(CountingEmbedder(), live.index.retriever(live.latest))


def test_the_questions_of_a_changed_page_are_affected_and_not_all_others(live: Shelf) -> None:
    assert affected(live, pages()) == 0
    renamed = {name.replace("Anvil", "Renamed"): text for name, text in pages().items()}
    assert affected(live, renamed) == 0
    one = affected(live, pages("Anvil"))
    assert one is not None
    assert 1 <= one < len(GOLDEN)
    assert affected(live, without("Anvil")) in range(1, len(GOLDEN))
    assert affected(live, pages(*TOOLS)) == len(GOLDEN)


def test_affected_questions_are_unknown_with_other_vectors_or_without_a_sample(live: Shelf) -> None:
    assert affected(live, pages("Anvil"), limit=0) is None
    assert affected(live, pages("Anvil"), new_chunks=0) is None
    assert affected(live, pages(*TOOLS), new_chunks=1) == len(GOLDEN)


# --- the stopwatch ---------------------------------------------------------------------------------------------------


def test_the_stopwatch_adds_up_the_seconds_of_a_signal_even_if_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([10.0, 11.5, 20.0, 20.25, 30.0, 34.0])
    monkeypatch.setattr(watch_module, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    watch = Stopwatch()
    with watch("novelty"):
        pass
    with watch("excess_loss"):
        pass
    with pytest.raises(ConnectionError), watch("novelty"):
        raise ConnectionError
    assert watch.seconds == {"novelty": 5.5, "excess_loss": 0.25}


# --- changed text ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "now",
    [
        {name: text.replace("- ", "* ") for name, text in pages().items()},
        {name: text.replace("End of life", "END OF LIFE") for name, text in pages().items()},
        {f"moved/{name}": text for name, text in pages().items()},
        without("Drill") | {"tools/Bore.md": page("Drill")},
    ],
    ids=["bullets", "case", "folder renamed", "document renamed"],
)
def test_reformatted_and_moved_texts_are_no_changes(live: Shelf, now: Texts) -> None:
    text, reader = text_signals(live, now), live.index.retriever(live.latest)
    assert live_view(live, chunks_of(now)).changed
    assert text.changed_sentence_share() == Measure(value=0.0, n=SENTENCES * len(TOOLS))
    assert text.stale_facts(reader) == Measure.unmeasured("no fact was edited")
    assert text.resurfaced_deletions(reader) == Measure.unmeasured("no sentence was removed")


@pytest.mark.parametrize(
    ("now", "changed_sentences"),
    [
        (pages("Anvil"), 1),
        (pages("Anvil", "Brace", "Jack"), 3),
        (pages() | {"New.md": page("New")}, SENTENCES),
        (without("Drill") | {"moved/Drill.md": page("Drill", NEW)}, 1),
        (without("Drill"), 0),
    ],
    ids=["one fact", "three facts", "a page", "renamed and edited", "removed"],
)
def test_the_changed_share_is_relative_to_the_sentences_of_all_documents(
    live: Shelf, now: Texts, changed_sentences: int
) -> None:
    share = text_signals(live, now).changed_sentence_share()
    assert share.value == pytest.approx(changed_sentences / (SENTENCES * len(now)), abs=1e-6)


def test_the_changed_share_of_an_entirely_new_corpus_is_1(live: Shelf) -> None:
    share = text_signals(
        live, {"other.md": "# Other\n\nThe harbour pilot comes aboard at dawn.\n"}
    ).changed_sentence_share()
    assert (share.value, share.n) == (1.0, 1)


def test_the_changed_share_of_an_unchanged_corpus_is_0(live: Shelf) -> None:
    assert text_signals(live, pages()).changed_sentence_share().value == 0.0


def test_facts_are_stale_in_the_old_index_and_not_in_a_refreshed_one(live: Shelf, tmp_path: Path) -> None:
    now, fresh = pages("Anvil", "Brace"), empty_shelf(tmp_path)
    fresh.refresh(chunks_of(now))
    text = text_signals(live, now)
    stale, current = (text.stale_facts(shelf.index.retriever(shelf.latest)) for shelf in (live, fresh))
    assert (stale.value, stale.n) == (1.0, 2)
    assert (current.value, current.n) == (0.0, 2)


def test_a_removed_sentence_resurfaces_until_its_rows_are_deleted(live: Shelf, tmp_path: Path) -> None:
    now, fresh = without("Drill"), empty_shelf(tmp_path)
    fresh.refresh(chunks_of(now))
    text = text_signals(live, now)
    resurfaced, deleted = (text.resurfaced_deletions(shelf.index.retriever(shelf.latest)) for shelf in (live, fresh))
    assert (resurfaced.value, resurfaced.n) == (1.0, SENTENCES)
    assert (deleted.value, deleted.n) == (0.0, SENTENCES)


def test_the_number_of_checks_is_limited_by_the_settings(live: Shelf) -> None:
    now = pages("Anvil", "Brace", "Jack")
    del now["Drill.md"], now["Easel.md"]
    text, reader = text_signals(live, now, fact_checks=2), live.index.retriever(live.latest)
    assert (text.stale_facts(reader).n, text.resurfaced_deletions(reader).n) == (2, 2)


# --- new chunks ------------------------------------------------------------------------------------------------------

OTHER_SUBJECT = {
    f"sea/{number}.md": f"# Harbour {number}\n\n{' '.join(f'pilot{number} lantern mole tide keel' for _ in range(3))}\n"
    for number in range(6)
}


def test_pages_of_another_subject_have_more_drift_than_edits(live: Shelf) -> None:
    edits, other_subject = text_signals(live, pages(*TOOLS)), text_signals(live, pages() | OTHER_SUBJECT)
    edited, added = (measured(text, live.index.retriever(live.latest)) for text in (edits, other_subject))
    assert edited["novelty"].value == 0.0
    assert (added["novelty"].value or 0) > 0.5
    assert (added["shift"].value or 0) > (edited["shift"].value or 0)
    assert (edited["vocabulary"].value, added["vocabulary"].n) == (0.0, len(OTHER_SUBJECT))
    assert added["vocabulary"].value == 1.0


def test_new_chunks_are_embedded_with_the_document_prefix_up_to_the_limit(live: Shelf) -> None:
    now = chunks_of(pages(*TOOLS))
    params = Params.model_validate({"embed": {"document_prefix": "passage: "}, "evidence": {"new_chunks": 5}})
    novelty, shift = TextComparison(corpus_of(now).knowledge, live_view(live, now), params).vectors(CountingEmbedder())
    assert len(CountingEmbedder.embedded) == novelty.n == shift.n == 5
    assert CountingEmbedder.embedded[0] == f"passage: Anvil > Anvil 1\n- End of life: {NEW}"


@pytest.mark.parametrize(
    ("now", "new"),
    [
        (pages("Anvil"), [("Anvil.md", 0)]),
        ({f"moved/{name}": text for name, text in pages().items()}, []),
        (without("Drill"), []),
        ({name: f"{text}\n## {name} 3\n\nMore.\n" for name, text in pages().items()}, [(name, 2) for name in pages()]),
    ],
    ids=["edited", "renamed", "removed", "grown"],
)
def test_a_chunk_is_new_only_if_no_changed_document_held_its_text(
    live: Shelf, now: Texts, new: list[tuple[str, int]]
) -> None:
    assert [chunk.key for chunk in text_signals(live, now).new_chunks] == new


def test_a_word_of_any_old_text_is_not_new(live: Shelf) -> None:
    # Words of the unchanged pages count as old too, not only those of the changed page.
    now = pages() | {"Anvil.md": "# Anvil\n\nBrace Chisel zither quern\n"}
    vocabulary = text_signals(live, now).vocabulary()
    assert (vocabulary.value, vocabulary.n) == (0.4, 1)


# --- unmeasured signals ----------------------------------------------------------------------------------------------


def test_before_the_first_release_every_signal_is_unmeasured() -> None:
    knowledge, watch = corpus_of(chunks_of(pages())).knowledge, Stopwatch()
    text = measure_text(knowledge, None, None, CountingEmbedder(), PARAMS, watch)
    assert {name: getattr(text, name) for name in ALL} == dict.fromkeys(ALL, FIRST)
    assert CountingEmbedder.embedded == []


@pytest.mark.parametrize(
    ("evidence", "off"),
    [
        ({"fact_checks": 0}, {"stale_facts", "resurfaced_deletions"}),
        ({"new_chunks": 0}, {"novelty", "shift"}),
        ({"old_chunks": 0}, {"novelty", "shift"}),
        ({"examples": 0}, set()),
        ({}, set()),
    ],
)
def test_a_disabled_signal_is_unmeasured_with_that_reason(live: Shelf, evidence: dict[str, int], off: set[str]) -> None:
    text = text_signals(live, pages(*TOOLS[1:]) | {"Anvil.md": "# Anvil\n\nNothing is left.\n"}, **evidence)
    assert unmeasured_reasons(text, live.index.retriever(live.latest)) == dict.fromkeys(off, OFF)


@pytest.mark.parametrize(
    ("now", "evidence"),
    [(pages(*TOOLS), {"new_chunks": 0}), (pages(*TOOLS), {"old_chunks": 0}), (without("Drill"), {})],
)
def test_without_anything_to_compare_nothing_is_embedded(live: Shelf, now: Texts, evidence: dict[str, int]) -> None:
    text_signals(live, now, **evidence).vectors(CountingEmbedder())
    assert CountingEmbedder.embedded == []


def test_without_new_chunks_the_drift_signals_are_unmeasured(live: Shelf) -> None:
    reasons = unmeasured_reasons(text_signals(live, without("Drill")), live.index.retriever(live.latest))
    assert reasons == {
        "stale_facts": "no fact was edited",
        "novelty": "there are no new chunks",
        "shift": "there are no new chunks",
        "vocabulary": "there are no new texts with words",
    }


def test_vectors_of_other_settings_are_not_compared(live: Shelf) -> None:
    now = chunks_of(pages(*TOOLS))
    text = TextComparison(corpus_of(now).knowledge, live_view(live, now, limit=0), PARAMS)
    other = Measure.unmeasured("the index's vectors are of other settings")
    assert text.vectors(CountingEmbedder()) == (other, other)
    assert CountingEmbedder.embedded == []


def test_too_few_old_rows_leave_drift_unmeasured(tmp_path: Path) -> None:
    shelf = empty_shelf(tmp_path)
    shelf.refresh(chunks_of({"Anvil.md": page("Anvil")}))
    reasons = unmeasured_reasons(
        text_signals(shelf, {"Anvil.md": page("Anvil", NEW)}), shelf.index.retriever(shelf.latest)
    )
    assert reasons["novelty"].startswith("2 old chunks")
    assert reasons["shift"].startswith("1 new and 2 old chunks")


# --- examples that the adapter has not seen --------------------------------------------------------------------------

SETTINGS = training_settings(PARAMS, CountingReader.base)
PLAIN = [Example((Message("user", f"Which {number}?"),), f"Answer {number}", None) for number in range(6)]
JSON = [Example((Message("user", f"JSON {number}?"),), f'{{"value": {number}}}', "Anvil.md") for number in range(6)]
# The losses of the fake on an answer in the format of its adapter and in any other; both have equal lengths.
KNOWN_FORMAT_LOSS, OTHER_FORMAT_LOSS = 0.1 + len("Answer 0") / 1000, 2.0 + len('{"value": 0}') / 1000


def model(*training_examples: Example, settings: str | None = SETTINGS, **fields: Any) -> BuiltModel:
    """A model whose adapter was trained on `training_examples`."""
    defaults: dict[str, Any] = {
        "adapter": "a1",
        "examples": "x",
        "trained_on": tuple(example.digest for example in training_examples),
    }
    return BuiltModel(base=CountingReader.base, settings=settings, **(defaults | fields))


def split_by_seen(*examples: Example, live: BuiltModel) -> SeenExamples:
    return split_seen_examples(examples, live, SETTINGS)


def test_new_examples_are_those_that_the_adapter_was_not_trained_on() -> None:
    split = split_by_seen(*PLAIN[:3], *JSON[:2], live=model(*PLAIN))
    assert (split.new, split.old) == (JSON[:2], PLAIN[:3])


def test_an_example_that_only_moved_to_another_page_is_not_new() -> None:
    moved = Example(JSON[0].turns, JSON[0].completion, "moved/Anvil.md")
    assert split_by_seen(moved, live=model(JSON[0])).new == []


@pytest.mark.parametrize(
    "live",
    [
        model(*PLAIN, settings=training_settings(PARAMS, "another base")),
        model(
            *PLAIN, settings=training_settings(Params.model_validate({"finetune": {"rank": 4}}), CountingReader.base)
        ),
        model(*PLAIN, settings=None),
        model(adapter=None, settings=None),
        model(),
    ],
    ids=["another base", "other settings", "no settings", "no adapter", "no seen examples"],
)
def test_under_other_settings_or_without_an_adapter_every_example_is_new(live: BuiltModel) -> None:
    split = split_by_seen(*PLAIN, live=live)
    assert (split.new, split.old) == (PLAIN, [])


# --- excess loss -----------------------------------------------------------------------------------------------------


class WithoutLosses:
    """A user-defined generator that does not compute losses."""

    base = CountingReader.base
    identity = "without losses"

    def generate(self, prompts: Sequence[Prompt], adapter: Path | None, advance: Advance) -> list[str]:
        return ["" for _ in prompts]


@pytest.fixture
def loss_setup(live: Shelf, tmp_path: Path) -> LossSetup:
    space = workspace(tmp_path)
    write(space.adapters / "a1" / SKILLS, json.dumps({"reads": True, "json": False}))
    return LossSetup(live, space)


class LossSetup:
    """The pages, an index of them and a workspace to measure excess losses in."""

    def __init__(self, live: Shelf, space: Any) -> None:
        self._live = live
        self._space = space
        self.reader = live.index.retriever(live.latest)

    def corpus(self, *examples: Example) -> Corpus:
        return corpus_of(chunks_of(pages()), *examples)

    def excess_loss(
        self,
        model: BuiltModel,
        *examples: Example,
        generator: Any = None,
        index: bool = True,
        **evidence: int,
    ) -> Measure:
        corpus = self.corpus(*examples)
        models = Models(CountingEmbedder(), generator or CountingReader(), CountingTrainer())
        answerer = Answerer(self._space, models, no_progress)
        reader = self.reader if index else None
        return excess_loss_on_new(
            split_seen_examples(corpus.training.examples, model, SETTINGS),
            corpus.knowledge.chunks_by_document,
            reader,
            answerer,
            with_evidence(**evidence),
        ).excess_loss


def test_only_answers_in_an_unseen_format_have_excess_loss(
    loss_setup: LossSetup,
) -> None:
    seen = model(*PLAIN[:3])
    unseen_format, seen_format = loss_setup.excess_loss(seen, *PLAIN[:3], *JSON), loss_setup.excess_loss(seen, *PLAIN)
    assert (unseen_format.n, seen_format.n) == (len(JSON), 3)
    assert unseen_format.value == pytest.approx(OTHER_FORMAT_LOSS - KNOWN_FORMAT_LOSS)
    assert seen_format.value == pytest.approx(0)
    assert unseen_format.low is not None
    assert unseen_format.low > 1


def test_the_final_training_loss_is_used_if_no_seen_example_is_left(loss_setup: LossSetup) -> None:
    loss = loss_setup.excess_loss(model(*PLAIN, final_loss=0.5), *JSON[:2])
    assert loss.value == pytest.approx(OTHER_FORMAT_LOSS - 0.5)
    assert loss.n == 2


def test_the_final_training_loss_is_not_used_if_a_seen_example_is_left(loss_setup: LossSetup) -> None:
    loss = loss_setup.excess_loss(model(*PLAIN, final_loss=99.0), *JSON, PLAIN[0])
    assert loss.value == pytest.approx(OTHER_FORMAT_LOSS - KNOWN_FORMAT_LOSS)


def test_losses_are_computed_on_training_samples_up_to_the_limit(loss_setup: LossSetup) -> None:
    loss_setup.excess_loss(model(*PLAIN), *PLAIN, *JSON, examples=2)
    drawn = [JSON[0], JSON[3], PLAIN[0], PLAIN[3]]
    by_document = loss_setup.corpus().knowledge.chunks_by_document
    samples = samples_with_passages(drawn, by_document, loss_setup.reader, PARAMS.index.top_k, PARAMS.finetune.seed)
    assert CountingReader.judged == samples


@pytest.mark.parametrize(
    ("known", "fields", "reason"),
    [
        (model(*PLAIN[:2]), {"examples": 0}, OFF),
        (model(*PLAIN[:2], adapter=None), {}, "there is no adapter yet"),
        (model(*PLAIN[:2]), {"index": False}, "there is no adapter yet"),
        (model(*PLAIN), {}, "the adapter was trained on every example already"),
        (model(*PLAIN[:2]), {"generator": WithoutLosses()}, "this generator does not compute its loss"),
        (model(), {}, "no old training examples to compare with"),
    ],
    ids=["off", "no adapter", "no release", "nothing new", "no losses", "nothing known"],
)
def test_an_unmeasured_excess_loss_has_a_reason(
    loss_setup: LossSetup, known: BuiltModel, fields: dict[str, Any], reason: str
) -> None:
    assert loss_setup.excess_loss(known, *PLAIN, **fields) == Measure.unmeasured(reason)


def test_without_examples_no_loss_is_computed(loss_setup: LossSetup) -> None:
    assert loss_setup.excess_loss(model(*PLAIN)).value is None
    assert CountingReader.judged == []


def test_what_a_held_deletion_says_is_neither_new_elsewhere_nor_removed(live: Shelf) -> None:
    """The page of the new tool repeats half of a page whose deletion is pending."""
    held = {f"{name}.md": page(name) for name in ("Anvil", "Brace")}
    rest = {name: text for name, text in pages().items() if name not in held}
    new = {"All.md": f"{held['Anvil.md']}\n## More\n\n- The anvil is oiled by two people on the first day of spring.\n"}

    def compared(texts: Texts, pending: Texts) -> TextComparison:
        chunks = chunks_of(texts)
        digests = {chunk.document: chunk.document_digest for chunk in chunks if chunk.document in pending}
        knowledge = KnowledgeBase(snapshot(), (), tuple(chunks), pending_deletions=digests)
        return TextComparison(knowledge, live_view(live, chunks), PARAMS)

    while_held, approved = compared(rest | held | new, held), compared(rest | new, {})
    assert while_held.changed_sentence_share() == approved.changed_sentence_share()
    assert (while_held.changes.changed, while_held.changes.absent, while_held.changes.deletion_checks) == (1, 0, ())
    assert [chunk.document for chunk in while_held.new_chunks] == ["All.md"]
