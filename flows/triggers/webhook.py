"""Webhook for other systems: `POST /trigger` with a token requests a run; also `/health` and `/metrics`.

`/metrics` needs the token where it is called under a name of another machine.

Requests are combined so that Prefect receives at most one event a second: its SQLite loses events when flooded.
"""

from __future__ import annotations

import asyncio
import hmac
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from ragtide.flows.services.access import allowed_hosts, allowed_origins, is_loopback
from ragtide.flows.services.http_guard import (
    BodyTooLargeError,
    HostGuard,
    guarded_server,
    ignore_disconnect,
    open_listener,
    read_bounded_body,
)
from ragtide.flows.services.secret_files import check_secret, read_or_create_secret
from ragtide.flows.services.settings import WEBHOOK_AUTH, services_folder
from ragtide.flows.triggers.events import send_event
from ragtide.pipelines.errors import UnavailableError, UserError
from ragtide.pipelines.params import ServicesParams
from ragtide.pipelines.workspace import Workspace

MAX_BODY_BYTES = 4096
GAP_SECONDS = 1.0
# The content type of Prometheus exporters: https://prometheus.io/docs/instrumenting/exposition_formats/
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


class TriggerRequest(BaseModel):
    """The body of a request: the name of the caller, which is recorded in the event."""

    model_config = ConfigDict(extra="forbid", strict=True)
    source: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")] = "http"


class TriggerQueue:
    """Combines concurrent requests: at most one event is being sent and one more is pending for all other callers.

    `send` reads the data and sends an event for the source it is given. A request that arrives after this reading has
    begun is answered by the next event.
    """

    def __init__(self, send: Callable[[str], str], gap_seconds: float = GAP_SECONDS) -> None:
        self._send_event = send
        self._gap_seconds = gap_seconds
        self._active: asyncio.Task[str] | None = None
        self._pending: asyncio.Task[str] | None = None

    async def request(self, source: str) -> str:
        """The data revision that was sent for this caller. Raises what `send` raises."""
        if self._pending is None:
            self._pending = asyncio.create_task(self._send(source, self._active))
        return await asyncio.shield(self._pending)

    async def _send(self, source: str, before: asyncio.Task[str] | None) -> str:
        if before is not None:
            await asyncio.wait([before])
            await asyncio.sleep(self._gap_seconds)
        self._active, self._pending = self._pending, None
        return await asyncio.to_thread(self._send_event, source)


def webhook_app(project: Path, token: str, send: Callable[[str], str] | None = None) -> Starlette:
    """The application: POST /trigger, GET /health, GET /metrics. Tests replace `send`, which sends the event."""
    queue = TriggerQueue(send or (lambda source: send_event(project, source)))
    params = Workspace.open(project).params.services

    async def trigger(request: Request) -> Response:
        if not _is_allowed(request, token):
            return _unauthorized()
        try:
            body = await read_bounded_body(request, MAX_BODY_BYTES)
            revision = await queue.request(TriggerRequest.model_validate_json(body or b"{}").source)
        except BodyTooLargeError:
            return JSONResponse({"error": f"the body is larger than {MAX_BODY_BYTES} bytes"}, 413)
        except ValidationError:
            return JSONResponse({"error": 'the body may have one field, "source": text of 1 to 100 characters'}, 400)
        except UnavailableError as problem:
            return JSONResponse({"error": str(problem)}, 503, {"Retry-After": "30"})
        except UserError as problem:
            return JSONResponse({"error": str(problem)}, 409)
        return JSONResponse({"revision": revision}, 202)

    async def metrics(request: Request) -> Response:
        if not _is_local(request, params) and not _is_allowed(request, token):
            return _unauthorized()
        from ragtide.flows.prefect_server.metrics import metrics_text

        try:
            return PlainTextResponse(await asyncio.to_thread(metrics_text, project), media_type=PROMETHEUS)
        except UserError as problem:
            return PlainTextResponse(f"# {problem}\n", 503)

    routes = [
        Route("/trigger", trigger, methods=["POST"]),
        Route("/health", _health),
        Route("/metrics", metrics),
    ]
    handlers = {ClientDisconnect: ignore_disconnect}
    return Starlette(routes=routes, middleware=[_host_guard(params)], exception_handlers=handlers)


def serve_webhook(project: Path, report: Callable[[str], None]) -> None:
    """Serve the webhook of `project` until SIGTERM or Ctrl-C; `report` receives its address.

    Raises UserError for a host reachable from other machines without a token in the environment, and for a port in use.
    """
    workspace = Workspace.open(project)
    params = workspace.params.services
    if not is_loopback(params.host) and not os.environ.get(WEBHOOK_AUTH):
        problem = f"services.host = {params.host} is reachable from other machines"
        raise UserError(f"{problem}: set {WEBHOOK_AUTH} in the environment, or services.host to 127.0.0.1")
    with open_listener(params.host, params.webhook_port, "change services.webhook_port") as listener:
        application = webhook_app(workspace.root, read_token(workspace))
        source = WEBHOOK_AUTH if os.environ.get(WEBHOOK_AUTH) else str(token_file(workspace))
        report(f"POST {params.webhook_url}/trigger needs the token in {source}; /health needs none")
        guarded_server(application, log_level="warning", access_log=False).run(sockets=[listener])


def token_file(workspace: Workspace) -> Path:
    """The file of the generated token."""
    return services_folder(workspace) / "token"


def read_token(workspace: Workspace) -> str:
    """The token that callers need: from the environment, or generated once into a file that only this user can read."""
    if token := os.environ.get(WEBHOOK_AUTH):
        return check_secret(token, WEBHOOK_AUTH)
    return read_or_create_secret(token_file(workspace))


def _is_allowed(request: Request, token: str) -> bool:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    is_same = hmac.compare_digest(given.strip().encode("latin-1"), token.encode())
    return is_same and scheme.lower() == "bearer"


async def _health(_: Request) -> Response:
    return JSONResponse({"status": "ok"})


def _unauthorized() -> Response:
    return JSONResponse({"error": "a valid bearer token is required"}, 401, {"WWW-Authenticate": "Bearer"})


def _is_local(request: Request, params: ServicesParams) -> bool:
    """Whether a request comes from this machine: a proxy for other machines passes on the name that they called."""
    return is_loopback(params.host) and is_loopback(request.url.hostname or "")


def _host_guard(params: ServicesParams) -> Middleware:
    address = (params.host, params.webhook_port)
    hosts = allowed_hosts(*address, params.allowed_hosts)
    return Middleware(HostGuard, hosts=hosts, origins=allowed_origins(*address, params.cors_origins))
