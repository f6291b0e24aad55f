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
from tests.factories import SHORT, Shelf, chunk, document, snapshot, workspace, write
from tests.fakes import SKILLS, CountingEmbedder, CountingReader, CountingTrainer

law = settings(derandomize=True, deadline=None)
TOOLS = ("Anvil", "Brace", "Chisel", "Drill", "Easel", "Funnel", "Gauge", "Hammer", "Iron", "Jack")
OLD, NEW = "2027-01-01", "2031-05-05"
PARAMS = Params.model_validate({"score": {"resamples": 100}, "index": {"top_k": 3}})
# A page below has so many sentences, each in a passage of its own.
SENTENCES = 2
ALL = ("changed_sentence_share", "stale_facts", "resurfaced_deletions", "novelty", "shift", "vocabulary")
Texts = dict[str, str]


@pytest.fixture(autouse=True)
def _nothing_counted() -> None:
    fakes.forget()


def page(name: str, end_of_life: str = OLD) -> str:
    return f"# {name}\n\n## {name} 1\n\n- End of life: {end_of_life}\n\n## {name} 2\n\n- Latest release: 2.7.1\n"


def pages(*moved: str) -> Texts:
    """A page a tool; those of `moved` hold another date."""
    return {f"{name}.md": page(name, NEW if name in moved else OLD) for name in TOOLS}


def without(gone: str) -> Texts:
    return {name: text for name, text in pages().items() if name != f"{gone}.md"}


def chunks_of(texts: Texts) -> list[Chunk]:
    return chunk_documents([document(name, text) for name, text in texts.items()], SHORT)


def corpus_of(chunks: Sequence[Chunk], *examples: Example) -> Corpus:
    return Corpus(KnowledgeBase(snapshot(), (), tuple(chunks)), TrainingSet(examples))


def at(folder: Path) -> Shelf:
    return Shelf(str(folder / "lance"), CountingEmbedder())


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    """The pages as they were; no test writes to it."""
    shelf = at(tmp_path_factory.mktemp("live"))
    shelf.refresh(chunks_of(pages()))
    return shelf


def before(live: Shelf, now: Sequence[Chunk], *asked: str, limit: int = 100) -> LiveIndexView:
    return LiveIndexView.of(live.index, live.latest, now, asked, limit)


def text_signals(live: Shelf, now: Texts, **evidence: int) -> TextComparison:
    """The signals of the pages as they are `now`; `evidence` are settings of that block."""
    chunks = chunks_of(now)
    return TextComparison(corpus_of(chunks).knowledge, before(live, chunks), with_evidence(**evidence))


def with_evidence(**evidence: int) -> Params:
    return Params.model_validate(PARAMS.model_dump() | {"evidence": evidence})


def measured(text: TextComparison, reader: Retriever) -> dict[str, Measure]:
    novelty, shift = text.vectors(CountingEmbedder())
    found = (
        text.changed_sentence_share(),
        text.stale_facts(reader),
        text.resurfaced_deletions(reader),
        novelty,
        shift,
        text.vocabulary(),
    )
    return dict(zip(ALL, found, strict=True))


def why(text: TextComparison, reader: Retriever) -> dict[str, str]:
    """Signal -> why it could not be measured; those that were are left out."""
    found = {name: one.why for name, one in measured(text, reader).items() if one.value is None}
    assert all(found.values())
    return {name: str(reason) for name, reason in found.items()}


# --- the index as it was -------------------------------------------------------------------------------------------


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
    ids=["nothing", "edited", "only in the corpus", "only in the table", "renamed", "all gone"],
)
def test_the_documents_that_differ_are_named_whatever_the_order_of_the_rows(
    live: Shelf, now: Texts, changed: set[str]
) -> None:
    chunks = chunks_of(now)
    assert before(live, chunks).changed == before(live, chunks[::-1]).changed == changed


def test_the_order_in_which_rows_were_written_makes_no_difference(live: Shelf, tmp_path: Path) -> None:
    other, chunks = at(tmp_path), chunks_of(pages("Jack", "Hammer"))
    for some in (chunks[-2:], chunks[-8:], chunks):
        other.refresh(some)
    other.refresh(chunks_of(pages()))
    now = chunks_of(pages("Brace"))
    one, two = before(live, now, "Anvil.md"), before(other, now, "Anvil.md")
    assert (one.changed, one.passages) == (two.changed, two.passages)
    assert one.sample is not None
    assert two.sample is not None
    assert one.sample.texts == two.sample.texts


