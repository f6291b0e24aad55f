"""Is an event delivered when `send` returns, and is it said plainly where nobody takes it?"""

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
    """Takes events as Prefect's server does, or says no; and keeps what came."""

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
        """Prefect's client asks whether forged requests are guarded against: 404 is no."""
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
        """Say nothing."""


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


def test_the_auth_string_is_shown(server: EventServer, project: Path) -> None:
    server.password = "admin:a long password"
    with temporary_settings({PREFECT_API_AUTH_STRING: server.password}):
        send_event(project, "test")
    assert len(server.events) == 1


def test_a_wrong_auth_string_is_said(server: EventServer, project: Path) -> None:
    server.password = "admin:a long password"
    with pytest.raises(UnavailableError, match="says no: PREFECT_API_AUTH_STRING is not its own"):
        send_event(project, "test")
    assert server.events == []


def test_a_server_that_fails_is_said(server: EventServer, project: Path) -> None:
    server.status = 500
    with pytest.raises(UnavailableError, match="says no: status 500"):
        send_event(project, "test")


def test_where_no_server_answers_it_is_said_and_what_to_do(project: Path) -> None:
    port = free_port()
    with (
        temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{port}/api"}),
        pytest.raises(
            UnavailableError, match=rf"no Prefect server answers at http://127.0.0.1:{port}/api .*ragtide up"
        ),
    ):
        send_event(project, "test")


def test_without_an_address_the_projects_own_server_is_asked(server: EventServer, make_project: Any) -> None:
    root = make_project(services={"prefect_port": server.server_port})
    (root / "data" / "kb" / "a.md").write_text("# A", encoding="utf-8")
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        send_event(root, "test")
        assert len(server.events) == 1
        with pytest.raises(UnavailableError, match="names no Prefect server"), server_client():
            pass


def test_data_that_cannot_be_looked_at_sends_nothing(server: EventServer, make_project: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match="is empty"):
        send_event(make_project(), "test")
    assert server.events == []


def test_the_command_says_the_revision(server: EventServer, project: Path) -> None:
    done = CliRunner().invoke(app, ["trigger", "--source", "test", "--project", str(project)])
    assert done.exit_code == 0
    assert done.stdout.split() == ["sent:", "the", "data", "is", "at", take_snapshot(Workspace.open(project)).id]
    assert server.events[0]["payload"]["source"] == "test"


@pytest.fixture
def judged(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose data was judged as it is."""
    workspace = Workspace.open(project)
    turn = {"name": "cycle-1", "run": "r", "at": "2030-01-01T00:00:00+00:00", "action": "NOTHING", "outcome": "nothing"}
    turn |= {"reason": "", "snapshot": take_snapshot(workspace).id, "params": workspace.params.digest()}
    monkeypatch.setattr(Registry, "history", lambda _: [Cycle.model_validate(turn)])
    return project


def test_the_command_sends_and_says_that_a_run_will_find_nothing_new(server: EventServer, judged: Path) -> None:
    done = CliRunner().invoke(app, ["trigger", "--project", str(judged)])
    assert "the run will find nothing new: cycle-1 decided NOTHING for this data" in done.stdout
    assert len(server.events) == 1


def test_if_moved_sends_nothing_where_nothing_has_moved(server: EventServer, judged: Path) -> None:
    done = CliRunner().invoke(app, ["trigger", "--if-moved", "--project", str(judged)])
    assert (done.exit_code, server.events) == (0, [])
    assert done.stdout.startswith("not sent: cycle-1 decided NOTHING for this data")


def test_without_mlflow_the_news_goes_out_all_the_same(
    server: EventServer, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_: Registry) -> list[Cycle]:
        raise UnavailableError("MLflow does not answer")

    monkeypatch.setattr(Registry, "history", away)
    done = CliRunner().invoke(app, ["trigger", "--if-moved", "--project", str(project)])
    assert (done.exit_code, len(server.events)) == (0, 1)
