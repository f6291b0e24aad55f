"""Tests of the answer service: whole releases, following the pointer and failures; real MLflow, fake models."""

from __future__ import annotations

import gc
import json
import logging
import shutil
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow.tracking import MlflowClient
from pydantic import ValidationError

from ragtide.pipelines.errors import UnavailableError, UserError
from ragtide.pipelines.evaluation.assistant import Assistant
from ragtide.pipelines.ports import no_progress
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.release import BuiltModel, Release
from ragtide.pipelines.registry.releases import CHAMPION, Registry
from ragtide.pipelines.release.serving import RETRY_SECONDS, AnswerService, Reply, ServedQuestion, make_reply
from tests import fakes
from tests.conftest import write_project
from tests.factories import write
from tests.fakes import SKILLS, CountingEmbedder, CountingReader
from tests.projects import release_of

PUMP = "When does Pump 1 reach end of life?"
# What each release answers: its page says when, and its adapter in which form. A mix would say something else.
FACTS = {"1": ("2027-01-01", "a1"), "2": ("2031-05-05", "a2"), "3": ("2033-03-03", "a1")}
SAYS = {"1": "2027-01-01", "2": '{"value": "2031-05-05"}', "3": "2033-03-03"}


def write_releases(root: Path) -> None:
    """Three releases, the third of which is live, with two adapters between them."""
    write(root / "data/golden/q.jsonl", json.dumps({"question": PUMP, "answers": ["2027-01-01"], "docs": ["pump.md"]}))
    for end_of_life, adapter in FACTS.values():
        write(root / "data/kb/pump.md", f"# Pump\n\n## Pump 1\n\n- End of life: {end_of_life}\n")
        project = Project.open(root, no_progress)
        skills = {"reads": True, "json": adapter == "a2"}
        write(project.workspace.adapters / adapter / SKILLS, json.dumps(skills))
        release_of(project, BuiltModel(base="reader-1", adapter=adapter, examples=None, settings=None))


@dataclass
class ServedProject:
    """A project with three releases, a service on it, and a clock that stands still."""

    root: Path
    now: float = 0.0
    service: AnswerService = field(init=False)

    def __post_init__(self) -> None:
        self.service = AnswerService(self.root, lambda: self.now)

    def ask(self, question: str = PUMP) -> Reply:
        with self.service.live() as assistant:
            return make_reply(assistant.release, assistant.ask(question))

    def set_live(self, release: str) -> None:
        self.client.set_registered_model_alias("ragtide", CHAMPION, release)

    @property
    def client(self) -> MlflowClient:
        uri = Project.open(self.root, no_progress).workspace.tracking_uri
        return MlflowClient(uri, registry_uri=uri)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_project(tmp_path_factory.mktemp("serving") / "project")
    write_releases(root)
    return root


@pytest.fixture
def served(template: Path, tmp_path: Path) -> ServedProject:
    shutil.copytree(template, tmp_path / "project")
    fakes.forget()
    return ServedProject(tmp_path / "project")


def is_whole(answer: Reply) -> bool:
    """Whether index, adapter and number are those of one release."""
    when, adapter = FACTS[answer.release]
    return answer.adapter == adapter and answer.answer == SAYS[answer.release] and when in answer.sources[0].text