@pytest.mark.parametrize(
    ("texts", "differs"),
    [(("a", "b"), False), (("b", "a"), True), (("a",), True), (("a", "b", "b"), True), (("a", "a"), True)],
)
def test_a_document_differs_where_its_passages_or_their_order_do(
    texts: tuple[str, ...], differs: bool, tmp_path: Path
) -> None:
    shelf = at(tmp_path)
    shelf.refresh([chunk("x.md", "a", 0, "whole"), chunk("x.md", "b", 1, "whole")])
    now = [chunk("x.md", text, position, "another file around") for position, text in enumerate(texts)]
    assert before(shelf, now).changed == ({"x.md"} if differs else set())


class Rows:
    """As much of an index as is looked at, in memory."""

    def __init__(self, chunks: Sequence[Chunk]) -> None:
        self._chunks = chunks

    def rows(self, version: int) -> dict[tuple[str, int], tuple[str, str]]:
        return {one.key: (one.digest, one.document_digest) for one in self._chunks}

    def chunks(self, documents: Sequence[str], version: int) -> list[Chunk]:
        return [one for one in self._chunks if one.document in documents]


BOOKS = st.dictionaries(st.sampled_from("abcd"), st.lists(st.sampled_from("xyz"), min_size=1, max_size=3))


def cut(books: dict[str, list[str]]) -> list[Chunk]:
    return [chunk(name, text, position) for name, texts in books.items() for position, text in enumerate(texts)]


@law
@given(BOOKS, BOOKS, st.randoms(use_true_random=False), st.frozensets(st.sampled_from("abcde")))
def test_exactly_the_documents_that_differ_are_named(
    was: dict[str, list[str]], now: dict[str, list[str]], random: Any, asked: frozenset[str]
) -> None:
    then, chunks = cut(was), cut(now)
    random.shuffle(then)
    random.shuffle(chunks)
    found = LiveIndexView.of(cast(Index, Rows(then)), 1, chunks, asked, 0)
    assert found.changed == {name for name in was.keys() | now.keys() if was.get(name) != now.get(name)}
    assert found.passages.keys() == (found.changed | asked) & was.keys()


def test_passages_are_those_of_the_rows_for_what_differs_and_what_is_asked_for(live: Shelf) -> None:
    found = before(live, chunks_of(pages("Anvil")), "Brace.md", "nowhere.md")
    assert set(found.passages) == {"Anvil.md", "Brace.md"}
    assert [one.text for one in found.passages["Anvil.md"]] == [
        f"Anvil > Anvil 1\n- End of life: {OLD}",
        "Anvil > Anvil 2\n- Latest release: 2.7.1",
    ]


def test_what_is_compared_with_is_the_version_that_is_named(tmp_path: Path) -> None:
    shelf = at(tmp_path)
    first = shelf.refresh(chunks_of(pages()))
    shelf.index.tag("release-1", first.version)
    shelf.refresh(chunks_of(pages("Anvil")))
    now = chunks_of(pages("Anvil"))
    assert LiveIndexView.of(shelf.index, "release-1", now, (), 0).changed == {"Anvil.md"}
    assert LiveIndexView.of(shelf.index, shelf.latest, now, (), 0).changed == set()


def test_a_sample_of_the_rows_is_as_large_as_asked_for_and_none_where_none_is(live: Shelf) -> None:
    now = chunks_of(pages())
    few, none = before(live, now, limit=7).sample, before(live, now, limit=0).sample
    assert few is not None
    assert (len(few.texts), len(few.vectors)) == (7, 7)
    assert none is None


# --- the watch -----------------------------------------------------------------------------------------------------


def test_the_watch_adds_up_the_seconds_of_a_signal_even_where_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
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


