"""Checks before every HTTP application that listens: Host, Origin, password, and a time limit for incomplete requests.

A web page that is open in a browser on this machine can send requests to loopback. Under a name that its owner points
to 127.0.0.1 (DNS rebinding) the browser even lets the page read the answers, so the Host header is compared with the
names of the service. From its own origin it can send requests and open WebSockets, so the Origin header is compared
too.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from base64 import b64encode
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import h11
import uvicorn
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from ragtide.flows.environment import MLFLOW_GENERATED_AUTH
from ragtide.pipelines.errors import UserError, summarize_error

# A request must arrive within this time, plus a second for this many bytes: slow networks need more for an upload.
REQUEST_SECONDS = 15.0
BYTES_PER_SECOND = 500
WRONG_HOST = "this Host is not a name of the service: services.allowed_hosts adds names"
# MLflow's assistant runs commands on this machine for everybody who may send requests.
ASSISTANT = "/mlflow/assistant"
NO_ASSISTANT = "MLflow's assistant can run commands on this machine and is switched off"
HEALTH = "/health"
WRONG_ORIGIN = "a page of another origin may not call the service: services.cors_origins adds origins"
POLICY_VIOLATION = 1008  # WebSocket close code


class BodyTooLargeError(Exception):
    """The body of a request has more bytes than the application accepts."""


class HostGuard:
    """ASGI middleware that refuses requests and WebSockets with a foreign Host or Origin: 403 before the application.

    `hosts` and `origins` are compared as a whole; an entry with `*` is a pattern. An origin is also accepted if it is
    that of the Host which the request names. With `auth`, `USER:PASSWORD`, all but /health needs it: 401.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str], origins: Sequence[str], auth: str | None = None) -> None:
        self.app = app
        self._hosts = hosts
        self._origins = origins
        self._expected = auth and b"Basic " + b64encode(auth.encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it. The first message of a WebSocket must arrive in time."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        error = self._error(Headers(scope=scope), scope["path"])
        if scope["type"] == "http":
            await (error or self.app)(scope, receive, send)
        elif error is None:
            await self.app(scope, _with_deadline(receive, send), send)
        else:
            # Before the handshake is accepted, the server answers 403.
            await send({"type": "websocket.close", "code": POLICY_VIOLATION})

    def _error(self, headers: Headers, path: str) -> Response | None:
        """The answer to a request that may not reach the application; None where it may."""
        if problem := self._problem(headers) or (NO_ASSISTANT if ASSISTANT in path.lower() else None):
            return PlainTextResponse(problem, 403)
        given = headers.get("authorization", "").encode()
        if not self._expected or path == HEALTH or secrets.compare_digest(given, self._expected):
            return None
        return PlainTextResponse("a password is needed", 401, {"WWW-Authenticate": 'Basic realm="ragtide"'})

    def _problem(self, headers: Headers) -> str | None:
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        if len(hosts) != 1 or not _matches(hosts[0].lower(), self._hosts):
            return WRONG_HOST
        own = [f"{scheme}://{hosts[0].lower()}" for scheme in ("http", "https")]
        if origins:
            is_allowed = all(origin in own or _matches(origin, self._origins) for origin in origins)
            return None if is_allowed else WRONG_ORIGIN
        return WRONG_ORIGIN if _is_embedded_elsewhere(headers) else None


def _matches(value: str, allowed: Sequence[str]) -> bool:
    # The origin "null" is that of any sandboxed page.
    return value != "null" and any(value == entry or ("*" in entry and fnmatchcase(value, entry)) for entry in allowed)


def _is_embedded_elsewhere(headers: Headers) -> bool:
    """Whether a page of another site requests this as a picture, script or frame, for which browsers send no Origin.

    A link to the service is a navigation of the whole page and is permitted.
    """
    if headers.get("sec-fetch-site") not in ("cross-site", "same-site"):
        return False
    return (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")) != ("navigate", "document")


def _with_deadline(receive: Receive, send: Send) -> Receive:
    """`receive` of a WebSocket, which is closed if no first message arrives in time: Prefect's is the password."""
    is_silent = True

    async def receive_in_time() -> Message:
        nonlocal is_silent
        if not is_silent:
            return await receive()
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                message = await receive()
        except TimeoutError:
            await send({"type": "websocket.close", "code": POLICY_VIOLATION})
            return {"type": "websocket.disconnect", "code": POLICY_VIOLATION}
        is_silent = message["type"] == "websocket.connect"
        return message

    return receive_in_time


class DeadlineProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 protocol with a time limit for incomplete requests, which uvicorn would keep without limit."""

    _timer: asyncio.TimerHandle | None = None
    _since: float
    _received: int

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Expect the first request."""
        super().connection_made(transport)
        self._expect_request()

    def data_received(self, data: bytes) -> None:
        """Count the bytes, and expect the rest of a request that is incomplete."""
        self._received += len(data)
        super().data_received(data)
        if self.transport.get_protocol() is not self:
            return  # The connection belongs to a WebSocket now.
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._expect_nothing()
        elif self._timer is None and not self.transport.is_closing():
            self._expect_request()

    def on_response_complete(self) -> None:
        """Expect the rest of a request whose beginning has arrived during the answer to the one before."""
        super().on_response_complete()
        if self._timer is None and self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:
            self._expect_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        self._expect_nothing()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Stop the timer and hand the connection over."""
        self._expect_nothing()
        super().handle_websocket_upgrade(event)

    def _expect_request(self) -> None:
        self._since, self._received = self.loop.time(), 0
        self._timer = self.loop.call_later(REQUEST_SECONDS, self._check)

    def _expect_nothing(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        """Close the connection if the request is too slow. While the application reads slowly, nothing can arrive."""
        if self.flow.read_paused:
            self._expect_request()
            return
        seconds_left = self._since + REQUEST_SECONDS + self._received / BYTES_PER_SECOND - self.loop.time()
        if seconds_left > 0:
            self._timer = self.loop.call_later(seconds_left, self._check)
        else:
            self._timer = None
            self.transport.abort()


class GuardedMlflowProtocol(DeadlineProtocol):
    """The protocol of MLflow's server, `--http` of its uvicorn: puts the guard in front of MLflow's application.

    `mlflow server` leaves its allowed hosts and origins in the environment of the process that listens; the generated
    password is there too, where MLflow's own users are not set up.
    """

    def __init__(self, config: uvicorn.Config, *args: Any, **options: Any) -> None:
        if not isinstance(config.loaded_app, HostGuard):
            hosts = os.environ["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
            origins = os.environ["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"].split(",")
            config.loaded_app = HostGuard(config.loaded_app, hosts, origins, os.environ.get(MLFLOW_GENERATED_AUTH))
        super().__init__(config, *args, **options)


def guarded_server(app: ASGIApp, **options: Any) -> uvicorn.Server:
    """A server of `app`, which has its own HostGuard, with the time limit for requests; `options` are uvicorn's."""
    return uvicorn.Server(uvicorn.Config(app, http=DeadlineProtocol, server_header=False, **options))


def open_listener(host: str, port: int, remedy: str) -> socket.socket:
    """A socket that listens. Raises UserError, which ends in `remedy`, where the address is in use or not usable."""
    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        # Connections inherit it. Without it, the second write of an answer waits 40 ms for an acknowledgement.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except OSError as problem:
        raise UserError(f"cannot listen on {host}:{port} ({summarize_error(problem)}): {remedy}") from problem


async def read_bounded_body(request: Request, max_bytes: int) -> bytes:
    """The body of a request. Raises BodyTooLargeError as soon as more than `max_bytes` have arrived."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > max_bytes:
            raise BodyTooLargeError
    return body


async def ignore_disconnect(_: Request, __: Exception) -> Response:
    """The handler of Starlette's ClientDisconnect: the caller has left, or was too slow, and reads no answer."""
    return Response(status_code=400)
