"""Is a question answered by one release, with its sources, and is no answer computed twice? Counting fakes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from ragtide.pipelines.corpus import InMemorySource
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.evaluation import assistant as module
from ragtide.pipelines.evaluation.assistant import Answer, Answerer, Assistant
from ragtide.pipelines.index.chunking import chunk_document
from ragtide.pipelines.index.search import Passage
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
    """Was reached, and then went away."""

    def generate(self, prompts: Sequence[Prompt], adapter: Path | None, advance: Advance) -> list[str]:
        super().generate(prompts, adapter, advance)
        raise ConnectionError("the model went away")


class MuteReader(CountingReader):
    """Of a user's own: answers, and tells no losses."""

    losses = None  # type: ignore[assignment]


class Echo(CountingReader):
    """Says the prompt again."""

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


def taught(space: Workspace, name: str = "a1") -> BuiltModel:
    """A model whose adapter has learnt to read."""
    write(space.adapters / name / SKILLS, json.dumps({"reads": True, "json": False}))
    return BuiltModel(base="reader-1", adapter=name, examples="x", settings="s")


# --- the model's own base ------------------------------------------------------------------------------------------


def test_a_release_of_another_base_is_never_answered_by_todays(space: Workspace) -> None:
    other = BASE.model_copy(update={"base": "reader-2"})
    with pytest.raises(UserError, match=r"base model reader-2 .*reader-1"):
        answerer(space).answer("asking", prompts("one?"), other)
    with pytest.raises(UserError, match="base model reader-2"):
        answerer(space).losses("judging", [TrainingSample(prompts("one?")[0], "May")], other)
    assert CountingReader.prompts == []


def test_a_base_that_is_still_there_answers_for_its_release(space: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        module, "load_generator_for", lambda _, models, model: Echo() if model != BASE else models.generator
    )
    other = BASE.model_copy(update={"base": "reader-2"})
    asking = answerer(space, OtherReader())
    assert asking.answer("asking", prompts("one?"), other) == ["one?"]
    assert asking.answer("asking", prompts("one?"), BASE) != ["one?"]
    assert asking.base == "reader-1"


# --- each answer once ----------------------------------------------------------------------------------------------


def test_the_same_prompt_is_asked_once_ever(space: Workspace) -> None:
    first = answerer(space).answer("asking", prompts("one?", "two?"), BASE)
    again = answerer(space).answer("asking, another day", prompts("two?", "three?", "one?"), BASE)
    assert CountingReader.prompts == ["one?", "two?", "three?"]
    assert (again[2], again[0]) == (first[0], first[1])


def test_a_prompt_that_comes_twice_is_asked_once_and_the_order_is_kept(space: Workspace) -> None:
    said = answerer(space, Echo()).answer("asking", prompts("b", "a", "b", "c", "a"), BASE)
    assert said == ["b", "a", "b", "c", "a"]
    assert CountingReader.prompts == ["b", "a", "c"]
    assert answerer(space, Echo()).answer("asking", prompts("c", "d", "b", "d"), BASE) == ["c", "d", "b", "d"]
    assert CountingReader.prompts == ["b", "a", "c", "d"]


@pytest.mark.parametrize("text", ["", "  two  blanks ", "two\nlines", "Grüße, 東京 🙂", '{"value": null}', "0"])
def test_an_answer_comes_back_as_it_was_given(text: str, space: Workspace) -> None:
    for _ in range(2):
        assert answerer(space, Echo()).answer("asking", prompts(text), BASE) == [text]
    assert CountingReader.prompts == [text]


def test_another_adapter_is_asked_anew(space: Workspace) -> None:
    for model in (BASE, taught(space, "a1"), taught(space, "a2"), BASE, taught(space, "a1")):
        answerer(space).answer("asking", prompts("one?"), model)
    assert CountingReader.prompts == ["one?"] * 3


def test_another_identity_is_asked_anew(space: Workspace) -> None:
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
def test_another_conversation_is_asked_anew(other: Prompt, space: Workspace) -> None:
    answerer(space).answer("asking", [*prompts("one?"), other], BASE)
    assert len(CountingReader.prompts) == 2


def test_two_projects_do_not_share_answers(tmp_path: Path) -> None:
    for name in ("one", "two"):
        answerer(workspace(tmp_path / name)).answer("asking", prompts("one?"), BASE)
    assert CountingReader.prompts == ["one?"] * 2


def test_nothing_is_asked_where_there_is_no_question(space: Workspace) -> None:
    assert answerer(space, LostReader()).answer("asking", [], BASE) == []


def test_progress_counts_only_what_is_new(space: Workspace) -> None:
    seen: list[tuple[str, int]] = []

    @contextmanager
    def noting(label: str, total: int) -> Iterator[Advance]:
        seen.append((label, total))
        yield lambda _: None

    asking = Answerer(space, models(), noting)
    asking.answer("first", prompts("one?", "two?", "one?"), BASE)
    asking.answer("again", prompts("two?"), BASE)
    asking.answer("more", prompts("two?", "three?"), BASE)
    assert seen == [("first", 2), ("more", 1)]