def unavailable(*_: object, **__: object) -> Any:
    raise UnavailableError("MLflow does not answer")


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    return lambda: [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


# --- what is answered ----------------------------------------------------------------------------------------------


def test_a_reply_names_its_sources_and_all_that_gave_it(served: ServedProject) -> None:
    answer = served.ask()
    release = Registry(Project.open(served.root, no_progress).workspace).release("3")
    assert (answer.answer, answer.release, answer.adapter) == ("2033-03-03", "3", "a1")
    assert answer.index_version == release.index.version
    assert [(source.document, source.position, source.heading) for source in answer.sources] == [
        ("pump.md", 0, "Pump > Pump 1")
    ]
    assert "End of life: 2033-03-03" in answer.sources[0].text


def test_ask_of_the_command_line_says_what_the_service_says(served: ServedProject) -> None:
    assert make_reply(*Project.open(served.root, no_progress).ask(PUMP)) == served.ask()


@pytest.mark.parametrize("wrong", ["", " \n\t ", 3, None, "x" * 4001])
def test_an_invalid_question_raises(wrong: object) -> None:
    with pytest.raises(ValidationError):
        ServedQuestion.model_validate({"question": wrong})


def test_an_unknown_field_of_a_question_raises() -> None:
    with pytest.raises(ValidationError, match="release"):
        ServedQuestion.model_validate({"question": "When?", "release": "1"})


def test_white_space_around_a_question_is_not_part_of_it() -> None:
    assert ServedQuestion(question="  When?\n").question == "When?"


# --- following the pointer -----------------------------------------------------------------------------------------


def test_the_next_question_follows_the_pointer_with_index_and_adapter_together(served: ServedProject) -> None:
    for release in ("3", "2", "1", "2", "3", "1"):
        served.set_live(release)
        answer = served.ask()
        assert answer.release == release
        assert is_whole(answer)


def test_while_the_pointer_stays_a_question_reads_only_the_pointer(
    served: ServedProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.ask()
    monkeypatch.setattr(Registry, "champion", unavailable)
    monkeypatch.setattr(Assistant, "of", unavailable)
    assert [served.ask().release for _ in range(3)] == ["3"] * 3


def test_a_pointer_move_during_a_question_changes_the_next_one(
    served: ServedProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    retrieve = Assistant.retrieve

    def moving(self: Assistant, question: str) -> Any:
        passages = retrieve(self, question)
        served.set_live("2")
        return passages

    with monkeypatch.context() as patch:
        patch.setattr(Assistant, "retrieve", moving)
        first = served.ask()
    second = served.ask()
    assert (first.release, second.release) == ("3", "2")
    assert is_whole(first)
    assert is_whole(second)


def test_concurrent_questions_during_pointer_moves_never_mix_releases(
    served: ServedProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate, running, at_once = CountingReader.generate, [], []

    def watched(*arguments: Any) -> list[str]:
        running.append(1)
        at_once.append(len(running))
        time.sleep(0.01)
        answers = generate(*arguments)
        running.pop()
        return answers

    monkeypatch.setattr(CountingReader, "generate", watched)
    with ThreadPoolExecutor(5) as pool:
        moved = pool.submit(lambda: [served.set_live(release) for release in "123123123123"])
        # Every question differs: a cached answer would not call the model.
        replies = list(pool.map(lambda number: served.ask(f"{PUMP} ({number})"), range(40)))
        moved.result()
    assert all(is_whole(reply) for reply in replies)
    assert len(at_once) >= 40
    assert set(at_once) == {1}
    assert served.ask().release == "3"


def test_the_previous_release_is_garbage_collected(served: ServedProject) -> None:
    with served.service.live() as assistant:
        left = weakref.ref(assistant)
    del assistant
    served.set_live("2")
    served.ask()
    gc.collect()
    assert left() is None


def test_new_settings_apply_from_the_next_release(served: ServedProject) -> None:
    path = served.root / "params.yaml"
    served.ask()
    blocks = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(blocks | {"index": blocks["index"] | {"search": "text"}}))
    before = served.service._project
    served.ask()
    assert served.service._project is before
    served.set_live("2")
    assert is_whole(served.ask())
    assert served.service._project.workspace.params.index.search == "text"


# --- opened whole --------------------------------------------------------------------------------------------------


def test_a_model_is_loaded_once_before_its_first_question(served: ServedProject) -> None:
    def loads() -> int:
        return sum(prompt == "Are you there?" for prompt in CountingReader.prompts)

    with served.service.live():
        assert (loads(), len(CountingReader.prompts)) == (1, 1)
    served.set_live("1")  # The same adapter.
    served.ask()
    assert loads() == 1
    served.set_live("2")
    served.ask()
    assert loads() == 2
    ServedProject(served.root).ask()  # The answer is kept, and a process that starts still has its model loaded.
    assert loads() == 3


def test_the_open_release_answers_until_the_next_can_be_opened(
    served: ServedProject, monkeypatch: pytest.MonkeyPatch, warnings: Callable[[], list[str]]
) -> None:
    served.ask()
    lost = served.root / ".ragtide/adapters/a2"
    lost.rename(served.root / "elsewhere")
    served.set_live("2")
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "download_artifacts", unavailable)
        assert is_whole(served.ask())
        assert served.ask().release == "3"
        assert len(warnings()) == 1
        assert "release 3" in warnings()[0]
    (served.root / "elsewhere").rename(lost)
    served.now += RETRY_SECONDS
    assert served.ask().release == "2"


@pytest.mark.parametrize(("model", "use"), [(CountingReader, "generate"), (CountingEmbedder, "embed")])
def test_the_open_release_answers_where_the_next_model_does_not_load(
    model: type, use: str, served: ServedProject, monkeypatch: pytest.MonkeyPatch, warnings: Callable[[], list[str]]
) -> None:
    served.ask()
    served.set_live("2")
    with monkeypatch.context() as patch:
        patch.setattr(model, use, unavailable)
        answer = served.ask()
    assert answer.release == "3"
    [warning] = warnings()
    assert "release 3" in warning
    assert "MLflow does not answer" in warning


def test_an_unexpected_error_keeps_the_open_release_and_is_logged_with_traceback(
    served: ServedProject, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> Any:
        raise RuntimeError("the table is missing")

    served.ask()
    served.set_live("2")
    with monkeypatch.context() as patch:
        patch.setattr(Assistant, "of", broken)
        assert is_whole(served.ask())
    [record] = [entry for entry in caplog.records if entry.levelno >= logging.WARNING]
    assert record.exc_info
    assert "the table is missing" in record.getMessage()


def test_the_open_release_answers_where_params_are_invalid(
    served: ServedProject, warnings: Callable[[], list[str]]
) -> None:
    served.ask()
    served.set_live("2")
    (served.root / "params.yaml").write_text("index: {nonsense: 1}\n")
    assert served.ask().release == "3"
    assert "nonsense" in warnings()[0]


def test_without_an_open_release_the_error_is_raised(served: ServedProject, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Registry, "live_release_id", unavailable)
        with pytest.raises(UnavailableError):
            served.ask()
    assert served.ask().release == "3"


# --- while the registry is unavailable -----------------------------------------------------------------------------


def test_while_the_registry_is_unavailable_it_is_asked_at_most_every_retry_seconds(
    served: ServedProject, monkeypatch: pytest.MonkeyPatch, warnings: Callable[[], list[str]]
) -> None:
    requested: list[float] = []

    def counted(_: Registry) -> Any:
        requested.append(served.now)
        return unavailable()

    served.ask()
    served.set_live("2")
    with monkeypatch.context() as patch:
        patch.setattr(Registry, "live_release_id", counted)
        for seconds in (0, 1, RETRY_SECONDS - 0.1, RETRY_SECONDS, RETRY_SECONDS + 1):
            served.now = seconds
            assert is_whole(served.ask())
    assert requested == [0, RETRY_SECONDS]
    assert ["release 3" in warning for warning in warnings()] == [True, True]
    served.now = 2 * RETRY_SECONDS
    assert served.ask().release == "2"


def test_without_a_live_release_questions_raise_until_one_is_live(served: ServedProject) -> None:
    served.ask()
    served.client.delete_registered_model_alias("ragtide", CHAMPION)
    for _ in range(2):
        with pytest.raises(UserError, match="nothing is live yet"):
            served.ask()
    served.set_live("1")
    assert is_whole(served.ask())


# --- any order of events -------------------------------------------------------------------------------------------

EVENTS = ("ask", "1", "2", "3", "registry down", "registry up", "a2 missing", "a2 restored", "time")


@dataclass
class World:
    """The state that a service reads: a pointer, a registry that may be down, and an adapter that may be missing."""

    records: dict[str, Release]
    live: str = "3"
    is_unavailable: bool = False
    is_missing: bool = False

    def stand_in(self, patch: pytest.MonkeyPatch) -> None:
        generate = CountingReader.generate

        def generate_or_fail(reader: CountingReader, prompts: Any, adapter: Path, advance: Any) -> list[str]:
            return (
                unavailable()
                if self.is_missing and adapter.name == "a2"
                else generate(reader, prompts, adapter, advance)
            )

        patch.setattr(Registry, "live_release_id", lambda _: unavailable() if self.is_unavailable else self.live)
        patch.setattr(Registry, "champion", lambda _: unavailable() if self.is_unavailable else self.records[self.live])
        patch.setattr(CountingReader, "generate", generate_or_fail)

    def happen(self, event: str) -> None:
        if event in FACTS:
            self.live = event
        elif event in ("registry down", "registry up"):
            self.is_unavailable = event == "registry down"
        else:
            self.is_missing = event == "a2 missing"


@pytest.fixture(scope="module")
def records(template: Path) -> dict[str, Release]:
    registry = Project.open(template, no_progress).registry
    return {number: registry.release(number) for number in FACTS}


@settings(max_examples=30, deadline=None)
@given(events=st.lists(st.sampled_from(EVENTS), min_size=1, max_size=25))
def test_replies_are_whole_and_finally_current_in_any_order_of_events(
    events: list[str], template: Path, records: dict[str, Release]
) -> None:
    world, served = World(records), ServedProject(template)
    with pytest.MonkeyPatch.context() as patch:
        world.stand_in(patch)
        shown = served.ask().release
        for event in events:
            if event == "time":
                served.now += RETRY_SECONDS
            elif event == "ask":
                answer = served.ask()
                assert is_whole(answer)
                assert answer.release in (shown, world.live)
                shown = answer.release
            else:
                world.happen(event)
        world.is_unavailable = world.is_missing = False
        served.now += RETRY_SECONDS
        assert is_whole(served.ask())
        assert served.ask().release == world.live
