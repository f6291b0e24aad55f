"""The HTTP server of `ragtide serve`: MLflow's scoring protocol for the live release, with limits for each request.

MLflow's own scoring server checks no Host, limits nothing, and answers an invalid request with its whole input or a
traceback. This server accepts the one form that the model has, and answers everything else with a fixed line.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ragtide.flows.services.access import allowed_hosts, allowed_origins
from ragtide.flows.services.http_guard import (
    BodyTooLargeError,
    HostGuard,
    guarded_server,
    ignore_disconnect,
    open_listener,
    read_bounded_body,
)
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.params import ServicesParams
from ragtide.pipelines.release.mlflow_model import ServedAssistant
from ragtide.pipelines.release.serving import ServedQuestion
from ragtide.pipelines.workspace import Workspace

# The questions of a request are answered together, and nobody else's meanwhile: on a CPU 32 of them take a minute.
MAX_QUESTIONS = 32
# 32 questions of 4000 characters, each of up to 4 bytes or an escape of 6, and what is around them.
MAX_BODY_BYTES = 1_000_000
SERVE_HOST = "127.0.0.1"
FORM = (
    'the body must be {"inputs": [{"question": TEXT}, ...]}, '
    f"with 1 to {MAX_QUESTIONS} questions of 1 to 4000 characters"
)
log = logging.getLogger(__name__)


class AnswerRequest(BaseModel):
    """The body of a request, in the form of MLflow's scoring protocol."""

    model_config = ConfigDict(extra="forbid")
    inputs: Annotated[list[ServedQuestion], Field(min_length=1, max_length=MAX_QUESTIONS)]


def answers_app(assistant: ServedAssistant, params: ServicesParams, port: int) -> Starlette:
    """The application: POST /invocations, and GET /ping, /health and /version as MLflow has them."""

    async def invocations(request: Request) -> Response:
        content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if content_type != "application/json":
            return _problem(415, "the Content-Type must be application/json")
        try:
            asked = AnswerRequest.model_validate_json(await read_bounded_body(request, MAX_BODY_BYTES))
        except BodyTooLargeError:
            return _problem(413, f"the body is larger than {MAX_BODY_BYTES} bytes")
        except ValidationError:
            return _problem(400, FORM)
        return await _answer(assistant, asked)

    async def ping(_: Request) -> Response:
        return Response("\n", media_type="application/json")

    async def mlflow_version(_: Request) -> Response:
        return Response(version("mlflow"), media_type="application/json")

    routes = [
        Route("/invocations", invocations, methods=["POST"]),
        Route("/ping", ping),
        Route("/health", ping),
        Route("/version", mlflow_version),
    ]
    hosts = allowed_hosts(SERVE_HOST, port, params.allowed_hosts)
    guard = Middleware(HostGuard, hosts=hosts, origins=allowed_origins(SERVE_HOST, port, params.cors_origins))
    return Starlette(routes=routes, middleware=[guard], exception_handlers={ClientDisconnect: ignore_disconnect})


async def _answer(assistant: ServedAssistant, asked: AnswerRequest) -> Response:
    try:
        replies = await asyncio.to_thread(assistant.answer, asked.inputs)
    except UserError as problem:
        # The reason may contain paths of this machine, which are for its owner only.
        log.warning("a request was not answered: %s", problem)
        return _problem(
            503, "no release can answer at the moment; the server's log has the reason", {"Retry-After": "5"}
        )
    except Exception:
        log.exception("answering a request failed")
        return _problem(500, "answering failed; the server's log has the reason")
    return JSONResponse({"predictions": [reply.model_dump(mode="json") for reply in replies]})


def _problem(status: int, line: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": line}, status, headers)


def serve_answers(workspace: Workspace, port: int, report: Callable[[str], None]) -> None:
    """Serve the live release of the project on this machine until SIGTERM or Ctrl-C; `report` receives the address.

    Raises UserError where no release can be opened, and for a port in use.
    """
    os.environ["RAGTIDE_PROJECT"] = str(workspace.root)
    assistant = ServedAssistant()
    assistant.load_context(None)
    app = answers_app(assistant, workspace.params.services, port)
    with open_listener(SERVE_HOST, port, "use another --port") as listener:
        report(f"serving release {assistant.release} at http://{SERVE_HOST}:{port}/invocations; Ctrl-C stops it")
        guarded_server(app, log_level="warning", access_log=False).run(sockets=[listener])