def test_a_model_that_went_away_leaves_no_answer_behind(space: Workspace) -> None:
    with pytest.raises(ConnectionError):
        answerer(space, LostReader()).answer("asking", prompts("one?"), BASE)
    assert answerer(space, Echo()).answer("asking", prompts("one?"), BASE) == ["one?"]
    assert CountingReader.prompts == ["one?"] * 2


def test_a_missing_adapter_is_refused_before_anything_is_asked(space: Workspace) -> None:
    model = taught(space)
    shutil.rmtree(space.adapters / "a1")
    with pytest.raises(UserError, match="a1 is missing"):
        answerer(space).answer("asking", prompts("one?"), model)
    assert not CountingReader.prompts


def test_a_kept_answer_needs_neither_model_nor_adapter(space: Workspace) -> None:
    model = taught(space)
    said = answerer(space).answer("asking", prompts("one?"), model)
    shutil.rmtree(space.adapters / "a1")
    assert answerer(space, LostReader()).answer("asking", prompts("one?"), model) == said


# --- each loss once ------------------------------------------------------------------------------------------------


def lessons(*completions: str, question: str = "one?") -> list[TrainingSample]:
    return [TrainingSample((Message("user", question),), completion) for completion in completions]


def test_the_loss_of_a_lesson_is_asked_once_ever_and_the_order_is_kept(space: Workspace) -> None:
    first = answerer(space).losses("judging", lessons("a", "bbb", "a", "cc"), BASE)
    assert first == [2.001, 2.003, 2.001, 2.002]
    again = answerer(space).losses("judging, another day", lessons("cc", "a", "bbb"), BASE)
    assert again == [2.002, 2.001, 2.003]
    assert CountingReader.judged == lessons("a", "bbb", "cc")


def test_a_loss_is_asked_anew_of_another_adapter_and_under_another_identity(space: Workspace) -> None:
    for _ in range(2):
        assert answerer(space).losses("judging", lessons("a"), BASE) == [2.001]
        assert answerer(space).losses("judging", lessons("a"), taught(space)) == [0.101]
        assert answerer(space, OtherReader()).losses("judging", lessons("a"), BASE) == [2.001]
    assert CountingReader.judged == lessons("a") * 3


def test_another_prompt_or_another_completion_is_judged_anew(space: Workspace) -> None:
    asked = [*lessons("a", "b"), *lessons("a", "b", question="two?")]
    for one in asked:
        answerer(space).losses("judging", [one], BASE)
    assert CountingReader.judged == asked


def test_a_loss_is_not_taken_for_an_answer_nor_an_answer_for_a_loss(space: Workspace) -> None:
    asking = answerer(space, Echo())
    for _ in range(2):
        assert asking.answer("asking", prompts("one?"), BASE) == ["one?"]
        assert asking.losses("judging", lessons("one?", ""), BASE) == [2.004, 2.0]


def test_a_generator_that_cannot_tell_has_no_losses_and_still_answers(space: Workspace) -> None:
    asking = answerer(space, MuteReader())
    assert asking.losses("judging", lessons("a"), BASE) is None
    assert asking.losses("judging", [], BASE) is None
    assert asking.answer("asking", prompts("one?"), BASE)
    assert CountingReader.judged == []


def test_no_lessons_have_no_losses(space: Workspace) -> None:
    assert answerer(space).losses("judging", [], BASE) == []
    assert CountingReader.judged == []


# --- one release ---------------------------------------------------------------------------------------------------


def page(end_of_life: str) -> str:
    return f"# Pump\n\n## Pump 1\n\n- End of life: {end_of_life}\n"


def published(number: int, space: Workspace, pages: dict[str, str], model: BuiltModel) -> Release:
    """A release of these pages, tagged in the index; only MLflow knows nothing of it."""
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
    answer = ask(published(1, space, pages, taught(space)), space)
    assert answer.text == "2027-01-01"
    assert answer.sources == ("pump.md", "deep/tank.md")
    assert answer.passages[0].heading == "Pump > Pump 1"


def test_a_document_is_named_once_however_many_passages_it_gives() -> None:
    found = [Passage(name, position, "", "text", 0.1) for name, position in (("b.md", 4), ("a.md", 0), ("b.md", 1))]
    assert Answer("text", tuple(found)).sources == ("b.md", "a.md")


@pytest.mark.parametrize("top_k", [1, 2, 5])
def test_as_many_passages_are_read_as_params_say(top_k: int, tmp_path: Path) -> None:
    space = workspace(tmp_path, index={"top_k": top_k})
    pages = {f"{number}.md": f"# Page {number}\n\nPump {number} is here.\n" for number in range(5)}
    answer = ask(published(1, space, pages, BASE), space)
    assert len(answer.passages) == top_k
    assert CountingReader.prompts[0].count("is here") == top_k


