"""Supervision of a project's services: start, wait until they are healthy, stop with their children.

A process belongs to a project's services if its environment has the variable `MARK`. This also finds what a killed
supervisor has left running, and cannot confuse a reused process id with a service.
"""

from __future__ import annotations

import base64
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
from ragtide.pipelines.records.base import make_folder, write_text_atomically
from ragtide.pipelines.workspace import Workspace

SUPERVISOR = "supervisor"
START_SECONDS = 180
LOG_LINES = 6
POLL_SECONDS = 0.25
ALIVE_STATES = ("STOPPED", "STARTING", "RUNNING")


@dataclass(frozen=True)
class ServiceProcess:
    """A process of the services: supervisor itself, a service, or a child of a service."""

    process: psutil.Process
    service: str


def service_processes(workspace: Workspace) -> list[ServiceProcess]:
    """Every live process of the project's services, except this process and its parents."""
    mark = str(services_folder(workspace))
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    processes = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            environment = process.environ()
            if environment.get(MARK) == mark and process.pid not in own and is_alive(process):
                processes.append(ServiceProcess(process, environment.get("SUPERVISOR_PROCESS_NAME", SUPERVISOR)))
    return processes


# --- start ----------------------------------------------------------------------------------------------------------


@dataclass
class ServiceStart:
    """The start of a project's services, which inherit the environment of this process.

    `report` receives lines about the progress; `at` is the time of the start (Unix, seconds); `pids` maps the services
    seen so far to their process ids.
    """

    workspace: Workspace
    report: Callable[[str], None]
    at: float = field(default_factory=time.time)
    pids: dict[str, int] = field(default_factory=dict)

    def first(self) -> subprocess.Popen[bytes]:
        """Start supervisor, with the services that do not need Prefect's server."""
        self._check_nothing_runs()
        params = self.workspace.params.services
        for service in list_services(self.workspace):
            if service.port is not None:
                check_port(params, service)
        settings = write_settings(self.workspace)
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(settings)]
        with (services_folder(self.workspace) / f"{SUPERVISOR}.log").open("ab") as log:
            # In a new session, so that Ctrl-C reaches only `ragtide up`, which then stops the services in order.
            supervisor = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        record = {"api": f"{params.prefect_url}/api", "pid": supervisor.pid}
        record["started"] = psutil.Process(supervisor.pid).create_time()
        write_text_atomically(server_file(self.workspace.root), json.dumps(record))
        return supervisor

    def rest(self) -> None:
        """Start the services that need Prefect's server."""
        with supervisor_rpc(self.workspace) as supervisor:
            for service in list_services(self.workspace):
                if service.needs_prefect:
                    supervisor.startProcess(service.name, False)

    def wait(self, service: Service) -> None:
        """Wait until `service` is healthy. Raises UserError with its last log lines where it ends or takes too long."""
        deadline = time.monotonic() + START_SECONDS
        while not self._is_ready(service):
            self._check_alive()
            if time.monotonic() > deadline:
                log = last_lines(self.workspace, service.name)
                raise UserError(f"{service.name} was not ready within {START_SECONDS} s; {log}")
            time.sleep(POLL_SECONDS)
        self.report(f"{service.name} is ready after {time.time() - self.at:.0f} s")

    def _check_nothing_runs(self) -> None:
        running = {part.service for part in service_processes(self.workspace)}
        if SUPERVISOR in running:
            raise UserError(f"the services of {self.workspace.root} are already running; `ragtide down` stops them")
        if running:
            raise UserError(
                f"a killed supervisor has left {', '.join(sorted(running))} running: `ragtide down` stops them"
            )

    def _check_alive(self) -> None:
        """Raise UserError with the last log lines of a service that has ended since the start."""
        try:
            with supervisor_rpc(self.workspace) as supervisor:
                states = supervisor.getAllProcessInfo()
        except (OSError, RpcError) as problem:
            if any(part.service == SUPERVISOR for part in service_processes(self.workspace)):
                return
            log = last_lines(self.workspace, SUPERVISOR)
            raise UserError(f"supervisor ended during the start; {log}") from problem
        for state in states:
            name, pid = state["name"], state["pid"]
            was_replaced = bool(pid) and self.pids.setdefault(name, pid) != pid
            if was_replaced or state["statename"] not in ALIVE_STATES:
                raise UserError(f"{name} ended during the start; {last_lines(self.workspace, name)}")

    def _is_ready(self, service: Service) -> bool:
        if service.url:
            return is_healthy(service.url)
        if service.beat:
            return service.beat.is_file() and service.beat.stat().st_mtime > self.at
        return worker_heartbeat_since(self.at, self.workspace.params.services)


