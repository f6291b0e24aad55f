"""Does whoever asks get one release, whole, and the one that is live, however the pointer moves? Real MLflow, fakes."""

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
class Desk:
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
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_project(tmp_path_factory.mktemp("serve") / "told")
    write_releases(root)
    return root


@pytest.fixture
def desk(told: Path, tmp_path: Path) -> Desk:
    shutil.copytree(told, tmp_path / "told")
    fakes.forget()
    return Desk(tmp_path / "told")


def is_whole(answer: Reply) -> bool:
    """Whether index, adapter and number are those of one release."""
    when, adapter = FACTS[answer.release]
    return answer.adapter == adapter and answer.answer == SAYS[answer.release] and when in answer.sources[0].text


def away(*_: object, **__: object) -> Any:
    raise UnavailableError("MLflow does not answer as it should")


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    return lambda: [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]


# --- what is answered ----------------------------------------------------------------------------------------------


def test_a_reply_names_its_sources_and_all_that_gave_it(desk: Desk) -> None:
    answer = desk.ask()
    release = Registry(Project.open(desk.root, no_progress).workspace).release("3")
    assert (answer.answer, answer.release, answer.adapter) == ("2033-03-03", "3", "a1")
    assert answer.index_version == release.index.version
    assert [(one.document, one.position, one.heading) for one in answer.sources] == [("pump.md", 0, "Pump > Pump 1")]
    assert "End of life: 2033-03-03" in answer.sources[0].text


def test_ask_of_the_command_line_says_what_the_service_says(desk: Desk) -> None:
    assert make_reply(*Project.open(desk.root, no_progress).ask(PUMP)) == desk.ask()


@pytest.mark.parametrize("wrong", ["", " \n\t ", 3, None, "x" * 4001])
def test_what_is_no_question_is_refused(wrong: object) -> None:
    with pytest.raises(ValidationError):
        ServedQuestion.model_validate({"question": wrong})


def test_what_a_question_does_not_have_is_refused() -> None:
    with pytest.raises(ValidationError, match="release"):
        ServedQuestion.model_validate({"question": "When?", "release": "1"})


def test_white_space_around_a_question_is_not_part_of_it() -> None:
    assert ServedQuestion(question="  When?\n").question == "When?"


# --- following the pointer -----------------------------------------------------------------------------------------


def test_every_move_of_the_pointer_is_seen_at_the_next_question_and_index_and_adapter_go_together(desk: Desk) -> None:
    for release in ("3", "2", "1", "2", "3", "1"):
        desk.set_live(release)
        answer = desk.ask()
        assert answer.release == release
        assert is_whole(answer)


def test_while_nothing_moves_a_question_costs_one_look_at_the_pointer(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.ask()
    monkeypatch.setattr(Registry, "champion", away)
    monkeypatch.setattr(Assistant, "of", away)
    assert [desk.ask().release for _ in range(3)] == ["3"] * 3


def test_a_pointer_that_moves_in_the_middle_of_a_question_changes_the_next_one(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = Assistant.find

    def moving(self: Assistant, question: str) -> Any:
        found = find(self, question)
        desk.set_live("2")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Assistant, "find", moving)
        first = desk.ask()
    second = desk.ask()
    assert (first.release, second.release) == ("3", "2")
    assert is_whole(first)
    assert is_whole(second)


def test_many_who_ask_at_once_while_the_pointer_moves_wait_for_each_other_and_never_get_a_mix(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate, asked, at_once = CountingReader.generate, [], []

    def watched(*arguments: Any) -> list[str]:
        asked.append(1)
        at_once.append(len(asked))
        time.sleep(0.01)
        said = generate(*arguments)
        asked.pop()
        return said

    monkeypatch.setattr(CountingReader, "generate", watched)
    with ThreadPoolExecutor(5) as pool:
        moved = pool.submit(lambda: [desk.set_live(release) for release in "123123123123"])
        # Each question is another one: what was kept is not said by the model.
        replies = list(pool.map(lambda number: desk.ask(f"{PUMP} ({number})"), range(40)))
        moved.result()
    assert all(is_whole(one) for one in replies)
    assert len(at_once) >= 40
    assert set(at_once) == {1}
    assert desk.ask().release == "3"


def test_the_release_that_was_left_is_let_go_of(desk: Desk) -> None:
    with desk.service.live() as assistant:
        left = weakref.ref(assistant)
    del assistant
    desk.set_live("2")
    desk.ask()
    gc.collect()
    assert left() is None


def test_new_settings_count_from_the_next_release_on(desk: Desk) -> None:
    path = desk.root / "params.yaml"
    desk.ask()
    blocks = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(blocks | {"index": blocks["index"] | {"search": "text"}}))
    before = desk.service._project
    desk.ask()
    assert desk.service._project is before
    desk.set_live("2")
    assert is_whole(desk.ask())
    assert desk.service._project.workspace.params.index.search == "text"


# --- opened whole --------------------------------------------------------------------------------------------------


def test_the_model_is_loaded_before_the_first_question_and_again_only_for_another(desk: Desk) -> None:
    def loads() -> int:
        return sum(prompt == "Are you there?" for prompt in CountingReader.prompts)

    with desk.service.live():
        assert (loads(), len(CountingReader.prompts)) == (1, 1)
    desk.set_live("1")  # The same adapter.
    desk.ask()
    assert loads() == 1
    desk.set_live("2")
    desk.ask()
    assert loads() == 2
    Desk(desk.root).ask()  # The answer is kept, and a process that starts still has its model loaded.
    assert loads() == 3


def test_a_release_that_cannot_be_opened_leaves_the_open_one_answering_until_it_can(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, warnings: Callable[[], list[str]]
) -> None:
    desk.ask()
    lost = desk.root / ".ragtide/adapters/a2"
    lost.rename(desk.root / "elsewhere")
    desk.set_live("2")
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "download_artifacts", away)
        assert is_whole(desk.ask())
        assert desk.ask().release == "3"
        assert len(warnings()) == 1
        assert warnings()[0].startswith("release 3 goes on answering: ")
    (desk.root / "elsewhere").rename(lost)
    desk.now += RETRY_SECONDS
    assert desk.ask().release == "2"


