"""Requests to all that a project's services listen on, as foreign pages and callers without credentials send them.

What listens is read off the sockets of the processes; paths and WebSockets are read off the applications.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from ragtide.flows.services.settings import MARK, services_folder
from ragtide.flows.services.supervisor import service_processes
from ragtide.pipelines.workspace import Workspace
from tests.servers import eventually, free_port, running
from tests.sites import Site

ROOT = Path(__file__).parent.parent
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
# Answers of a program that examined no request: not of this origin or name, or no credentials.
REFUSALS = (401, 403)
HEALTH = ("/health", "/ping", "/version", "/api/health", "/api/ready")
FOREIGN_NAMES = (
    *("evil.example", "10.evil.example", "192.168.evil.example", "172.16.evil.example", "fd00:evil.example"),
    *("127.0.0.1.evil.example", "localhost.evil.example", "evil.example.", "169.254.169.254", ""),
)
# Prints the paths, with their methods, and the WebSockets of both servers' applications.
ROUTES = """
import json, os
from starlette.routing import Mount
from prefect.server.api.server import create_app
from mlflow.server import app as flask
from mlflow.server.fastapi_app import app as fastapi
if "MLFLOW_AUTH_CONFIG_PATH" in os.environ:
    from mlflow.server.auth import create_app as add_auth_routes
    add_auth_routes(flask)

def walk(routes, prefix=""):
    for route in routes:
        if isinstance(route, Mount):
            yield from walk(getattr(route.app, "routes", []), prefix + route.path)
        elif hasattr(route, "path"):
            yield prefix + route.path, sorted(getattr(route, "methods", None) or [])
        elif hasattr(route, "original_router"):
            yield from walk(route.original_router.routes, prefix + getattr(route, "prefix", ""))

known = {"prefect": list(walk(create_app().routes)), "mlflow": list(walk(fastapi.routes))}
known["mlflow"] += [(rule.rule, sorted(rule.methods)) for rule in flask.url_map.iter_rules()]
print(json.dumps(known))
"""


@dataclass(frozen=True)
class Listener:
    """An address on which a process of the services listens, and the paths of its application with their methods."""

    service: str
    host: str
    port: int
    paths: tuple[tuple[str, tuple[str, ...]], ...]

    @property
    def url(self) -> str:
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    @property
    def web_sockets(self) -> list[str]:
        return [path for path, methods in self.paths if not methods]


@dataclass(frozen=True)
class Answer:
    """What a listener answered: the status is None where it closed the connection without an answer."""

    listener: Listener
    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    status: int | None
    text: str = ""

    @property
    def is_refusal(self) -> bool:
        return self.status is None or self.status in REFUSALS

    @property
    def is_health(self) -> bool:
        return self.path in HEALTH


def find_listeners(workspace: Workspace) -> list[Listener]:
    """Every TCP address on which a process of the services listens, children included."""
    routes, addresses = known_routes(), set()
    for part in service_processes(workspace):
        for connection in part.process.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN:
                addresses.add((part.service, connection.laddr.ip, connection.laddr.port))
    return [Listener(*address, paths=routes.get(address[0], OTHER_PATHS)) for address in sorted(addresses)]


OTHER_PATHS = tuple(
    (path, METHODS)
    for path in ("/", "/trigger", "/metrics", "/invocations", "/docs", "/redoc", "/openapi.json", *HEALTH)
)


def known_routes(auth: Mapping[str, str] | None = None) -> dict[str, tuple[tuple[str, tuple[str, ...]], ...]]:
    """The paths of Prefect's and MLflow's applications, read in a process of its own; a WebSocket has no methods.

    With the variables `auth` of MLflow's users, their routes too.
    """
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT", "MLFLOW"))}
    environment |= auth or {}
    command = [sys.executable, "-c", ROUTES]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=300)
    known = json.loads(done.stdout.splitlines()[-1])
    return {name: tuple((filled(path), tuple(methods)) for path, methods in routes) for name, routes in known.items()}


def filled(path: str) -> str:
    """A route's path with a value for each parameter."""
    return re.sub(r"[{<][^}>]*[}>]", "7a8f2c5e-0000-4000-8000-000000000001", path)


