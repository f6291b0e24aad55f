"""Tests of reconcile: requests a missing run, unless one is active or due."""

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
    """Fake of Prefect's server with one deployment and runs in the given states."""

    def __init__(self) -> None:
        self.deployment: Named | None = Named("keep-current")
        self.runs: set[str] = set()
        self.age = timedelta(0)
        self.created: list[dict[str, Any]] = []
        self.crashed: list[str] = []

    def read_deployment_by_name(self, name: str) -> Named:
        assert name == "keep-current/keep-current"
        if self.deployment is None:
            raise ObjectNotFound(Exception())
        return self.deployment

    def read_flow_runs(self, flow_run_filter: FlowRunFilter, limit: int = 200) -> list[Named]:
        conditions = flow_run_filter.model_dump(mode="json")
        assert conditions["deployment_id"]["any_"] == [str(self.deployment.id if self.deployment else "")]
        states = set(conditions["state"]["type"]["any_"])
        # Scheduled runs count only where they are due soon.
        assert ("SCHEDULED" in states) == bool(conditions["next_scheduled_start_time"])
        state = Pending(timestamp=datetime.now(UTC) - self.age)
        return [Named("another", state=state)] if states & self.runs else []

    def set_flow_run_state(self, _: UUID, state: State[Any]) -> None:
        self.crashed.append(f"{state.name}: {state.message}")
        self.runs.clear()

    def create_flow_run_from_deployment(self, deployment: UUID, **arguments: Any) -> Named:
        self.created.append(arguments)
        return Named("green-goose")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    server = Server()

    @contextmanager
    def connected(_: Workspace) -> Iterator[Server]:
        yield server

    monkeypatch.setattr(scheduled, "server_client", connected)
    return server


@pytest.fixture
def workspace(make_project: Callable[..., Path]) -> Workspace:
    return Workspace.open(make_project())


def test_a_run_is_requested_with_the_revision(server: Server, workspace: Workspace) -> None:
    assert request_run(workspace, "rev") == "green-goose"
    assert server.created == [{"parameters": {"revision": "rev"}, "tags": ["reconcile"]}]


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "CANCELLING", "SCHEDULED"])
def test_no_run_is_requested_where_one_is_active_or_due(server: Server, workspace: Workspace, state: str) -> None:
    server.runs = {state}
    assert request_run(workspace, "rev") is None
    assert server.created == []


def test_a_run_that_has_been_pending_for_too_long_is_crashed(server: Server, workspace: Workspace) -> None:
    server.runs, server.age = {"PENDING"}, timedelta(minutes=6)
    assert request_run(workspace, "rev") == "green-goose"
    [crashed] = server.crashed
    assert crashed.startswith("Crashed: ")


def test_a_run_that_is_suspended_for_an_approval_does_not_count(server: Server, workspace: Workspace) -> None:
    server.runs = {"PAUSED", "COMPLETED", "CRASHED"}
    assert request_run(workspace, "rev") == "green-goose"


def test_a_missing_deployment_is_reported(server: Server, workspace: Workspace) -> None:
    server.deployment = None
    with pytest.raises(UnavailableError, match="keep-current/keep-current"):
        request_run(workspace, "rev")