def test_a_reader_stays_with_its_release_after_a_newer_one_was_published(space: Workspace) -> None:
    old = published(1, space, {"pump.md": page("2027-01-01")}, taught(space))
    reading = Assistant.of(old, space, models(), no_progress)
    assert reading.ask(PUMP).text == "2027-01-01"
    new = published(2, space, {"pump.md": page("2029-09-09"), "new.md": "# New\n\nPump 1.\n"}, BASE)
    assert reading.ask(PUMP).text == "2027-01-01"
    assert reading.ask(PUMP).sources == ("pump.md",)
    assert ask(old, space).text == "2027-01-01"
    assert "2029-09-09" in ask(new, space).passages[0].text


@pytest.mark.parametrize(("adapter", "expected"), [(True, "2027-01-01"), (False, "That depends on many things")])
def test_a_release_answers_with_its_own_adapter(adapter: bool, expected: str, space: Workspace) -> None:
    model = taught(space) if adapter else BASE
    assert ask(published(1, space, {"pump.md": page("2027-01-01")}, model), space).text == expected


def test_a_release_whose_index_is_gone_is_refused_by_its_tag(space: Workspace) -> None:
    published(1, space, {"pump.md": page("2027-01-01")}, BASE)
    with pytest.raises(UserError, match="has no version release-2"):
        ask(release(2), space)
    shutil.rmtree(space.index_uri)
    with pytest.raises(UserError, match="no index at"):
        ask(release(1), space)


def test_several_questions_are_answered_in_order_in_one_call_of_the_model(space: Workspace) -> None:
    calls: list[int] = []

    class Batched(CountingReader):
        def generate(self, prompts: Sequence[Prompt], adapter: Path | None, advance: Advance) -> list[str]:
            calls.append(len(prompts))
            return super().generate(prompts, adapter, advance)

    pages = {"pump.md": page("2027-01-01"), "tank.md": "# Tank\n\n## Tank 2\n\n- End of life: 2029-09-09\n"}
    released = published(1, space, pages, taught(space))
    assistant = Assistant.of(released, space, models(Batched()), no_progress)
    questions = ["When does Tank 2 reach end of life?", PUMP]
    answers = assistant.say(questions, [assistant.find(question) for question in questions])
    assert [answer.text for answer in answers] == ["2029-09-09", "2027-01-01"]
    assert calls == [2]
    assert assistant.say([], []) == []
    assert assistant.release == released


def test_warming_up_asks_the_model_itself_and_keeps_nothing(space: Workspace) -> None:
    assistant = Assistant.of(
        published(1, space, {"pump.md": page("2027")}, taught(space)), space, models(), no_progress
    )
    for _ in range(2):
        assistant.warm_up()
    assert len(CountingReader.prompts) == 2


def test_warming_up_refuses_a_release_whose_adapter_is_missing(space: Workspace) -> None:
    assistant = Assistant.of(
        published(1, space, {"pump.md": page("2027")}, taught(space)), space, models(), no_progress
    )
    shutil.rmtree(space.adapters / "a1")
    with pytest.raises(UserError, match="a1 is missing"):
        assistant.warm_up()


# --- the judge -----------------------------------------------------------------------------------------------------


class Strict:
    """Calls right what is word for word a right answer; counts its opinions."""

    def __init__(self, identity: str = "strict") -> None:
        self.identity = identity
        self.asked: list[JudgeRequest] = []

    def judge(self, claim: JudgeRequest) -> float:
        self.asked.append(claim)
        return float(claim.answer in claim.right)


CLAIMS = [
    JudgeRequest("How?", "So.", ("So.", "Thus.")),
    JudgeRequest("How?", "No.", ("So.",)),
    JudgeRequest("Why?", "So.", ("So.",)),
]


def test_the_judge_is_asked_each_claim_once_ever(space: Workspace) -> None:
    judge = Strict()
    for _ in range(2):
        assert Answerer(space, models(), no_progress, judge).opinions([*CLAIMS, CLAIMS[0]]) == [1.0, 0.0, 1.0, 1.0]
    assert judge.asked == CLAIMS


def test_another_judge_and_other_right_answers_are_asked_anew(space: Workspace) -> None:
    judge, other = Strict(), Strict("other")
    Answerer(space, models(), no_progress, judge).opinions(CLAIMS[:1])
    Answerer(space, models(), no_progress, other).opinions(CLAIMS[:1])
    Answerer(space, models(), no_progress, judge).opinions([JudgeRequest("How?", "So.", ("Thus.",))])
    assert (len(judge.asked), len(other.asked)) == (2, 1)


def test_without_a_judge_there_are_no_opinions_but_on_nothing(space: Workspace) -> None:
    assert answerer(space).opinions([]) == []
    with pytest.raises(UserError, match=r"asks for a judge: name one in params\.yaml \(score\.judge\)"):
        answerer(space).opinions(CLAIMS)