def rebound_names(listener: Listener, hosts: Sequence[str]) -> Iterator[str]:
    """Values of Host that no page of the service has, with and without its port; `hosts` are all that listen."""
    names = [*FOREIGN_NAMES, *(["[::1]"] if not {"::1", "::"} & set(hosts) else [])]
    for name in names:
        yield name
        yield f"{name}:{listener.port}"
    yield "127.0.0.1:1"


def foreign_origins(listener: Listener) -> tuple[str, ...]:
    return (
        *("http://evil.example", "https://evil.example", "null", "file://", f"http://evil.example:{listener.port}"),
        *(f"http://127.0.0.1:{listener.port + 1}", f"http://127.0.0.1:{listener.port}.evil.example"),
    )


def rebound_answers(listener: Listener, hosts: Sequence[str]) -> list[Answer]:
    """Answers that are no refusal to requests and WebSockets with the Host of another name."""
    return _not_refused(listener, [{"Host": name} for name in rebound_names(listener, hosts)])


def foreign_origin_answers(listener: Listener, credentials: dict[str, str] | None = None) -> list[Answer]:
    """Answers that are no refusal to requests and WebSockets with a foreign Origin, even with valid credentials."""
    origins = [{"Origin": origin} for origin in foreign_origins(listener)]
    embedded = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
    return _not_refused(listener, [headers | (credentials or {}) for headers in (*origins, embedded)])


def _not_refused(listener: Listener, variants: Sequence[dict[str, str]]) -> list[Answer]:
    """Each variant of the headers with each method on the first paths and each WebSocket, one with every route."""
    first = [path for path, _ in listener.paths[:2]] + list(HEALTH[:1])
    plan = [(method, path, headers) for headers in variants for path in first for method in METHODS]
    plan += [(method, path, variants[0]) for path, methods in listener.paths for method in methods]
    with httpx.Client(base_url=listener.url, timeout=30, trust_env=False) as client:
        answers = [request(client, listener, *step) for step in plan]
    sockets = {*listener.web_sockets, "/", "/api/events/in"}
    answers += [handshake(listener, path, headers) for headers in variants for path in sorted(sockets)]
    return [answer for answer in answers if not answer.is_refusal]


def request(client: httpx.Client, listener: Listener, method: str, path: str, headers: dict[str, str]) -> Answer:
    body = b"{}" if method in ("POST", "PUT", "PATCH") else None
    json_headers = {"Content-Type": "application/json"} if body else {}
    try:
        response = client.request(method, path, headers=headers | json_headers, content=body)
    except httpx.HTTPError:
        return Answer(listener, method, path, tuple(headers.items()), None)
    return Answer(listener, method, path, tuple(headers.items()), response.status_code, response.text)


def handshake(listener: Listener, path: str, headers: dict[str, str]) -> Answer:
    """The answer to a WebSocket handshake: 101 where it is accepted."""
    lines = {"Host": f"127.0.0.1:{listener.port}", "Upgrade": "websocket", "Connection": "Upgrade"}
    lines |= {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version": "13"}
    lines |= {"Sec-WebSocket-Protocol": "prefect"} | headers
    text = f"GET {path} HTTP/1.1\r\n" + "".join(f"{key}: {value}\r\n" for key, value in lines.items()) + "\r\n"
    try:
        with socket.create_connection((listener.host, listener.port), timeout=30) as connection:
            connection.sendall(text.encode())
            status = connection.recv(4096).partition(b"\r\n")[0].split(b" ")
    except OSError:
        status = []
    return Answer(listener, "WEBSOCKET", path, tuple(headers.items()), int(status[1]) if len(status) > 1 else None)


@contextmanager
def serving(site: Site) -> Iterator[int]:
    """`ragtide serve` of a site with a live release, among its services by their mark; yields its port."""
    port, log = free_port(), site.root.parent / "serve.log"
    mark = {MARK: str(services_folder(site.workspace)), "SUPERVISOR_PROCESS_NAME": "serve"}
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT", "MLFLOW"))}
    command = ("ragtide", "serve", "--port", str(port))
    with (
        log.open("w") as file,
        running(*command, cwd=site.root, env=inherited | site.environment | mark, stdout=file, stderr=file),
    ):
        assert eventually(lambda: _answers(f"http://127.0.0.1:{port}/ping")), log.read_text()
        yield port


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5, trust_env=False).is_success
    except httpx.HTTPError:
        return False
