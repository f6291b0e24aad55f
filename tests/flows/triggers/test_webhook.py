"""Tests of the webhook: authentication, invalid requests, and bursts of callers combined into two events."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from httpx import ASGITransport, AsyncClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from ragtide.flows.services.settings import WEBHOOK_AUTH
from ragtide.flows.triggers.webhook import (
    MAX_BODY_BYTES,
    TriggerQueue,
    read_token,
    serve_webhook,
    token_file,
    webhook_app,
)
from ragtide.pipelines.errors import UnavailableError, UserError
from ragtide.pipelines.workspace import Workspace
from tests.servers import free_port

TOKEN = "a token that is long enough"
ALLOWED = {"Authorization": f"Bearer {TOKEN}"}


class EventSender:
    """Replaces `send_event` and records its calls."""

    def __init__(self) -> None:
        self.sources: list[str] = []
        self.problem: Exception | None = None
        self.may_continue = threading.Event()
        self.may_continue.set()

    def __call__(self, source: str) -> str:
        self.sources.append(source)
        assert self.may_continue.wait(10)
        if self.problem:
            raise self.problem
        return f"revision-{len(self.sources)}"


@pytest.fixture
def project(make_project: Callable[..., Path]) -> Path:
    return make_project()


@pytest.fixture
def sender() -> EventSender:
    return EventSender()


@pytest.fixture
def client(project: Path, sender: EventSender) -> Iterator[TestClient]:
    with TestClient(webhook_app(project, TOKEN, sender), base_url="http://127.0.0.1") as test_client:
        yield test_client


def test_a_caller_with_the_token_gets_the_revision(client: TestClient, sender: EventSender) -> None:
    answer = client.post("/trigger", headers=ALLOWED, json={"source": "crm"})
    assert (answer.status_code, answer.json()) == (202, {"revision": "revision-1"})
    assert sender.sources == ["crm"]


def test_a_body_is_optional(client: TestClient, sender: EventSender) -> None:
    assert client.post("/trigger", headers=ALLOWED).status_code == 202
    assert sender.sources == ["http"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer wrong"},
        {"Authorization": TOKEN},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": "Bearer t\xf6ken".encode("latin-1").decode("latin-1")},
    ],
)
def test_a_missing_or_wrong_token_gets_401_and_sends_no_event(
    client: TestClient, sender: EventSender, headers: dict[str, str]
) -> None:
    raw = {key: value.encode("latin-1") for key, value in headers.items()}
    answer = client.post("/trigger", headers=raw, json={"source": "x"})
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert sender.sources == []


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
def test_other_methods_get_405(client: TestClient, sender: EventSender, method: str) -> None:
    assert client.request(method, "/trigger", headers=ALLOWED).status_code == 405
    assert sender.sources == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[]", 400),
        (b"\xff", 400),
        (b'{"source": 3}', 400),
        (b'{"source": ""}', 400),
        (b'{"source": "a\\nb"}', 400),
        (b'{"revision": "x"}', 400),
        (b" " * (MAX_BODY_BYTES + 1), 413),
    ],
)
def test_an_invalid_body_is_reported_in_one_line_and_sends_no_event(
    client: TestClient, sender: EventSender, body: bytes, status: int
) -> None:
    answer = client.post("/trigger", headers=ALLOWED, content=body)
    assert answer.status_code == status
    assert "\n" not in answer.json()["error"]
    assert sender.sources == []


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=200), given_token=st.text(st.characters(codec="latin-1"), max_size=40))
def test_no_body_and_no_token_causes_a_server_error(
    client: TestClient, sender: EventSender, body: bytes, given_token: str
) -> None:
    clean = "".join(char for char in given_token if char.isprintable()).strip()
    assert client.post("/trigger", headers=ALLOWED, content=body).status_code in (202, 400)
    answer = client.post("/trigger", headers={"Authorization": f"Bearer {clean}".encode("latin-1")}, content=body)
    assert answer.status_code == 401


def test_a_prefect_server_that_is_down_gives_503_with_a_retry_time(client: TestClient, sender: EventSender) -> None:
    sender.problem = UnavailableError("no Prefect server answers")
    answer = client.post("/trigger", headers=ALLOWED)
    assert (answer.status_code, answer.json()) == (503, {"error": "no Prefect server answers"})
    assert answer.headers["Retry-After"] == "30"
    sender.problem = None
    assert client.post("/trigger", headers=ALLOWED).status_code == 202


def test_data_that_cannot_be_read_gives_409(client: TestClient, sender: EventSender) -> None:
    sender.problem = UserError("data/kb is empty")
    assert client.post("/trigger", headers=ALLOWED).status_code == 409


def test_health_needs_no_token(client: TestClient, sender: EventSender) -> None:
    assert client.get("/health").json() == {"status": "ok"}
    assert sender.sources == []


def test_another_host_name_is_rejected(client: TestClient, sender: EventSender) -> None:
    assert client.post("/trigger", headers=ALLOWED | {"Host": "evil.example"}).status_code == 403
    assert sender.sources == []


def test_metrics_are_served_as_text(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType("ragtide.flows.prefect_server.metrics")
    module.metrics_text = lambda project: f"ragtide_live 1 # {project.name}\n"
    monkeypatch.setitem(sys.modules, "ragtide.flows.prefect_server.metrics", module)
    answer = client.get("/metrics")
    assert answer.text == "ragtide_live 1 # project\n"
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")


@pytest.mark.parametrize(
    ("host", "name", "status"),
    [
        ("127.0.0.1", "127.0.0.1", 200),
        ("127.0.0.1", "localhost", 200),
        ("::1", "[::1]", 200),
        ("127.0.0.1", "hook.example.org", 401),  # through a proxy
        ("0.0.0.0", "127.0.0.1", 401),
        ("192.0.2.1", "192.0.2.1", 401),
    ],
)
def test_metrics_need_the_token_beyond_this_machine(
    make_project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, host: str, name: str, status: int
) -> None:
    module: Any = ModuleType("ragtide.flows.prefect_server.metrics")
    module.metrics_text = lambda project: f"ragtide_live 1 # {project.name}\n"
    monkeypatch.setitem(sys.modules, "ragtide.flows.prefect_server.metrics", module)
    root = make_project(services={"host": host, "allowed_hosts": ["hook.example.org"]})
    with TestClient(webhook_app(root, TOKEN), base_url=f"http://{name}") as client:
        assert client.get("/metrics").status_code == status
        assert client.get("/metrics", headers=ALLOWED).status_code == 200
        assert client.get("/health").status_code == 200


@pytest.mark.parametrize("host", ["::1", "::"])
def test_a_webhook_on_ipv6_answers_under_its_own_name(make_project: Callable[..., Path], host: str) -> None:
    root = make_project(services={"host": host})
    with TestClient(webhook_app(root, TOKEN), base_url="http://[::1]:5002") as client:
        assert client.get("/health").status_code == 200
        assert client.get("/health", headers={"Host": "[::2]:5002"}).status_code == 403


def test_a_foreign_origin_is_rejected(client: TestClient, sender: EventSender) -> None:
    for origin in ("null", "http://evil.example"):
        assert client.post("/trigger", headers=ALLOWED | {"Origin": origin}).status_code == 403
    assert sender.sources == []


def test_an_invalid_body_is_not_repeated(client: TestClient) -> None:
    answer = client.post("/trigger", headers=ALLOWED, content=b'{"zebra": 1}')
    assert answer.status_code == 400
    assert "zebra" not in answer.text


def test_a_hundred_concurrent_callers_make_two_events_and_all_are_answered(project: Path, sender: EventSender) -> None:
    sender.may_continue.clear()

    async def burst() -> list[Any]:
        transport = ASGITransport(webhook_app(project, TOKEN, sender))
        async with AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=ALLOWED) as caller:
            first = asyncio.create_task(caller.post("/trigger"))
            while not sender.sources:
                await asyncio.sleep(0.01)
            others = [asyncio.create_task(caller.post("/trigger")) for _ in range(99)]
            await asyncio.sleep(0.1)
            sender.may_continue.set()
            return await asyncio.gather(first, *others)

    answers = asyncio.run(burst())
    assert {answer.status_code for answer in answers} == {202}
    assert [answer.json()["revision"] for answer in answers] == ["revision-1", *["revision-2"] * 99]
    assert len(sender.sources) == 2


def test_a_request_during_a_read_of_the_data_is_answered_by_the_next_event(sender: EventSender) -> None:
    sender.may_continue.clear()

    async def two() -> list[str]:
        queue = TriggerQueue(sender, gap_seconds=0)
        first = asyncio.create_task(queue.request("first"))
        while not sender.sources:
            await asyncio.sleep(0.01)
        second = asyncio.create_task(queue.request("second"))
        await asyncio.sleep(0.05)
        sender.may_continue.set()
        return await asyncio.gather(first, second)

    assert asyncio.run(two()) == ["revision-1", "revision-2"]
    assert sender.sources == ["first", "second"]


def test_a_token_is_generated_once_and_only_its_user_can_read_it(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(WEBHOOK_AUTH, raising=False)
    workspace = Workspace.open(project)
    generated = read_token(workspace)
    assert len(generated) >= 32
    assert read_token(workspace) == generated
    assert stat.S_IMODE(token_file(workspace).stat().st_mode) == 0o600
    monkeypatch.setenv(WEBHOOK_AUTH, TOKEN)
    assert read_token(workspace) == TOKEN


@pytest.mark.parametrize("given_token", ["short", "a token of letters with an umlaut \xfc"])
def test_an_invalid_token_is_an_error(project: Path, monkeypatch: pytest.MonkeyPatch, given_token: str) -> None:
    monkeypatch.setenv(WEBHOOK_AUTH, given_token)
    with pytest.raises(UserError, match=f"{WEBHOOK_AUTH}.* 16"):
        read_token(Workspace.open(project))


def test_a_public_host_needs_a_token_in_the_environment(
    make_project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(WEBHOOK_AUTH, raising=False)
    root = make_project(services={"host": "0.0.0.0"})
    with pytest.raises(UserError, match="RAGTIDE_WEBHOOK_TOKEN"):
        serve_webhook(root, print)
    assert not (root / ".ragtide" / "services" / "token").exists()


def test_a_port_in_use_is_reported(make_project: Callable[..., Path]) -> None:
    import socket

    port = free_port()
    root = make_project(services={"webhook_port": port})
    with socket.create_server(("127.0.0.1", port)), pytest.raises(UserError, match="Address already in use"):
        serve_webhook(root, print)
    assert os.environ.get(WEBHOOK_AUTH) is None
