"""Do a project's services run? Started under supervisor, waited for until they answer, stopped with all they started.

A process belongs to a project's services if its environment says so (`MARK`): that is true of what a killed supervisor
leaves behind too, and no number of a process that is long gone can be mistaken for it.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from xmlrpc.client import Error as RpcError
from xmlrpc.client import ServerProxy

import httpx
import psutil
from filelock import FileLock, Timeout
from supervisor.xmlrpc import SupervisorTransport

from ragtide.flows.environment import server_file
from ragtide.flows.services.port_cleanup import is_alive, terminate
from ragtide.flows.services.settings import (
    GRACE_SECONDS,
    MARK,
    POOL,
    Service,
    control_socket,
    list_services,
    services_folder,
    write_settings,
)
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.params import ServicesParams
from ragtide.pipelines.records.base import write_text_atomically
from ragtide.pipelines.workspace import Workspace

SUPERVISOR = "supervisor"
START_SECONDS = 180
LOG_LINES = 6
POLL_SECONDS = 0.25
ALIVE = ("STOPPED", "STARTING", "RUNNING")


@dataclass(frozen=True)
class ServiceProcess:
    """A process of the services: supervisor itself, a service, or what a service has started."""

    process: psutil.Process
    service: str


def service_processes(workspace: Workspace) -> list[ServiceProcess]:
    """Every process of the project's services that is alive, but for the one that asks and those that started it."""
    mark = str(services_folder(workspace))
    asking = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            told = process.environ()
            if told.get(MARK) == mark and process.pid not in asking and is_alive(process):
                found.append(ServiceProcess(process, told.get("SUPERVISOR_PROCESS_NAME", SUPERVISOR)))
    return found


# --- start ----------------------------------------------------------------------------------------------------------


@dataclass
class ServiceStart:
    """The services of one project while they are being started. The environment is that of this process."""

    workspace: Workspace
    tell: Callable[[str], None]
    at: float = field(default_factory=time.time)
    seen: dict[str, int] = field(default_factory=dict)

    def first(self) -> subprocess.Popen[bytes]:
        """Start supervisor, with what needs no other service."""
        self._refuse_what_runs()
        params = self.workspace.params.services
        for service in list_services(self.workspace):
            if service.port is not None:
                check_port(params, service)
        settings = write_settings(self.workspace)
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(settings)]
        with (services_folder(self.workspace) / f"{SUPERVISOR}.log").open("ab") as log:
            # A session of its own: Ctrl-C on the terminal is for `ragtide up`, which then stops them in order.
            started = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        noted = {"api": f"{params.prefect_url}/api", "pid": started.pid}
        noted["started"] = psutil.Process(started.pid).create_time()
        write_text_atomically(server_file(self.workspace.root), json.dumps(noted))
        return started

    def rest(self) -> None:
        """Start what waited for Prefect's server."""
        with supervisor_rpc(self.workspace) as supervisor:
            for service in list_services(self.workspace):
                if service.needs_prefect:
                    supervisor.startProcess(service.name, False)

    def wait(self, service: Service) -> None:
        """Wait until `service` answers. Raises RefusalError with its last lines where it ends, or does not in time."""
        deadline = time.monotonic() + START_SECONDS
        while not self._is_ready(service):
            self._check_alive()
            if time.monotonic() > deadline:
                said = last_lines(self.workspace, service.name)
                raise UserError(f"{service.name} did not answer within {START_SECONDS} s; {said}")
            time.sleep(POLL_SECONDS)
        self.tell(f"{service.name} is ready after {time.time() - self.at:.0f} s")

    def _refuse_what_runs(self) -> None:
        running = {part.service for part in service_processes(self.workspace)}
        if SUPERVISOR in running:
            raise UserError(f"the services of {self.workspace.root} are up already; `ragtide down` stops them")
        if running:
            line = f"a supervisor that was killed has left {', '.join(sorted(running))} running"
            raise UserError(f"{line}: `ragtide down` stops them")

    def _check_alive(self) -> None:
        """Raise RefusalError with the last lines of whatever has ended since it was started."""
        try:
            with supervisor_rpc(self.workspace) as supervisor:
                states = supervisor.getAllProcessInfo()
        except (OSError, RpcError) as problem:
            if any(part.service == SUPERVISOR for part in service_processes(self.workspace)):
                return
            said = last_lines(self.workspace, SUPERVISOR)
            raise UserError(f"supervisor ended as it started; {said}") from problem
        for state in states:
            name, pid = state["name"], state["pid"]
            was_replaced = bool(pid) and self.seen.setdefault(name, pid) != pid
            if was_replaced or state["statename"] not in ALIVE:
                raise UserError(f"{name} ended as it started; {last_lines(self.workspace, name)}")

    def _is_ready(self, service: Service) -> bool:
        if service.url:
            return is_healthy(service.url)
        if service.beat:
            return service.beat.is_file() and service.beat.stat().st_mtime > self.at
        return worker_heartbeat_since(self.at, self.workspace.params.services)


