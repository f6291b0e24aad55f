"""Tests of the checks before every application: Host, Origin, WebSockets, and requests that do not arrive."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from ragtide.flows.services import http_guard
from ragtide.flows.services.http_guard import HostGuard, guarded_server, ignore_disconnect, read_bounded_body
from tests.servers import PATIENCE_SECONDS, eventually

HOSTS = ["127.0.0.1", "127.0.0.1:4200", "localhost:4200", "*.intra"]
ORIGINS = ["http://127.0.0.1:4200", "http://localhost:4200", "https://kb.example.org", "https://*.intra"]
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
LIMIT_SECONDS = 1.5


async def echo(request: Request) -> Response:
    return PlainTextResponse(await read_bounded_body(request, 100))


async def slow(_: Request) -> Response:
    await asyncio.sleep(2 * LIMIT_SECONDS)
    return PlainTextResponse("slow")


async def repeat(socket_: WebSocket) -> None:
    await socket_.accept()
    try:
        while True:
            await socket_.send_text(await socket_.receive_text())
    except WebSocketDisconnect:
        return


def application() -> HostGuard:
    routes = [Route("/", echo, methods=METHODS), Route("/slow", slow), WebSocketRoute("/socket", repeat)]
    return HostGuard(Starlette(routes=routes, exception_handlers={ClientDisconnect: ignore_disconnect}), HOSTS, ORIGINS)


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(application(), base_url="http://127.0.0.1:4200") as test_client:
        yield test_client


@pytest.fixture
def locked() -> Iterator[TestClient]:
    """The application behind a password."""
    routes = [Route(path, echo, methods=METHODS) for path in ("/", "/health", "/ajax-api/mlflow/assistant/config")]
    guard = HostGuard(Starlette(routes=[*routes, WebSocketRoute("/socket", repeat)]), HOSTS, ORIGINS, "admin:hunter2")
    with TestClient(guard, base_url="http://127.0.0.1:4200") as test_client:
        yield test_client


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("auth", [None, ("admin", "hunter"), ("admin", ""), ("", "hunter2"), ("admin", "hunter22")])
def test_without_the_password_nothing_but_health_is_answered(
    locked: TestClient, method: str, auth: tuple[str, str] | None
) -> None:
    answer = locked.request(method, "/", auth=auth)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Basic realm="ragtide"')
    assert locked.request(method, "/nowhere", auth=auth).status_code == 401
    assert locked.request(method, "/health", auth=auth).status_code == 200
    with pytest.raises(WebSocketDisconnect), locked.websocket_connect("/socket"):
        pass


def test_with_the_password_the_application_answers(locked: TestClient) -> None:
    assert locked.get("/", auth=("admin", "hunter2")).status_code == 200
    assert locked.get("/", auth=("admin", "hunter2"), headers={"Host": "evil.example"}).status_code == 403


@pytest.mark.parametrize(
    "path", ["/ajax-api/mlflow/assistant/config", "/AJAX-API/mlflow/ASSISTANT", "/x/mlflow/%61ssistant"]
)
def test_nobody_reaches_an_assistant_that_runs_commands(locked: TestClient, path: str) -> None:
    assert locked.put(path, auth=("admin", "hunter2")).status_code == 403


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:4200", "LOCALHOST:4200", "kb.intra"])
def test_a_name_of_the_service_is_answered(client: TestClient, host: str) -> None:
    assert client.get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:4200", "10.evil.example", "192.168.evil.example", "[::1]", "[::1]:4200", ""),
        *("127.0.0.1.evil.example", "127.0.0.1:4201", "localhost", "127.0.0.1:4200.evil.example", "127.0.0.1@evil"),
        *("localhost:4200 ", "127.0.0.1, evil.example", "intra", "evil.example/.intra"[:12], "[::1", "\xfc"),
    ],
)
@pytest.mark.parametrize("method", METHODS)
def test_another_name_is_refused_for_every_method(client: TestClient, method: str, host: str) -> None:
    assert client.request(method, "/", headers={"Host": host.strip().encode("latin-1")}).status_code in (
        (200,) if host.strip() in HOSTS else (403,)
    )


def test_a_request_without_or_with_two_hosts_is_refused() -> None:
    for headers in ([], [(b"host", b"127.0.0.1"), (b"host", b"evil.example")]):
        assert asyncio.run(status_of({"type": "http", "headers": headers})) == 403


async def status_of(scope: dict[str, object]) -> int:
    """The status with which the guard answers a request as the server describes it."""
    sent: list[dict[str, object]] = []

    async def send(message: object) -> None:
        assert isinstance(message, dict)
        sent.append(message)

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b""}

    await application()({"method": "GET", "path": "/", "query_string": b"", **scope}, receive, send)
    status = sent[0]["status"]
    assert isinstance(status, int)
    return status


@pytest.mark.parametrize(
    "origin",
    [
        "http://127.0.0.1:4200",
        "https://127.0.0.1:4200",
        "http://localhost:4200",
        "https://kb.example.org",
        "https://a.intra",
    ],
)
def test_own_and_named_origins_may_call(client: TestClient, origin: str) -> None:
    assert client.post("/", headers={"Origin": origin}).status_code == 200


@pytest.mark.parametrize(
    "origin",
    [
        *(
            "null",
            "http://evil.example",
            "http://127.0.0.1",
            "http://127.0.0.1:4201",
            "https://kb.example.org.evil",
            "",
        ),
        *("http://127.0.0.1:4200.evil.example", "file://", "http://kb.example.org", "127.0.0.1:4200"),
    ],
)
@pytest.mark.parametrize("method", METHODS)
def test_a_foreign_origin_is_refused_for_every_method(client: TestClient, method: str, origin: str) -> None:
    assert client.request(method, "/", headers={"Origin": origin}).status_code == 403


def test_null_is_refused_even_where_every_origin_is_allowed() -> None:
    guarded = HostGuard(application().app, HOSTS, ["*"])
    with TestClient(guarded, base_url="http://127.0.0.1:4200") as client:
        assert client.get("/", headers={"Origin": "http://anywhere.example"}).status_code == 200
        assert client.get("/", headers={"Origin": "null"}).status_code == 403


@pytest.mark.parametrize(
    ("site", "mode", "dest", "status"),
    [
        ("cross-site", "no-cors", "image", 403),
        ("same-site", "no-cors", "script", 403),
        ("cross-site", "navigate", "iframe", 403),
        ("cross-site", "navigate", "document", 200),
        ("same-origin", "cors", "empty", 200),
        ("none", "navigate", "document", 200),
    ],
)
def test_a_page_may_link_to_the_service_and_not_embed_it(
    client: TestClient, site: str, mode: str, dest: str, status: int
) -> None:
    headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": dest}
    assert client.get("/", headers=headers).status_code == status


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Origin": "null"}])
def test_a_foreign_web_socket_is_refused_before_it_is_accepted(client: TestClient, headers: dict[str, str]) -> None:
    with pytest.raises(WebSocketDisconnect) as closed, client.websocket_connect("/socket", headers=headers):
        pass
    assert closed.value.code == http_guard.POLICY_VIOLATION


@pytest.mark.parametrize("headers", [{}, {"Origin": "http://localhost:4200"}])
def test_a_web_socket_of_a_client_or_an_own_page_works(client: TestClient, headers: dict[str, str]) -> None:
    with client.websocket_connect("/socket", headers={"Host": "127.0.0.1", **headers}) as connection:
        connection.send_text("hello")
        assert connection.receive_text() == "hello"


# --- requests that do not arrive -----------------------------------------------------------------------------------


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The port of a real server with a short time limit."""
    monkeypatch.setattr(http_guard, "REQUEST_SECONDS", LIMIT_SECONDS)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = guarded_server(application(), log_level="critical", timeout_keep_alive=600)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        assert eventually(lambda: server.started)
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join(PATIENCE_SECONDS)


