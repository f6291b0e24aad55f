"""Does a run's page in Prefect show what was decided, and is a step that is called outside of one left in peace?"""

from __future__ import annotations

import gc
from dataclasses import dataclass

import pytest
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.context import TaskRunContext

from flows import report


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
    monkeypatch.setattr(report, "create_markdown_artifact", page)
    return page


def test_outside_of_a_run_there_is_no_page(page: Page) -> None:
    report.show("decision", "# REFRESH", "plan 0123456789ab")
    assert page.shown == []


def test_in_a_run_the_page_gets_what_is_shown(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TaskRunContext, "get", object)
    report.show("decision", "# REFRESH", "plan 0123456789ab")
    assert page.shown == [Shown("# REFRESH", "decision", "plan 0123456789ab")]


def test_prefect_keeps_it_with_the_run_that_made_it() -> None:
    @task(name="shows", cache_policy=NO_CACHE, persist_result=False)
    def shows() -> str:
        report.show("replay-decision", "# REFRESH\n\n| a | b |\n| - | - |\n", "plan 0123456789ab")
        context = TaskRunContext.get()
        assert context is not None
        return str(context.task_run.id)

    run = shows()
    with get_client(sync_client=True) as client:
        [kept] = [one for one in client.read_artifacts() if str(one.task_run_id) == run]
    assert (kept.key, kept.type, kept.description) == ("replay-decision", "markdown", "plan 0123456789ab")
    assert kept.data == "# REFRESH\n\n| a | b |\n| - | - |\n"
    gc.collect()  # What Prefect left open would be noticed here, and not in some other test.
