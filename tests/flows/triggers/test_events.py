"""Tests of events: delivery before `send_event` returns, errors of the server, and `ragtide trigger`."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from typer.testing import CliRunner

from ragtide.flows.cli.main import app
from ragtide.flows.prefect_server.client import server_client
from ragtide.flows.triggers.events import send_event
from ragtide.pipelines.data.snapshot import take_snapshot
from ragtide.pipelines.errors import UnavailableError, UserError
from ragtide.pipelines.records.release import Cycle
from ragtide.pipelines.registry.releases import Registry
from ragtide.pipelines.workspace import Workspace
from tests.servers import free_port


class EventServer(ThreadingHTTPServer):
    """Accepts events as Prefect's server does, or refuses them, and keeps them."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Events)
        self.status = 204
        self.password: str | None = None
        self.events: list[Any] = []

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/api"


class Events(BaseHTTPRequestHandler):
    server: EventServer

    def do_GET(self) -> None:
        """Prefect's client asks for a CSRF token; 404 means that the server uses none."""
        self.answer(404 if self.is_allowed else 401)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status = self.server.status if self.is_allowed else 401
        if status == 204 and self.path == "/api/events":
            self.server.events += body
        self.answer(status)

    @property
    def is_allowed(self) -> bool:
        password = self.server.password
        expected = base64.b64encode(password.encode()).decode() if password else ""
        return password is None or self.headers["Authorization"] == f"Basic {expected}"

    def answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Write no log."""


@pytest.fixture
def server() -> Iterator[EventServer]:
    server = EventServer()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    with temporary_settings({PREFECT_API_URL: server.api}):
        yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def project(make_project: Callable[..., Path]) -> Path:
    root = make_project("kept")
    (root / "data" / "kb" / "a.md").write_text("# A\n\nOne.", encoding="utf-8")
    return root


def test_an_event_names_the_project_the_source_and_the_revision(server: EventServer, project: Path) -> None:
    revision = send_event(project, "watcher")
    assert revision == take_snapshot(Workspace.open(project)).id
    [event] = server.events
    assert event["event"] == "kb.data.updated"
    assert event["resource"] == {"prefect.resource.id": "kb.source.kept", "prefect.resource.name": "watcher"}
    assert event["payload"] == {"rev": revision, "source": "watcher"}


def test_the_auth_string_is_sent(server: EventServer, project: Path) -> None:
    server.password = "admin:a long password"
    with temporary_settings({PREFECT_API_AUTH_STRING: server.password}):
        send_event(project, "test")
    assert len(server.events) == 1


def test_a_wrong_auth_string_is_reported(server: EventServer, project: Path) -> None:
    server.password = "admin:a long password"
    with pytest.raises(UnavailableError, match="PREFECT_API_AUTH_STRING"):
        send_event(project, "test")
    assert server.events == []


def test_a_server_error_is_reported(server: EventServer, project: Path) -> None:
    server.status = 500
    with pytest.raises(UnavailableError, match="status 500"):
        send_event(project, "test")


def test_a_server_that_does_not_answer_is_reported(project: Path) -> None:
    port = free_port()
    with (
        temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{port}/api"}),
        pytest.raises(UnavailableError, match=rf"http://127.0.0.1:{port}/api"),
    ):
        send_event(project, "test")


def test_without_an_address_the_projects_own_server_is_used(server: EventServer, make_project: Any) -> None:
    root = make_project(services={"prefect_port": server.server_port})
    (root / "data" / "kb" / "a.md").write_text("# A", encoding="utf-8")
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        send_event(root, "test")
        assert len(server.events) == 1
        with pytest.raises(UnavailableError, match="PREFECT_API_URL"), server_client():
            pass


def test_no_event_is_sent_for_data_that_cannot_be_read(server: EventServer, make_project: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match="kb"):
        send_event(make_project(), "test")
    assert server.events == []


def test_the_command_prints_the_revision(server: EventServer, project: Path) -> None:
    done = CliRunner().invoke(app, ["trigger", "--source", "test", "--project", str(project)])
    assert done.exit_code == 0
    assert take_snapshot(Workspace.open(project)).id in done.stdout.split()
    assert server.events[0]["payload"]["source"] == "test"


@pytest.fixture
def decided(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose last cycle decided about the current data."""
    workspace = Workspace.open(project)
    cycle = {
        "name": "cycle-1",
        "run": "r",
        "at": "2030-01-01T00:00:00+00:00",
        "action": "NOTHING",
        "outcome": "nothing",
    }
    cycle |= {"reason": "", "snapshot": take_snapshot(workspace).id, "params": workspace.params.digest()}
    monkeypatch.setattr(Registry, "history", lambda _: [Cycle.model_validate(cycle)])
    return project


def test_the_command_sends_an_event_for_unchanged_data_and_says_so(server: EventServer, decided: Path) -> None:
    done = CliRunner().invoke(app, ["trigger", "--project", str(decided)])
    assert "cycle-1" in done.stdout
    assert len(server.events) == 1


def test_no_event_is_sent_for_unchanged_data_on_request(server: EventServer, decided: Path) -> None:
    done = CliRunner().invoke(app, ["trigger", "--if-moved", "--project", str(decided)])
    assert (done.exit_code, server.events) == (0, [])
    assert "cycle-1" in done.stdout


def test_an_event_is_sent_where_mlflow_does_not_answer(
    server: EventServer, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Registry) -> list[Cycle]:
        raise UnavailableError("MLflow does not answer")

    monkeypatch.setattr(Registry, "history", fail)
    done = CliRunner().invoke(app, ["trigger", "--if-moved", "--project", str(project)])
    assert (done.exit_code, len(server.events)) == (0, 1)
