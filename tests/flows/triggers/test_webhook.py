"""Does the door let in who has the token, and nobody else? And does a burst of callers stay one or two events?"""

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


class Teller:
    """Takes the place of `send` and counts its calls."""

    def __init__(self) -> None:
        self.sources: list[str] = []
        self.problem: Exception | None = None
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def __call__(self, source: str) -> str:
        self.sources.append(source)
        assert self.may_go_on.wait(10)
        if self.problem:
            raise self.problem
        return f"revision-{len(self.sources)}"


@pytest.fixture
def project(make_project: Callable[..., Path]) -> Path:
    return make_project()


@pytest.fixture
def teller() -> Teller:
    return Teller()


@pytest.fixture
def door(project: Path, teller: Teller) -> Iterator[TestClient]:
    with TestClient(webhook_app(project, TOKEN, teller), base_url="http://127.0.0.1") as client:
        yield client


def test_who_shows_the_token_is_told_the_revision(door: TestClient, teller: Teller) -> None:
    answer = door.post("/trigger", headers=ALLOWED, json={"source": "crm"})
    assert (answer.status_code, answer.json()) == (202, {"revision": "revision-1"})
    assert teller.sources == ["crm"]


def test_a_body_is_not_needed(door: TestClient, teller: Teller) -> None:
    assert door.post("/trigger", headers=ALLOWED).status_code == 202
    assert teller.sources == ["http"]


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
def test_whoever_shows_none_or_another_gets_401_and_starts_nothing(
    door: TestClient, teller: Teller, headers: dict[str, str]
) -> None:
    raw = {key: value.encode("latin-1") for key, value in headers.items()}
    answer = door.post("/trigger", headers=raw, json={"source": "x"})
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert teller.sources == []


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
def test_another_method_is_405(door: TestClient, teller: Teller, method: str) -> None:
    assert door.request(method, "/trigger", headers=ALLOWED).status_code == 405
    assert teller.sources == []


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
def test_a_body_of_another_form_is_said_in_a_line_and_starts_nothing(
    door: TestClient, teller: Teller, body: bytes, status: int
) -> None:
    answer = door.post("/trigger", headers=ALLOWED, content=body)
    assert answer.status_code == status
    assert "\n" not in answer.json()["error"]
    assert teller.sources == []


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=200), given_token=st.text(st.characters(codec="latin-1"), max_size=40))
def test_no_body_and_no_token_brings_an_error_of_ours(
    door: TestClient, teller: Teller, body: bytes, given_token: str
) -> None:
    clean = "".join(char for char in given_token if char.isprintable()).strip()
    assert door.post("/trigger", headers=ALLOWED, content=body).status_code in (202, 400)
    said = door.post("/trigger", headers={"Authorization": f"Bearer {clean}".encode("latin-1")}, content=body)
    assert said.status_code == 401


def test_a_server_that_is_away_is_503_and_says_when_to_ask_again(door: TestClient, teller: Teller) -> None:
    teller.problem = UnavailableError("no Prefect server answers")
    answer = door.post("/trigger", headers=ALLOWED)
    assert (answer.status_code, answer.json()) == (503, {"error": "no Prefect server answers"})
    assert answer.headers["Retry-After"] == "30"
    teller.problem = None
    assert door.post("/trigger", headers=ALLOWED).status_code == 202


def test_data_that_cannot_be_looked_at_is_409(door: TestClient, teller: Teller) -> None:
    teller.problem = UserError("data/kb is empty")
    assert door.post("/trigger", headers=ALLOWED).status_code == 409


def test_health_is_open(door: TestClient, teller: Teller) -> None:
    assert door.get("/health").json() == {"status": "ok"}
    assert teller.sources == []


def test_a_page_of_another_name_is_kept_out(door: TestClient, teller: Teller) -> None:
    assert door.post("/trigger", headers=ALLOWED | {"Host": "evil.example"}).status_code == 400
    assert teller.sources == []


def test_metrics_are_served_as_text(door: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType("ragtide.flows.prefect_server.metrics")
    module.text = lambda project: f"ragtide_live 1 # {project.name}\n"
    monkeypatch.setitem(sys.modules, "ragtide.flows.prefect_server.metrics", module)
    answer = door.get("/metrics")
    assert answer.text == "ragtide_live 1 # project\n"
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")


def test_a_hundred_callers_at_once_make_two_events_at_most_and_all_are_answered(project: Path, teller: Teller) -> None:
    teller.may_go_on.clear()

    async def burst() -> list[Any]:
        transport = ASGITransport(webhook_app(project, TOKEN, teller))
        async with AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=ALLOWED) as client:
            first = asyncio.create_task(client.post("/trigger"))
            while not teller.sources:
                await asyncio.sleep(0.01)
            others = [asyncio.create_task(client.post("/trigger")) for _ in range(99)]
            await asyncio.sleep(0.1)
            teller.may_go_on.set()
            return await asyncio.gather(first, *others)

    answers = asyncio.run(burst())
    assert {answer.status_code for answer in answers} == {202}
    assert [answer.json()["revision"] for answer in answers] == ["revision-1", *["revision-2"] * 99]
    assert len(teller.sources) == 2


def test_a_caller_that_comes_while_the_data_is_looked_at_is_answered_by_the_next_look(teller: Teller) -> None:
    teller.may_go_on.clear()

    async def two() -> list[str]:
        desk = TriggerQueue(teller, gap_seconds=0)
        first = asyncio.create_task(desk.ask("first"))
        while not teller.sources:
            await asyncio.sleep(0.01)
        second = asyncio.create_task(desk.ask("second"))
        await asyncio.sleep(0.05)
        teller.may_go_on.set()
        return await asyncio.gather(first, second)

    assert asyncio.run(two()) == ["revision-1", "revision-2"]
    assert teller.sources == ["first", "second"]


def test_a_token_is_made_once_and_only_its_user_reads_it(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(WEBHOOK_AUTH, raising=False)
    workspace = Workspace.open(project)
    made = read_token(workspace)
    assert len(made) >= 32
    assert read_token(workspace) == made
    assert stat.S_IMODE(token_file(workspace).stat().st_mode) == 0o600
    monkeypatch.setenv(WEBHOOK_AUTH, TOKEN)
    assert read_token(workspace) == TOKEN


@pytest.mark.parametrize("given_token", ["short", "a token of letters with an umlaut \xfc"])
def test_a_token_that_is_none_is_refused(project: Path, monkeypatch: pytest.MonkeyPatch, given_token: str) -> None:
    monkeypatch.setenv(WEBHOOK_AUTH, given_token)
    with pytest.raises(UserError, match=f"{WEBHOOK_AUTH} holds no token of 16"):
        read_token(Workspace.open(project))


def test_an_address_of_other_machines_is_refused_without_a_token_of_ones_own(
    make_project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(WEBHOOK_AUTH, raising=False)
    root = make_project(services={"host": "0.0.0.0"})
    with pytest.raises(UserError, match="can be reached from other machines: set RAGTIDE_WEBHOOK_TOKEN"):
        serve_webhook(root, print)
    assert not (root / ".ragtide" / "services" / "token").exists()


def test_a_port_in_use_is_said(make_project: Callable[..., Path]) -> None:
    import socket

    port = free_port()
    root = make_project(services={"webhook_port": port})
    with socket.create_server(("127.0.0.1", port)), pytest.raises(UserError, match="Address already in use"):
        serve_webhook(root, print)
    assert os.environ.get(WEBHOOK_AUTH) is None
