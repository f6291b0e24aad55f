"""Tests of the artifacts on Prefect's page: Markdown, progress and the run's name."""

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
    """A Markdown artifact."""

    markdown: str
    key: str
    description: str


class Page:
    """Fake of Prefect's page."""

    def __init__(self) -> None:
        self.shown: list[Shown] = []

    def __call__(self, markdown: str, key: str, description: str) -> None:
        self.shown.append(Shown(markdown, key, description))


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Page:
    page = Page()
    monkeypatch.setattr(artifacts, "create_markdown_artifact", page)
    return page


def test_nothing_is_shown_outside_of_a_run(page: Page) -> None:
    artifacts.show_markdown("decision", "# REFRESH", "plan 0123456789ab")
    assert page.shown == []


def test_markdown_is_shown_inside_a_run(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TaskRunContext, "get", object)
    artifacts.show_markdown("decision", "# REFRESH", "plan 0123456789ab")
    assert page.shown == [Shown("# REFRESH", "decision", "plan 0123456789ab")]


def test_prefect_stores_the_artifact_with_its_task_run() -> None:
    @task(name="shows", cache_policy=NO_CACHE, persist_result=False)
    def shows() -> str:
        artifacts.show_markdown("replay-decision", "# REFRESH\n\n| a | b |\n| - | - |\n", "plan 0123456789ab")
        context = TaskRunContext.get()
        assert context is not None
        return str(context.task_run.id)

    run = shows()
    with get_client(sync_client=True) as client:
        [kept] = [artifact for artifact in client.read_artifacts() if str(artifact.task_run_id) == run]
    assert (kept.key, kept.type, kept.description) == ("replay-decision", "markdown", "plan 0123456789ab")
    assert kept.data == "# REFRESH\n\n| a | b |\n| - | - |\n"
    gc.collect()  # A resource that Prefect left open is reported in this test and in no other.


# --- progress ------------------------------------------------------------------------------------------------------


class ProgressPage:
    """Fake of Prefect's progress artifacts."""

    def __init__(self, is_down: bool = False) -> None:
        self.is_down = is_down
        self.updates: list[tuple[float, str]] = []

    def create(self, progress: float, key: str, description: str) -> UUID:
        assert key == "embedding-chunks"
        self._record(progress, description)
        return UUID(int=1)

    def update(self, artifact: UUID, progress: float, description: str) -> None:
        assert artifact == UUID(int=1)
        self._record(progress, description)

    def _record(self, progress: float, description: str) -> None:
        self.updates.append((progress, description))
        if self.is_down:
            raise ConnectionError("no server")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, as the test sets it."""
    now = [0.0]
    monkeypatch.setattr(artifacts, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(TaskRunContext, "get", object)
    return now


def replace_page(monkeypatch: pytest.MonkeyPatch, is_down: bool = False) -> ProgressPage:
    page = ProgressPage(is_down)
    monkeypatch.setattr(artifacts, "create_progress_artifact", page.create)
    monkeypatch.setattr(artifacts, "update_progress_artifact", page.update)
    return page


def test_a_short_step_shows_no_progress(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    page = replace_page(monkeypatch)
    with artifacts.page_progress("embedding chunks", 10) as advance:
        advance(10)
        clock[0] = 100.0
    assert page.updates == []


def test_a_long_step_shows_its_progress_at_intervals_and_at_the_end(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = replace_page(monkeypatch)
    with artifacts.page_progress("embedding chunks", 10) as advance:
        for second in range(10):
            clock[0] = float(second)
            advance(1)
    assert page.updates == [(60.0, "embedding chunks: 6 of 10"), (100.0, "embedding chunks: 10 of 10")]


def test_a_server_that_is_down_stops_no_step_and_gets_one_request(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = replace_page(monkeypatch, is_down=True)
    with artifacts.page_progress("embedding chunks", 10) as advance:
        for second in range(0, 100, 10):
            clock[0] = float(second)
            advance(1)
    assert len(page.updates) == 1


def test_no_progress_is_shown_outside_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    page = replace_page(monkeypatch)
    monkeypatch.setattr(artifacts, "EVERY_SECONDS", 0.0)
    with artifacts.page_progress("embedding chunks", 10) as advance:
        advance(5)
    assert page.updates == []


def test_a_run_is_renamed_after_its_result() -> None:
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


def test_outside_of_a_run_renaming_does_nothing_and_there_is_no_address() -> None:
    artifacts.rename_run("nobody")
    assert run_url(current_run()) is None