def check_port(params: ServicesParams, service: Service) -> None:
    """Raise RefusalError where `service` could not listen."""
    key = f"services.{service.name}_port"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(params.host, service.port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as problem:
        if problem.errno == errno.EADDRINUSE:
            line = f"port {service.port} is taken, and {service.name} should listen there"
            raise UserError(f"{line}: stop what holds it, or set {key} in params.yaml") from problem
        if problem.errno in (errno.EACCES, errno.EPERM):
            raise UserError(f"port {service.port} is not for this user: set {key} in params.yaml") from problem
        raise UserError(f"services.host = {params.host} is no address of this machine") from problem


def is_healthy(url: str) -> bool:
    """Whether a service says at `url` that it is well."""
    try:
        return httpx.get(url, timeout=5, trust_env=False).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def worker_heartbeat_since(moment: float, params: ServicesParams) -> bool:
    """Whether the worker has sent a heartbeat since `moment` (seconds): those of an earlier one count for a while."""
    secret = os.environ.get("PREFECT_API_AUTH_STRING")
    user, _, password = (secret or "").partition(":")
    try:
        url = f"{params.prefect_url}/api/work_pools/{POOL}/workers/filter"
        answer = httpx.post(url, json={}, auth=(user, password) if secret else None, timeout=5, trust_env=False)
        known: list[dict[str, Any]] = answer.raise_for_status().json()
    except httpx.HTTPError:
        return False
    beats = [str(one["last_heartbeat_time"]) for one in known if one["status"] == "ONLINE"]
    return any(datetime.fromisoformat(beat).timestamp() > moment for beat in beats)


def last_lines(workspace: Workspace, name: str) -> str:
    """How a log ends, in one line."""
    log = services_folder(workspace) / f"{name}.log"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
    told = " | ".join(line.strip() for line in lines[-LOG_LINES:] if line.strip())
    return f"{log} ends with: {told}" if told else f"{log} says nothing"


@contextmanager
def supervisor_rpc(workspace: Workspace) -> Iterator[Any]:
    """Supervisor's own calls, over its socket. Raises OSError where it does not listen."""
    transport = SupervisorTransport(None, None, f"unix://{control_socket(workspace)}")
    with ServerProxy("http://localhost", transport=transport) as server:
        yield server.supervisor


@contextmanager
def starting_services(workspace: Workspace) -> Iterator[None]:
    """Raises RefusalError where another `ragtide up` is starting the same services."""
    where = services_folder(workspace)
    where.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(where / "lock", timeout=0):
            yield
    except Timeout as problem:
        raise UserError(f"another `ragtide up` is at work in {workspace.root}") from problem


# --- stop -----------------------------------------------------------------------------------------------------------


def stop_services(workspace: Workspace) -> list[str]:
    """Stop the services and all that they started; returns the names of those that ran.

    Supervisor first, with its own; then whatever is left, as after a crash of supervisor. Raises RefusalError for a
    process that cannot be ended.
    """
    running = service_processes(workspace)
    with suppress(OSError, RpcError), supervisor_rpc(workspace) as supervisor:
        # All at once: by itself it would stop one after the other.
        supervisor.stopAllProcesses(False)
    terminate([part.process for part in running if part.service == SUPERVISOR], GRACE_SECONDS * 6)
    terminate([part.process for part in service_processes(workspace)], GRACE_SECONDS)
    if left := service_processes(workspace):
        raise UserError(f"could not be ended: {', '.join(f'{one.service} ({one.process.pid})' for one in left)}")
    control_socket(workspace).unlink(missing_ok=True)
    server_file(workspace.root).unlink(missing_ok=True)
    return list(dict.fromkeys(part.service for part in running))
