"""Tests of the assistant and its cache of answers, losses and judge scores, with fakes that count their calls."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from ragtide.pipelines.errors import UserError
from ragtide.pipelines.evaluation import assistant as module
from ragtide.pipelines.evaluation.assistant import Answer, Answerer, Assistant
from ragtide.pipelines.index.chunking import chunk_document
from ragtide.pipelines.index.search import Passage
from ragtide.pipelines.index.source import InMemorySource
from ragtide.pipelines.models.load import Models
from ragtide.pipelines.ports import Advance, JudgeRequest, Message, Prompt, TrainingSample, no_progress
from ragtide.pipelines.records.release import BuiltIndex, BuiltModel, Release
from ragtide.pipelines.workspace import Workspace
from tests import fakes
from tests.factories import BASE, document, release, workspace, write
from tests.fakes import SKILLS, CountingEmbedder, CountingReader, CountingTrainer

PUMP = "When does Pump 1 reach end of life?"


class OtherReader(CountingReader):
    """The same model under other decoding settings."""

    identity = "reader-1/other"


class LostReader(CountingReader):
    """A generator that fails after it was called."""

    def generate(self, prompts: Sequence[Prompt], adapter: Path | None, advance: Advance) -> list[str]:
        super().generate(prompts, adapter, advance)
        raise ConnectionError("the model does not answer")


class ReaderWithoutLosses(CountingReader):
    """A custom generator that answers but reports no losses."""

    losses = None  # type: ignore[assignment]


class Echo(CountingReader):
    """A generator that repeats the prompt."""

    def generate(self, prompts: Sequence[Prompt], adapter: Path | None, advance: Advance) -> list[str]:
        super().generate(prompts, adapter, advance)
        return [prompt[-1].content for prompt in prompts]


@pytest.fixture(autouse=True)
def _nothing_counted() -> None:
    fakes.forget()


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    return workspace(tmp_path)


def models(reader: CountingReader | None = None) -> Models:
    return Models(CountingEmbedder(), reader or CountingReader(), CountingTrainer())


def answerer(space: Workspace, reader: CountingReader | None = None) -> Answerer:
    return Answerer(space, models(reader), no_progress)


def prompts(*texts: str) -> list[Prompt]:
    return [(Message("user", text),) for text in texts]


def trained(space: Workspace, name: str = "a1") -> BuiltModel:
    """A model with an adapter that answers from the context."""
    write(space.adapters / name / SKILLS, json.dumps({"reads": True, "json": False}))
    return BuiltModel(base="reader-1", adapter=name, examples="x", settings="s")


# --- the base model --------------------------------------------------------------------------------------------------


def test_a_release_of_another_base_model_is_not_answered_by_todays(space: Workspace) -> None:
    other = BASE.model_copy(update={"base": "reader-2"})
    with pytest.raises(UserError, match="reader-2"):
        answerer(space).answer("asking", prompts("one?"), other)
    with pytest.raises(UserError, match="reader-2"):
        answerer(space).losses("judging", [TrainingSample(prompts("one?")[0], "May")], other)
    assert CountingReader.prompts == []


def test_a_base_model_that_still_exists_answers_for_its_release(
    space: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        module, "load_generator_for", lambda _, models, model: Echo() if model != BASE else models.generator
    )
    other = BASE.model_copy(update={"base": "reader-2"})
    asking = answerer(space, OtherReader())
    assert asking.answer("asking", prompts("one?"), other) == ["one?"]
    assert asking.answer("asking", prompts("one?"), BASE) != ["one?"]
    assert asking.base == "reader-1"


# --- cached answers --------------------------------------------------------------------------------------------------


def test_the_same_prompt_is_answered_once(space: Workspace) -> None:
    first = answerer(space).answer("asking", prompts("one?", "two?"), BASE)
    again = answerer(space).answer("asking, another day", prompts("two?", "three?", "one?"), BASE)
    assert CountingReader.prompts == ["one?", "two?", "three?"]
    assert (again[2], again[0]) == (first[0], first[1])


def test_a_repeated_prompt_is_answered_once_and_the_order_is_kept(space: Workspace) -> None:
    answers = answerer(space, Echo()).answer("asking", prompts("b", "a", "b", "c", "a"), BASE)
    assert answers == ["b", "a", "b", "c", "a"]
    assert CountingReader.prompts == ["b", "a", "c"]
    assert answerer(space, Echo()).answer("asking", prompts("c", "d", "b", "d"), BASE) == ["c", "d", "b", "d"]
    assert CountingReader.prompts == ["b", "a", "c", "d"]


@pytest.mark.parametrize("text", ["", "  two  blanks ", "two\nlines", "Grüße, 東京 🙂", '{"value": null}', "0"])
def test_a_cached_answer_equals_the_original(text: str, space: Workspace) -> None:
    for _ in range(2):
        assert answerer(space, Echo()).answer("asking", prompts(text), BASE) == [text]
    assert CountingReader.prompts == [text]


def test_another_adapter_answers_again(space: Workspace) -> None:
    for model in (BASE, trained(space, "a1"), trained(space, "a2"), BASE, trained(space, "a1")):
        answerer(space).answer("asking", prompts("one?"), model)
    assert CountingReader.prompts == ["one?"] * 3


def test_another_identity_answers_again(space: Workspace) -> None:
    for reader in (CountingReader(), OtherReader(), CountingReader(), OtherReader()):
        answerer(space, reader).answer("asking", prompts("one?"), BASE)
    assert CountingReader.prompts == ["one?"] * 2


@pytest.mark.parametrize(
    "other",
    [
        (Message("user", "One?"),),
        (Message("assistant", "one?"),),
        (Message("system", "Be brief."), Message("user", "one?")),
        (Message("user", "hm"), Message("assistant", "yes?"), Message("user", "one?")),
    ],
)
def test_another_conversation_is_answered_again(other: Prompt, space: Workspace) -> None:
    answerer(space).answer("asking", [*prompts("one?"), other], BASE)
    assert len(CountingReader.prompts) == 2


def test_two_projects_do_not_share_answers(tmp_path: Path) -> None:
    for name in ("one", "two"):
        answerer(workspace(tmp_path / name)).answer("asking", prompts("one?"), BASE)
    assert CountingReader.prompts == ["one?"] * 2


def test_without_prompts_the_model_is_not_called(space: Workspace) -> None:
    assert answerer(space, LostReader()).answer("asking", [], BASE) == []


def test_progress_counts_only_uncached_prompts(space: Workspace) -> None:
    seen: list[tuple[str, int]] = []

    @contextmanager
    def recording(label: str, total: int) -> Iterator[Advance]:
        seen.append((label, total))
        yield lambda _: None

    asking = Answerer(space, models(), recording)
    asking.answer("first", prompts("one?", "two?", "one?"), BASE)
    asking.answer("again", prompts("two?"), BASE)
    asking.answer("more", prompts("two?", "three?"), BASE)
    assert seen == [("first", 2), ("more", 1)]


def test_a_failed_call_caches_nothing(space: Workspace) -> None:
    with pytest.raises(ConnectionError):
        answerer(space, LostReader()).answer("asking", prompts("one?"), BASE)
    assert answerer(space, Echo()).answer("asking", prompts("one?"), BASE) == ["one?"]
    assert CountingReader.prompts == ["one?"] * 2


def test_a_missing_adapter_raises_before_the_model_is_called(space: Workspace) -> None:
    model = trained(space)
    shutil.rmtree(space.adapters / "a1")
    with pytest.raises(UserError, match="a1 is missing"):
        answerer(space).answer("asking", prompts("one?"), model)
    assert not CountingReader.prompts


def test_a_cached_answer_needs_neither_model_nor_adapter(space: Workspace) -> None:
    model = trained(space)
    answers = answerer(space).answer("asking", prompts("one?"), model)
    shutil.rmtree(space.adapters / "a1")
    assert answerer(space, LostReader()).answer("asking", prompts("one?"), model) == answers


# --- cached losses ---------------------------------------------------------------------------------------------------


def samples(*completions: str, question: str = "one?") -> list[TrainingSample]:
    return [TrainingSample((Message("user", question),), completion) for completion in completions]


def test_the_loss_of_a_sample_is_computed_once_and_the_order_is_kept(space: Workspace) -> None:
    first = answerer(space).losses("judging", samples("a", "bbb", "a", "cc"), BASE)
    assert first == [2.001, 2.003, 2.001, 2.002]
    again = answerer(space).losses("judging, another day", samples("cc", "a", "bbb"), BASE)
    assert again == [2.002, 2.001, 2.003]
    assert CountingReader.judged == samples("a", "bbb", "cc")


def test_a_loss_is_computed_again_for_another_adapter_or_identity(space: Workspace) -> None:
    for _ in range(2):
        assert answerer(space).losses("judging", samples("a"), BASE) == [2.001]
        assert answerer(space).losses("judging", samples("a"), trained(space)) == [0.101]
        assert answerer(space, OtherReader()).losses("judging", samples("a"), BASE) == [2.001]
    assert CountingReader.judged == samples("a") * 3


def test_the_loss_of_another_prompt_or_completion_is_computed_again(space: Workspace) -> None:
    requested = [*samples("a", "b"), *samples("a", "b", question="two?")]
    for sample in requested:
        answerer(space).losses("judging", [sample], BASE)
    assert CountingReader.judged == requested


def test_cached_losses_and_answers_are_kept_apart(space: Workspace) -> None:
    asking = answerer(space, Echo())
    for _ in range(2):
        assert asking.answer("asking", prompts("one?"), BASE) == ["one?"]
        assert asking.losses("judging", samples("one?", ""), BASE) == [2.004, 2.0]


def test_a_generator_without_losses_still_answers(space: Workspace) -> None:
    asking = answerer(space, ReaderWithoutLosses())
    assert asking.losses("judging", samples("a"), BASE) is None
    assert asking.losses("judging", [], BASE) is None
    assert asking.answer("asking", prompts("one?"), BASE)
    assert CountingReader.judged == []


def test_no_samples_have_no_losses(space: Workspace) -> None:
    assert answerer(space).losses("judging", [], BASE) == []
    assert CountingReader.judged == []


# --- one release -----------------------------------------------------------------------------------------------------


def page(end_of_life: str) -> str:
    return f"# Pump\n\n## Pump 1\n\n- End of life: {end_of_life}\n"


def published(number: int, space: Workspace, pages: dict[str, str], model: BuiltModel) -> Release:
    """A release of these pages, tagged in the index but not recorded in MLflow."""
    from ragtide.pipelines.build import open_index

    chunks = [
        chunk for name, text in pages.items() for chunk in chunk_document(document(name, text), space.params.chunk)
    ]
    index = open_index(space, models().embedder)
    built: BuiltIndex = index.refresh(InMemorySource.of(chunks), "s1", no_progress)
    index.tag(f"release-{number}", built.version)
    return release(number, index=built, model=model)


def ask(released: Release, space: Workspace, question: str = PUMP) -> Answer:
    return Assistant.of(released, space, models(), no_progress).ask(question)


def test_an_answer_names_its_sources(space: Workspace) -> None:
    pages = {"pump.md": page("2027-01-01"), "deep/tank.md": "# Tank\n\nA tank holds water.\n"}
    answer = ask(published(1, space, pages, trained(space)), space)
    assert answer.text == "2027-01-01"
    assert answer.sources == ("pump.md", "deep/tank.md")
    assert answer.passages[0].heading == "Pump > Pump 1"


def test_sources_name_each_document_once() -> None:
    passages = [Passage(name, position, "", "text", 0.1) for name, position in (("b.md", 4), ("a.md", 0), ("b.md", 1))]
    assert Answer("text", tuple(passages)).sources == ("b.md", "a.md")


@pytest.mark.parametrize("top_k", [1, 2, 5])
def test_top_k_passages_are_retrieved(top_k: int, tmp_path: Path) -> None:
    space = workspace(tmp_path, index={"top_k": top_k})
    pages = {f"{number}.md": f"# Page {number}\n\nPump {number} is here.\n" for number in range(5)}
    answer = ask(published(1, space, pages, BASE), space)
    assert len(answer.passages) == top_k
    assert CountingReader.prompts[0].count("is here") == top_k


def test_an_open_assistant_stays_with_its_release_after_a_newer_one_was_published(space: Workspace) -> None:
    old = published(1, space, {"pump.md": page("2027-01-01")}, trained(space))
    assistant = Assistant.of(old, space, models(), no_progress)
    assert assistant.ask(PUMP).text == "2027-01-01"
    new = published(2, space, {"pump.md": page("2029-09-09"), "new.md": "# New\n\nPump 1.\n"}, BASE)
    assert assistant.ask(PUMP).text == "2027-01-01"
    assert assistant.ask(PUMP).sources == ("pump.md",)
    assert ask(old, space).text == "2027-01-01"
    assert "2029-09-09" in ask(new, space).passages[0].text


@pytest.mark.parametrize(("adapter", "expected"), [(True, "2027-01-01"), (False, "That depends on many things")])
def test_a_release_answers_with_its_own_adapter(adapter: bool, expected: str, space: Workspace) -> None:
    model = trained(space) if adapter else BASE
    assert ask(published(1, space, {"pump.md": page("2027-01-01")}, model), space).text == expected


def test_a_release_whose_index_is_missing_raises(space: Workspace) -> None:
    first = published(1, space, {"pump.md": page("2027-01-01")}, BASE)
    with pytest.raises(UserError, match="has no version release-2"):
        ask(release(2, index=first.index), space)
    shutil.rmtree(space.index_uri)
    with pytest.raises(UserError, match="no index at"):
        ask(first, space)


def test_several_questions_are_answered_in_order_in_one_call_of_the_model(space: Workspace) -> None:
    calls: list[int] = []

    class Batched(CountingReader):
        def generate(self, prompts: Sequence[Prompt], adapter: Path | None, advance: Advance) -> list[str]:
            calls.append(len(prompts))
            return super().generate(prompts, adapter, advance)

    pages = {"pump.md": page("2027-01-01"), "tank.md": "# Tank\n\n## Tank 2\n\n- End of life: 2029-09-09\n"}
    released = published(1, space, pages, trained(space))
    assistant = Assistant.of(released, space, models(Batched()), no_progress)
    questions = ["When does Tank 2 reach end of life?", PUMP]
    answers = assistant.generate(questions, [assistant.retrieve(question) for question in questions])
    assert [answer.text for answer in answers] == ["2029-09-09", "2027-01-01"]
    assert calls == [2]
    assert assistant.generate([], []) == []
    assert assistant.release == released


def test_warming_up_bypasses_the_cache(space: Workspace) -> None:
    assistant = Assistant.of(
        published(1, space, {"pump.md": page("2027")}, trained(space)), space, models(), no_progress
    )
    for _ in range(2):
        assistant.warm_up()
    assert len(CountingReader.prompts) == 2


def test_warming_up_a_release_whose_adapter_is_missing_raises(space: Workspace) -> None:
    assistant = Assistant.of(
        published(1, space, {"pump.md": page("2027")}, trained(space)), space, models(), no_progress
    )
    shutil.rmtree(space.adapters / "a1")
    with pytest.raises(UserError, match="a1 is missing"):
        assistant.warm_up()


# --- the judge -------------------------------------------------------------------------------------------------------


class StrictJudge:
    """Accepts only literally equal answers; records its requests."""

    def __init__(self, identity: str = "strict") -> None:
        self.identity = identity
        self.requests: list[JudgeRequest] = []

    def judge(self, request: JudgeRequest) -> float:
        self.requests.append(request)
        return float(request.answer in request.right)


REQUESTS = [
    JudgeRequest("How?", "So.", ("So.", "Thus.")),
    JudgeRequest("How?", "No.", ("So.",)),
    JudgeRequest("Why?", "So.", ("So.",)),
]


def test_the_judge_gets_each_request_once(space: Workspace) -> None:
    judge = StrictJudge()
    for _ in range(2):
        assert Answerer(space, models(), no_progress, judge).judge_scores([*REQUESTS, REQUESTS[0]]) == [
            1.0,
            0.0,
            1.0,
            1.0,
        ]
    assert judge.requests == REQUESTS


def test_another_judge_or_other_accepted_answers_are_judged_again(space: Workspace) -> None:
    judge, other = StrictJudge(), StrictJudge("other")
    Answerer(space, models(), no_progress, judge).judge_scores(REQUESTS[:1])
    Answerer(space, models(), no_progress, other).judge_scores(REQUESTS[:1])
    Answerer(space, models(), no_progress, judge).judge_scores([JudgeRequest("How?", "So.", ("Thus.",))])
    assert (len(judge.requests), len(other.requests)) == (2, 1)


def test_without_a_judge_any_request_raises(space: Workspace) -> None:
    assert answerer(space).judge_scores([]) == []
    with pytest.raises(UserError, match=r"score\.judge"):
        answerer(space).judge_scores(REQUESTS)