@pytest.mark.parametrize(("model", "use"), [(CountingReader, "generate"), (CountingEmbedder, "embed")])
def test_a_model_that_does_not_load_leaves_the_open_release_answering(
    model: type, use: str, desk: Desk, monkeypatch: pytest.MonkeyPatch, warnings: Callable[[], list[str]]
) -> None:
    desk.ask()
    desk.set_live("2")
    with monkeypatch.context() as patch:
        patch.setattr(model, use, away)
        answer = desk.ask()
    assert answer.release == "3"
    assert warnings() == ["release 3 goes on answering: MLflow does not answer as it should"]


def test_what_nobody_foresaw_leaves_the_open_release_answering_and_its_traceback_in_the_log(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> Any:
        raise RuntimeError("the table is gone")

    desk.ask()
    desk.set_live("2")
    with monkeypatch.context() as patch:
        patch.setattr(Assistant, "of", broken)
        assert is_whole(desk.ask())
    [record] = [one for one in caplog.records if one.levelno >= logging.WARNING]
    assert record.exc_info
    assert "the table is gone" in record.getMessage()


def test_settings_that_cannot_be_read_leave_the_open_release_answering(
    desk: Desk, warnings: Callable[[], list[str]]
) -> None:
    desk.ask()
    desk.set_live("2")
    (desk.root / "params.yaml").write_text("index: {nonsense: 1}\n")
    assert desk.ask().release == "3"
    assert "nonsense" in warnings()[0]


def test_at_first_there_is_none_to_go_on_with(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Registry, "live_release_id", away)
        with pytest.raises(UnavailableError):
            desk.ask()
    assert desk.ask().release == "3"


# --- when the registry is away -------------------------------------------------------------------------------------


def test_while_the_registry_is_away_the_open_release_answers_and_the_registry_is_not_asked_at_every_question(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, warnings: Callable[[], list[str]]
) -> None:
    looked: list[float] = []

    def counted(_: Registry) -> Any:
        looked.append(desk.now)
        return away()

    desk.ask()
    desk.set_live("2")
    with monkeypatch.context() as patch:
        patch.setattr(Registry, "live_release_id", counted)
        for seconds in (0, 1, RETRY_SECONDS - 0.1, RETRY_SECONDS, RETRY_SECONDS + 1):
            desk.now = seconds
            assert is_whole(desk.ask())
    assert looked == [0, RETRY_SECONDS]
    assert warnings() == ["release 3 goes on answering: MLflow does not answer as it should"] * 2
    desk.now = 2 * RETRY_SECONDS
    assert desk.ask().release == "2"


def test_where_nothing_is_live_any_more_nothing_answers_until_something_is(desk: Desk) -> None:
    desk.ask()
    desk.client.delete_registered_model_alias("ragtide", CHAMPION)
    for _ in range(2):
        with pytest.raises(UserError, match="nothing is live yet"):
            desk.ask()
    desk.set_live("1")
    assert is_whole(desk.ask())


# --- any order of things -------------------------------------------------------------------------------------------

EVENTS = ("ask", "1", "2", "3", "away", "back", "a2 is lost", "a2 is found", "time")


@dataclass
class World:
    """What a service looks at: a pointer, a registry that may be away, and an adapter that may be lost."""

    records: dict[str, Release]
    pointed_at: str = "3"
    is_away: bool = False
    is_lost: bool = False

    def stand_in(self, patch: pytest.MonkeyPatch) -> None:
        generate = CountingReader.generate

        def said(reader: CountingReader, prompts: Any, adapter: Path, advance: Any) -> list[str]:
            return away() if self.is_lost and adapter.name == "a2" else generate(reader, prompts, adapter, advance)

        patch.setattr(Registry, "live_release_id", lambda _: away() if self.is_away else self.pointed_at)
        patch.setattr(Registry, "champion", lambda _: away() if self.is_away else self.records[self.pointed_at])
        patch.setattr(CountingReader, "generate", said)

    def happen(self, event: str) -> None:
        if event in FACTS:
            self.pointed_at = event
        elif event in ("away", "back"):
            self.is_away = event == "away"
        else:
            self.is_lost = event == "a2 is lost"


@pytest.fixture(scope="module")
def records(told: Path) -> dict[str, Release]:
    registry = Project.open(told, no_progress).registry
    return {number: registry.release(number) for number in FACTS}


@settings(max_examples=30, deadline=None)
@given(events=st.lists(st.sampled_from(EVENTS), min_size=1, max_size=25))
def test_in_any_order_of_moves_outages_and_losses_a_reply_is_whole_and_in_the_end_it_is_of_what_is_live(
    events: list[str], told: Path, records: dict[str, Release]
) -> None:
    world, desk = World(records), Desk(told)
    with pytest.MonkeyPatch.context() as patch:
        world.stand_in(patch)
        shown = desk.ask().release
        for event in events:
            if event == "time":
                desk.now += RETRY_SECONDS
            elif event == "ask":
                answer = desk.ask()
                assert is_whole(answer)
                assert answer.release in (shown, world.pointed_at)
                shown = answer.release
            else:
                world.happen(event)
        world.is_away = world.is_lost = False
        desk.now += RETRY_SECONDS
        assert is_whole(desk.ask())
        assert desk.ask().release == world.pointed_at