# --- what changed text says ----------------------------------------------------------------------------------------


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
def test_what_only_looks_different_or_only_moved_is_no_news(live: Shelf, now: Texts) -> None:
    text, reader = text_signals(live, now), live.index.retriever(live.latest)
    assert before(live, chunks_of(now)).changed
    assert text.changed_sentence_share() == Measure(value=0.0, n=SENTENCES * len(TOOLS))
    assert text.stale_facts(reader) == Measure.unmeasured("no fact was edited")
    assert text.resurfaced_deletions(reader) == Measure.unmeasured("no sentence was removed")


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (pages("Anvil"), 1),
        (pages("Anvil", "Brace", "Jack"), 3),
        (pages() | {"New.md": page("New")}, SENTENCES),
        (without("Drill") | {"moved/Drill.md": page("Drill", NEW)}, 1),
        (without("Drill"), 0),
    ],
    ids=["one fact", "three facts", "a page", "renamed and edited", "removed"],
)
def test_the_share_of_news_is_that_of_all_sentences_not_of_the_changed_documents(
    live: Shelf, now: Texts, told: int
) -> None:
    share = text_signals(live, now).changed_sentence_share()
    assert share.value == pytest.approx(told / (SENTENCES * len(now)), abs=1e-6)


def test_where_everything_is_new_all_of_it_is_news(live: Shelf) -> None:
    share = text_signals(
        live, {"other.md": "# Other\n\nThe harbour pilot comes aboard at dawn.\n"}
    ).changed_sentence_share()
    assert (share.value, share.n) == (1.0, 1)


def test_without_a_difference_the_share_of_news_is_nothing(live: Shelf) -> None:
    assert text_signals(live, pages()).changed_sentence_share().value == 0.0


def test_an_index_with_the_old_fact_answers_stale_and_one_with_the_new_does_not(live: Shelf, tmp_path: Path) -> None:
    now, fresh = pages("Anvil", "Brace"), at(tmp_path)
    fresh.refresh(chunks_of(now))
    text = text_signals(live, now)
    stale, current = (text.stale_facts(one.index.retriever(one.latest)) for one in (live, fresh))
    assert (stale.value, stale.n) == (1.0, 2)
    assert (current.value, current.n) == (0.0, 2)


def test_a_removed_sentence_comes_back_until_its_rows_are_gone(live: Shelf, tmp_path: Path) -> None:
    now, fresh = without("Drill"), at(tmp_path)
    fresh.refresh(chunks_of(now))
    text = text_signals(live, now)
    back, gone = (text.resurfaced_deletions(one.index.retriever(one.latest)) for one in (live, fresh))
    assert (back.value, back.n) == (1.0, SENTENCES)
    assert (gone.value, gone.n) == (0.0, SENTENCES)


def test_no_more_is_asked_than_the_settings_allow(live: Shelf) -> None:
    now = pages("Anvil", "Brace", "Jack")
    del now["Drill.md"], now["Easel.md"]
    text, reader = text_signals(live, now, fact_checks=2), live.index.retriever(live.latest)
    assert (text.stale_facts(reader).n, text.resurfaced_deletions(reader).n) == (2, 2)


# --- what new chunks say -------------------------------------------------------------------------------------------

ALIEN = {
    f"sea/{number}.md": f"# Harbour {number}\n\n{' '.join(f'pilot{number} lantern mole tide keel' for _ in range(3))}\n"
    for number in range(6)
}


def test_pages_of_another_subject_are_newer_than_edits_of_the_old_ones(live: Shelf) -> None:
    edits, alien = text_signals(live, pages(*TOOLS)), text_signals(live, pages() | ALIEN)
    usual, strange = (measured(one, live.index.retriever(live.latest)) for one in (edits, alien))
    assert usual["novelty"].value == 0.0
    assert (strange["novelty"].value or 0) > 0.5
    assert (strange["shift"].value or 0) > (usual["shift"].value or 0)
    assert (usual["vocabulary"].value, strange["vocabulary"].n) == (0.0, len(ALIEN))
    assert strange["vocabulary"].value == 1.0


def test_new_chunks_are_embedded_as_documents_are_and_no_more_than_the_settings_allow(live: Shelf) -> None:
    now = chunks_of(pages(*TOOLS))
    params = Params.model_validate({"embed": {"document_prefix": "passage: "}, "evidence": {"new_chunks": 5}})
    novelty, shift = TextComparison(corpus_of(now).knowledge, before(live, now), params).vectors(CountingEmbedder())
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
def test_only_a_text_that_changed_documents_did_not_hold_is_a_new_chunk(
    live: Shelf, now: Texts, new: list[tuple[str, int]]
) -> None:
    assert [one.key for one in text_signals(live, now).new_chunks] == new


