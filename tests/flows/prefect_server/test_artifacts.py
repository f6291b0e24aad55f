"""Does a run's page in Prefect show what was decided, and is a step that is called outside of one left in peace?"""

from __future__ import annotations

import gc
from dataclasses import dataclass
from types import SimpleNamespace
from uuid import UUID

import pytest
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext, TaskRunContext

from ragtide.flows.prefect_server import artifacts
from ragtide.flows.prefect_server.runs import current_run, run_url


@dataclass(frozen=True)
class Shown:
    """What was put on a page."""

    markdown: str
    key: str
    description: str


class Page:
    """Stands in for Prefect's page."""

    def __init__(self) -> None:
        self.shown: list[Shown] = []

    def __call__(self, markdown: str, key: str, description: str) -> None:
        self.shown.append(Shown(markdown, key, description))


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Page:
    page = Page()
    monkeypatch.setattr(artifacts, "create_markdown_artifact", page)
    return page


def test_outside_of_a_run_there_is_no_page(page: Page) -> None:
    artifacts.show_markdown("decision", "# REFRESH", "plan 0123456789ab")
    assert page.shown == []


def test_in_a_run_the_page_gets_what_is_shown(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TaskRunContext, "get", object)
    artifacts.show_markdown("decision", "# REFRESH", "plan 0123456789ab")
    assert page.shown == [Shown("# REFRESH", "decision", "plan 0123456789ab")]


def test_prefect_keeps_it_with_the_run_that_made_it() -> None:
    @task(name="shows", cache_policy=NO_CACHE, persist_result=False)
    def shows() -> str:
        artifacts.show_markdown("replay-decision", "# REFRESH\n\n| a | b |\n| - | - |\n", "plan 0123456789ab")
        context = TaskRunContext.get()
        assert context is not None
        return str(context.task_run.id)

    run = shows()
    with get_client(sync_client=True) as client:
        [kept] = [one for one in client.read_artifacts() if str(one.task_run_id) == run]
    assert (kept.key, kept.type, kept.description) == ("replay-decision", "markdown", "plan 0123456789ab")
    assert kept.data == "# REFRESH\n\n| a | b |\n| - | - |\n"
    gc.collect()  # What Prefect left open would be noticed here, and not in some other test.


# --- how far a step is ---------------------------------------------------------------------------------------------


class Told:
    """Stands in for Prefect's progress artifacts."""

    def __init__(self, is_away: bool = False) -> None:
        self.is_away = is_away
        self.told: list[tuple[float, str]] = []

    def create(self, progress: float, key: str, description: str) -> UUID:
        assert key == "embedding-chunks"
        self._tell(progress, description)
        return UUID(int=1)

    def update(self, artifact: UUID, progress: float, description: str) -> None:
        assert artifact == UUID(int=1)
        self._tell(progress, description)

    def _tell(self, progress: float, description: str) -> None:
        self.told.append((progress, description))
        if self.is_away:
            raise ConnectionError("no server")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, as the test sets it."""
    now = [0.0]
    monkeypatch.setattr(artifacts, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(TaskRunContext, "get", object)
    return now


def listen(monkeypatch: pytest.MonkeyPatch, is_away: bool = False) -> Told:
    told = Told(is_away)
    monkeypatch.setattr(artifacts, "create_progress_artifact", told.create)
    monkeypatch.setattr(artifacts, "update_progress_artifact", told.update)
    return told


def test_a_short_step_puts_nothing_on_the_page(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    told = listen(monkeypatch)
    with artifacts.page_progress("embedding chunks", 10) as advance:
        advance(10)
        clock[0] = 100.0
    assert told.told == []


def test_a_long_step_says_how_far_it_is_now_and_then_and_at_its_end(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = listen(monkeypatch)
    with artifacts.page_progress("embedding chunks", 10) as advance:
        for second in range(10):
            clock[0] = float(second)
            advance(1)
    assert told.told == [(60.0, "embedding chunks: 6 of 10"), (100.0, "embedding chunks: 10 of 10")]


def test_a_page_that_is_away_stops_no_step_and_is_not_asked_again(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = listen(monkeypatch, is_away=True)
    with artifacts.page_progress("embedding chunks", 10) as advance:
        for second in range(0, 100, 10):
            clock[0] = float(second)
            advance(1)
    assert len(told.told) == 1


def test_outside_of_a_run_nobody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told = listen(monkeypatch)
    monkeypatch.setattr(artifacts, "EVERY_SECONDS", 0.0)
    with artifacts.page_progress("embedding chunks", 10) as advance:
        advance(5)
    assert told.told == []


def test_a_run_is_named_by_what_came_of_it() -> None:
    @flow(name="named-later", persist_result=False)
    def named_later() -> str:
        artifacts.rename_run("keep-current support: REFRESH")
        context = FlowRunContext.get()
        assert context is not None
        assert context.flow_run is not None
        return str(context.flow_run.id)

    run = named_later()
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(UUID(run)).name == "keep-current support: REFRESH"
    gc.collect()


def test_outside_of_a_run_there_is_nothing_to_name_and_no_address() -> None:
    artifacts.rename_run("nobody")
    assert run_url(current_run()) is None