@contextmanager
def connected(port: int, *parts: bytes) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        for part in parts:
            connection.sendall(part)
        yield connection


def is_closed(connection: socket.socket) -> bool:
    """Whether the server closes a connection, whatever it sends before."""
    try:
        while connection.recv(4096):
            pass
    except ConnectionResetError:
        pass
    return True


GET = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
UPGRADE = (
    b"GET /socket HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [b"GET / HT"],
        [b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n"],
        [b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 50\r\n\r\n", b"{"],
        [b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"],
        [GET, b"GET / HT"],
        [UPGRADE],
        [UPGRADE[:-2]],
    ],
    ids=["nothing", "line", "headers", "body", "chunk", "second request", "silent web socket", "handshake"],
)
def test_a_request_that_does_not_arrive_is_closed(port: int, parts: list[bytes]) -> None:
    with connected(port, *parts) as connection:
        assert is_closed(connection)


def send_single_bytes(connection: socket.socket) -> None:
    for _ in range(1000):
        connection.sendall(b"G")
        threading.Event().wait(0.05)


def test_a_slow_sender_of_single_bytes_is_closed(port: int) -> None:
    with connected(port) as connection, pytest.raises((BrokenPipeError, ConnectionResetError)):
        send_single_bytes(connection)


def test_the_time_of_an_answer_does_not_count(port: int) -> None:
    with connected(port, GET.replace(b"/ ", b"/slow ", 1)) as connection:
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")


def test_an_open_web_socket_and_an_idle_connection_stay_open(port: int) -> None:
    greeting, echoed = b"\x81\x82\x00\x00\x00\x00hi", b"\x81\x02hi"
    with connected(port, UPGRADE) as web_socket, connected(port, GET) as idle:
        assert web_socket.recv(4096).startswith(b"HTTP/1.1 101")
        web_socket.sendall(greeting)
        assert web_socket.recv(4096) == echoed
        assert idle.recv(4096).startswith(b"HTTP/1.1 200")
        # Longer than the limit, during which nothing is sent.
        with connected(port, GET.replace(b"/ ", b"/slow ", 1)) as other:
            assert other.recv(4096)
        idle.sendall(GET)
        assert idle.recv(4096).startswith(b"HTTP/1.1 200")
        web_socket.sendall(greeting)
        assert web_socket.recv(4096) == echoed