def test_a_word_that_stands_in_any_old_text_is_not_new(live: Shelf) -> None:
    # The unchanged pages know the word as well as the old form of the changed one.
    now = pages() | {"Anvil.md": "# Anvil\n\nBrace Chisel zither quern\n"}
    found = text_signals(live, now).vocabulary()
    assert (found.value, found.n) == (0.4, 1)


# --- why a signal is not measured ----------------------------------------------------------------------------------


def test_before_the_first_release_no_signal_has_anything_to_compare_with() -> None:
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
def test_a_signal_that_is_switched_off_says_so(live: Shelf, evidence: dict[str, int], off: set[str]) -> None:
    text = text_signals(live, pages(*TOOLS[1:]) | {"Anvil.md": "# Anvil\n\nNothing of it is left.\n"}, **evidence)
    assert why(text, live.index.retriever(live.latest)) == dict.fromkeys(off, OFF)


@pytest.mark.parametrize(
    ("now", "evidence"),
    [(pages(*TOOLS), {"new_chunks": 0}), (pages(*TOOLS), {"old_chunks": 0}), (without("Drill"), {})],
)
def test_where_there_is_nothing_to_compare_nothing_is_embedded(
    live: Shelf, now: Texts, evidence: dict[str, int]
) -> None:
    text_signals(live, now, **evidence).vectors(CountingEmbedder())
    assert CountingEmbedder.embedded == []


def test_without_new_chunks_there_is_nothing_to_call_new(live: Shelf) -> None:
    reasons = why(text_signals(live, without("Drill")), live.index.retriever(live.latest))
    assert reasons == {
        "stale_facts": "no fact was edited",
        "novelty": "there are no new chunks",
        "shift": "there are no new chunks",
        "vocabulary": "there are no new texts with words",
    }


def test_vectors_of_other_settings_are_compared_with_none(live: Shelf) -> None:
    now = chunks_of(pages(*TOOLS))
    text = TextComparison(corpus_of(now).knowledge, before(live, now, limit=0), PARAMS)
    other = Measure.unmeasured("the index's vectors are of other settings")
    assert text.vectors(CountingEmbedder()) == (other, other)
    assert CountingEmbedder.embedded == []


def test_too_few_old_rows_are_no_yardstick(tmp_path: Path) -> None:
    shelf = at(tmp_path)
    shelf.refresh(chunks_of({"Anvil.md": page("Anvil")}))
    reasons = why(text_signals(shelf, {"Anvil.md": page("Anvil", NEW)}), shelf.index.retriever(shelf.latest))
    assert reasons["novelty"].startswith("2 old chunks")
    assert reasons["shift"].startswith("1 new and 2 old chunks")


# --- examples that the adapter has not seen ------------------------------------------------------------------------

SETTINGS = training_settings(PARAMS, CountingReader.base)
PLAIN = [Example((Message("user", f"Which {number}?"),), f"Answer {number}", None) for number in range(6)]
JSON = [Example((Message("user", f"JSON {number}?"),), f'{{"value": {number}}}', "Anvil.md") for number in range(6)]
# What the fake loses on an answer in the form that its adapter has learnt, and on any other: both have one length.
KNOWN, STRANGE = 0.1 + len("Answer 0") / 1000, 2.0 + len('{"value": 0}') / 1000


def model(*taught: Example, settings: str | None = SETTINGS, **fields: Any) -> BuiltModel:
    """A model whose adapter has seen `taught`."""
    usual: dict[str, Any] = {"adapter": "a1", "examples": "x", "trained_on": tuple(one.digest for one in taught)}
    return BuiltModel(base=CountingReader.base, settings=settings, **(usual | fields))


def pupil(*examples: Example, live: BuiltModel) -> SeenExamples:
    return split_seen_examples(examples, live, SETTINGS)