def check_port(params: ServicesParams, service: Service) -> None:
    """Raise UserError where `service` could not listen on its port."""
    key = f"services.{service.name}_port"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(params.host, service.port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except OSError as problem:
        if problem.errno == errno.EADDRINUSE:
            line = f"port {service.port}, on which {service.name} should listen, is in use"
            raise UserError(f"{line}: stop the program that uses it, or change {key} in params.yaml") from problem
        if problem.errno in (errno.EACCES, errno.EPERM):
            line = f"this user may not listen on port {service.port}"
            raise UserError(f"{line}: change {key} in params.yaml") from problem
        raise UserError(f"services.host = {params.host} is not an address of this machine") from problem


def is_healthy(url: str) -> bool:
    """Whether a service answers 200 at `url`, its health check."""
    try:
        return httpx.get(url, timeout=5, trust_env=False).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def worker_heartbeat_since(moment: float, params: ServicesParams) -> bool:
    """Whether the worker has sent a heartbeat since `moment` (Unix, seconds).

    Prefect reports an earlier worker as online for a while, so the time is compared.
    """
    # As Prefect's own clients send it: the auth string need not have the form user:password.
    secret = base64.b64encode(os.environ.get("PREFECT_API_AUTH_STRING", "").encode()).decode()
    try:
        url = f"{params.prefect_url}/api/work_pools/{POOL}/workers/filter"
        response = httpx.post(url, json={}, headers={"Authorization": f"Basic {secret}"}, timeout=5, trust_env=False)
        workers: list[dict[str, Any]] = response.raise_for_status().json()
    except httpx.HTTPError:
        return False
    beats = [str(worker["last_heartbeat_time"]) for worker in workers if worker["status"] == "ONLINE"]
    return any(datetime.fromisoformat(beat).timestamp() > moment for beat in beats)


def last_lines(workspace: Workspace, name: str) -> str:
    """The end of a service's log, in one line."""
    log = services_folder(workspace) / f"{name}.log"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
    end = " | ".join(line.strip() for line in lines[-LOG_LINES:] if line.strip())
    return f"{log} ends with: {end}" if end else f"{log} is empty"


@contextmanager
def supervisor_rpc(workspace: Workspace) -> Iterator[Any]:
    """Supervisor's XML-RPC interface, over its socket. Raises OSError where it does not listen."""
    transport = SupervisorTransport(None, None, f"unix://{control_socket(workspace)}")
    with ServerProxy("http://localhost", transport=transport) as server:
        yield server.supervisor


@contextmanager
def starting_services(workspace: Workspace) -> Iterator[None]:
    """Hold the lock of the start. Raises UserError where another `ragtide up` is starting the same services."""
    folder = services_folder(workspace)
    make_folder(folder)
    try:
        with FileLock(folder / "lock", timeout=0):
            yield
    except Timeout as problem:
        raise UserError(f"another `ragtide up` is already starting the services of {workspace.root}") from problem


# --- stop -----------------------------------------------------------------------------------------------------------


def stop_services(workspace: Workspace) -> list[str]:
    """Stop the services and their children; returns the names of those that were running.

    Supervisor stops its services first; then the remaining processes, as after a crash of supervisor, are stopped.
    Raises UserError for a process that cannot be stopped.
    """
    running = service_processes(workspace)
    with suppress(OSError, RpcError), supervisor_rpc(workspace) as supervisor:
        # All at once: on SIGTERM supervisor would stop one after the other.
        supervisor.stopAllProcesses(False)
    terminate([part.process for part in running if part.service == SUPERVISOR], GRACE_SECONDS * 6)
    terminate([part.process for part in service_processes(workspace)], GRACE_SECONDS)
    if remaining := service_processes(workspace):
        names = ", ".join(f"{part.service} (process {part.process.pid})" for part in remaining)
        raise UserError(f"these services could not be stopped: {names}")
    control_socket(workspace).unlink(missing_ok=True)
    server_file(workspace.root).unlink(missing_ok=True)
    return list(dict.fromkeys(part.service for part in running))
