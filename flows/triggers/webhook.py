"""How does another system say that data has moved? Over HTTP: `POST /trigger` with a token, on this machine alone.

However many ask at once, Prefect hears of it at most once a second: its SQLite loses events when it is flooded.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import secrets
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import uvicorn
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from ragtide.flows.services.settings import WEBHOOK_AUTH, is_loopback
from ragtide.flows.triggers.events import send_event
from ragtide.pipelines.errors import UnavailableError, UserError, summarize_error
from ragtide.pipelines.params import ServicesParams
from ragtide.pipelines.workspace import Workspace

MAX_BODY_BYTES = 4096
GAP_SECONDS = 1.0
MIN_TOKEN = 16
# An exporter's own form: https://prometheus.io/docs/instrumenting/exposition_formats/
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


class TriggerRequest(BaseModel):
    """What a caller may say: who it is. It ends up in the event."""

    model_config = ConfigDict(extra="forbid", strict=True)
    source: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")] = "http"


class TooLargeError(Exception):
    """A body of more than MAX_BODY_BYTES."""


class TriggerQueue:
    """Takes any number of callers: one event is under way, and at most one more waits, for all who came meanwhile.

    Whoever comes before the data is looked at is answered by that look; whoever comes later, by the next one.
    """

    def __init__(self, tell: Callable[[str], str], gap_seconds: float = GAP_SECONDS) -> None:
        self._tell = tell
        self._gap_seconds = gap_seconds
        self._under_way: asyncio.Task[str] | None = None
        self._next: asyncio.Task[str] | None = None

    async def ask(self, source: str) -> str:
        """The revision that was sent for this caller. Raises what sending raises."""
        if self._next is None:
            self._next = asyncio.create_task(self._send(source, self._under_way))
        return await asyncio.shield(self._next)

    async def _send(self, source: str, before: asyncio.Task[str] | None) -> str:
        if before is not None:
            await asyncio.wait([before])
            await asyncio.sleep(self._gap_seconds)
        self._under_way, self._next = self._next, None
        return await asyncio.to_thread(self._tell, source)


def webhook_app(project: Path, token: str, tell: Callable[[str], str] | None = None) -> Starlette:
    """The door of a project: POST /trigger, GET /health, GET /metrics. `tell` sends the event; others are for tests."""
    desk = TriggerQueue(tell or (lambda source: send_event(project, source)))

    async def trigger(request: Request) -> Response:
        if not _is_allowed(request, token):
            return JSONResponse({"error": "a token is needed"}, 401, {"WWW-Authenticate": "Bearer"})
        try:
            revision = await desk.ask((await _call(request)).source)
        except TooLargeError:
            return JSONResponse({"error": f"the body is larger than {MAX_BODY_BYTES} bytes"}, 413)
        except ValidationError as problem:
            return JSONResponse({"error": f'one field is known, "source": {summarize_error(problem)}'}, 400)
        except UnavailableError as problem:
            return JSONResponse({"error": str(problem)}, 503, {"Retry-After": "30"})
        except UserError as problem:
            return JSONResponse({"error": str(problem)}, 409)
        return JSONResponse({"revision": revision}, 202)

    async def metrics(_: Request) -> Response:
        from ragtide.flows.prefect_server.metrics import metrics_text

        try:
            return PlainTextResponse(await asyncio.to_thread(metrics_text, project), media_type=PROMETHEUS)
        except UserError as problem:
            return PlainTextResponse(f"# {problem}\n", 503)

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    routes = [
        Route("/trigger", trigger, methods=["POST"]),
        Route("/health", health),
        Route("/metrics", metrics),
    ]
    return Starlette(routes=routes, middleware=_host_check(Workspace.open(project)))


def serve_webhook(project: Path, say: Callable[[str], None]) -> None:
    """Keep the door of `project` open until SIGTERM or Ctrl-C.

    Raises RefusalError for an address of other machines without a token from the environment, and for a port in use.
    """
    workspace = Workspace.open(project)
    params = workspace.params.services
    if not is_loopback(params.host) and not os.environ.get(WEBHOOK_AUTH):
        line = f"services.host = {params.host} can be reached from other machines"
        raise UserError(f"{line}: set {WEBHOOK_AUTH} in the environment, or host to 127.0.0.1")
    with _listening(params) as listening:
        opened = webhook_app(workspace.root, read_token(workspace))
        where = WEBHOOK_AUTH if os.environ.get(WEBHOOK_AUTH) else str(token_file(workspace))
        say(f"POST {params.webhook_url}/trigger, with the token of {where}; /health and /metrics are open")
        config = uvicorn.Config(opened, log_level="warning", access_log=False, server_header=False)
        uvicorn.Server(config).run(sockets=[listening])


def _listening(params: ServicesParams) -> socket.socket:
    family = socket.AF_INET6 if ":" in params.host else socket.AF_INET
    try:
        return socket.create_server((params.host, params.webhook_port), family=family)
    except OSError as problem:
        where = f"{params.host}:{params.webhook_port} cannot be listened on ({summarize_error(problem)})"
        raise UserError(f"{where}: change services.webhook_port") from problem


def token_file(workspace: Workspace) -> Path:
    return workspace.state / "services" / "token"


def read_token(workspace: Workspace) -> str:
    """The secret that callers show: from the environment, or made once and kept where only this user reads it."""
    path = token_file(workspace)
    given = os.environ.get(WEBHOOK_AUTH)
    if not given:
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            suppress(FileExistsError),
            os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as new,
        ):
            new.write(secrets.token_urlsafe(32))
        given = path.read_text(encoding="utf-8").strip()
    if len(given) < MIN_TOKEN or not given.isascii():
        where = WEBHOOK_AUTH if os.environ.get(WEBHOOK_AUTH) else str(path)
        raise UserError(f"{where} holds no token of {MIN_TOKEN} or more ASCII characters: set another, or remove it")
    return given


def _is_allowed(request: Request, token: str) -> bool:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    is_same = hmac.compare_digest(given.strip().encode("latin-1"), token.encode())
    return is_same and scheme.lower() == "bearer"


async def _call(request: Request) -> TriggerRequest:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise TooLargeError
    return TriggerRequest.model_validate_json(body or b"{}")


def _host_check(workspace: Workspace) -> list[Middleware]:
    """On this machine alone, a page that a browser has open must not come in under a name of its own."""
    params = workspace.params.services
    if not is_loopback(params.host):
        return []
    names = ["localhost", params.host, *params.allowed_hosts]
    return [Middleware(TrustedHostMiddleware, allowed_hosts=names)]
