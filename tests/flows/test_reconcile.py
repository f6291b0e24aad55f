"""Is a run asked for where one is missing, and none where one is at work or due?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.filters import FlowRunFilter
from prefect.exceptions import ObjectNotFound
from prefect.states import Pending, State

from ragtide.flows import scheduled
from ragtide.flows.scheduled import request_run
from ragtide.pipelines.errors import UnavailableError
from ragtide.pipelines.workspace import Workspace


@dataclass
class Named:
    name: str
    id: UUID = field(default_factory=uuid4)
    state: State[Any] | None = None


class Server:
    """Prefect's server as far as reconcile asks it: one deployment, runs in some states."""

    def __init__(self) -> None:
        self.deployment: Named | None = Named("keep-current")
        self.runs: set[str] = set()
        self.age = timedelta(0)
        self.asked: list[dict[str, Any]] = []
        self.given_up: list[str] = []

    def read_deployment_by_name(self, name: str) -> Named:
        assert name == "keep-current/keep-current"
        if self.deployment is None:
            raise ObjectNotFound(Exception())
        return self.deployment

    def read_flow_runs(self, flow_run_filter: FlowRunFilter, limit: int = 200) -> list[Named]:
        found = flow_run_filter.model_dump(mode="json")
        assert found["deployment_id"]["any_"] == [str(self.deployment.id if self.deployment else "")]
        states = set(found["state"]["type"]["any_"])
        # A run that is scheduled for a later time is none that is due.
        assert ("SCHEDULED" in states) == bool(found["next_scheduled_start_time"])
        state = Pending(timestamp=datetime.now(UTC) - self.age)
        return [Named("another", state=state)] if states & self.runs else []

    def set_flow_run_state(self, _: UUID, state: State[Any]) -> None:
        self.given_up.append(f"{state.name}: {state.message}")
        self.runs.clear()

    def create_flow_run_from_deployment(self, deployment: UUID, **asked: Any) -> Named:
        self.asked.append(asked)
        return Named("green-goose")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    server = Server()

    @contextmanager
    def speaking(_: Workspace) -> Iterator[Server]:
        yield server

    monkeypatch.setattr(scheduled, "server_client", speaking)
    return server


@pytest.fixture
def workspace(make_project: Callable[..., Path]) -> Workspace:
    return Workspace.open(make_project())


def test_a_run_is_asked_for_with_the_revision(server: Server, workspace: Workspace) -> None:
    assert request_run(workspace, "rev") == "green-goose"
    assert server.asked == [{"parameters": {"revision": "rev"}, "tags": ["reconcile"]}]


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "CANCELLING", "SCHEDULED"])
def test_none_is_asked_for_where_one_is_at_work_or_due(server: Server, workspace: Workspace, state: str) -> None:
    server.runs = {state}
    assert request_run(workspace, "rev") is None
    assert server.asked == []


def test_one_that_a_worker_took_long_ago_and_that_never_began_frees_its_place(
    server: Server, workspace: Workspace
) -> None:
    server.runs, server.age = {"PENDING"}, timedelta(minutes=6)
    assert request_run(workspace, "rev") == "green-goose"
    assert server.given_up == ["Crashed: not begun within 0:05:00: the worker that had taken it was killed"]


def test_one_that_is_suspended_for_an_approval_is_no_answer_to_newer_data(server: Server, workspace: Workspace) -> None:
    server.runs = {"PAUSED", "COMPLETED", "CRASHED"}
    assert request_run(workspace, "rev") == "green-goose"


def test_a_server_that_was_not_deployed_to_is_said(server: Server, workspace: Workspace) -> None:
    server.deployment = None
    with pytest.raises(UnavailableError, match="no deployment keep-current/keep-current: `ragtide up` deploys it"):
        request_run(workspace, "rev")