def test_new_examples_are_those_that_the_adapter_did_not_see() -> None:
    found = pupil(*PLAIN[:3], *JSON[:2], live=model(*PLAIN))
    assert (found.new, found.old) == (JSON[:2], PLAIN[:3])


def test_an_example_that_only_moved_to_another_page_is_not_new() -> None:
    moved = Example(JSON[0].turns, JSON[0].completion, "moved/Anvil.md")
    assert pupil(moved, live=model(JSON[0])).new == []


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
    ids=["another base", "other settings", "no settings", "no adapter", "nothing taught"],
)
def test_under_other_settings_or_without_an_adapter_every_example_is_new(live: BuiltModel) -> None:
    found = pupil(*PLAIN, live=live)
    assert (found.new, found.old) == (PLAIN, [])


# --- surprise ------------------------------------------------------------------------------------------------------


class Silent:
    """A generator of a user's own that does not tell its loss."""

    base = CountingReader.base
    identity = "silent"

    def generate(self, prompts: Sequence[Prompt], adapter: Path | None, advance: Advance) -> list[str]:
        return ["" for _ in prompts]


@pytest.fixture
def classroom(live: Shelf, tmp_path: Path) -> Classroom:
    space = workspace(tmp_path)
    write(space.adapters / "a1" / SKILLS, json.dumps({"reads": True, "json": False}))
    return Classroom(live, space)


class Classroom:
    """The pages with examples, and models that read them."""

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
        )


def test_an_answer_of_another_form_surprises_and_one_of_the_form_that_was_learnt_does_not(
    classroom: Classroom,
) -> None:
    seen = model(*PLAIN[:3])
    strange, usual = classroom.excess_loss(seen, *PLAIN[:3], *JSON), classroom.excess_loss(seen, *PLAIN)
    assert (strange.n, usual.n) == (len(JSON), 3)
    assert strange.value == pytest.approx(STRANGE - KNOWN)
    assert usual.value == pytest.approx(0)
    assert strange.low is not None
    assert strange.low > 1


def test_where_no_seen_example_is_left_the_last_loss_of_its_training_stands_in(classroom: Classroom) -> None:
    found = classroom.excess_loss(model(*PLAIN, final_loss=0.5), *JSON[:2])
    assert found.value == pytest.approx(STRANGE - 0.5)
    assert found.n == 2


def test_the_last_loss_is_not_looked_at_where_a_seen_example_is_left(classroom: Classroom) -> None:
    found = classroom.excess_loss(model(*PLAIN, final_loss=99.0), *JSON, PLAIN[0])
    assert found.value == pytest.approx(STRANGE - KNOWN)


def test_examples_are_read_as_they_would_be_taught_and_no_more_than_the_settings_allow(classroom: Classroom) -> None:
    classroom.excess_loss(model(*PLAIN), *PLAIN, *JSON, examples=2)
    asked = [JSON[0], JSON[3], PLAIN[0], PLAIN[3]]
    by_document = classroom.corpus().knowledge.chunks_by_document
    taught = samples_with_passages(asked, by_document, classroom.reader, PARAMS.index.top_k, PARAMS.finetune.seed)
    assert CountingReader.judged == taught


@pytest.mark.parametrize(
    ("known", "fields", "reason"),
    [
        (model(*PLAIN[:2]), {"examples": 0}, OFF),
        (model(*PLAIN[:2], adapter=None), {}, "there is no adapter yet"),
        (model(*PLAIN[:2]), {"index": False}, "there is no adapter yet"),
        (model(*PLAIN), {}, "the adapter was trained on every example already"),
        (model(*PLAIN[:2]), {"generator": Silent()}, "this generator does not compute its loss"),
        (model(), {}, "no old training examples to compare with"),
    ],
    ids=["off", "no adapter", "no release", "nothing new", "no losses", "nothing known"],
)
def test_where_surprise_is_not_measured_it_says_why(
    classroom: Classroom, known: BuiltModel, fields: dict[str, Any], reason: str
) -> None:
    assert classroom.excess_loss(known, *PLAIN, **fields) == Measure.unmeasured(reason)


def test_without_any_example_nothing_is_asked(classroom: Classroom) -> None:
    assert classroom.excess_loss(model(*PLAIN)).value is None
    assert CountingReader.judged == []
