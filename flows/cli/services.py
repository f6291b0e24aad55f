"""Commands that start and stop the services of a project: up, down, deploy, ui."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from ragtide.flows.cli.console import (
    HERE,
    Port,
    ProjectFolder,
    err,
    escape_markup,
    print_text,
    report_errors,
    require_services,
)
from ragtide.flows.environment import PREFECT_AUTH, make_prefect_home, prefect_auth_file, prepare_environment
from ragtide.flows.interruption import end_without_deadline
from ragtide.pipelines.errors import UserError

if TYPE_CHECKING:
    from ragtide.flows.services.supervisor import ServiceStart
    from ragtide.pipelines.workspace import Workspace

app = typer.Typer()
Detach = Annotated[bool, typer.Option("--detach", help="Return once all services are ready, and leave them running.")]


@app.command("up")
@report_errors
def up_command(detach: Detach = False, project: ProjectFolder = HERE) -> None:
    """Start Prefect, MLflow, a worker, the watcher and the webhook.

    Deploys prefect.yaml, and restarts services that end. Ctrl-C stops them.
    """
    require_services()
    from ragtide.flows.services.settings import service_addresses, services_folder
    from ragtide.flows.services.supervisor import ServiceStart, starting_services
    from ragtide.pipelines.workspace import Workspace

    workspace = Workspace.open(project)
    password_source = _prepare_services(workspace)
    # Closing the terminal stops the services, as Ctrl-C does.
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(128 + signal.SIGHUP))
    with starting_services(workspace):
        start = ServiceStart(workspace, _log)
        supervisor = start.first()
        try:
            _start_services(start)
        except BaseException:
            _stop(workspace)
            raise
    print_text(*service_addresses(workspace, password_source))
    print_text("`ragtide down` stops them." if detach else "Ctrl-C stops them.")
    if detach:
        return
    exit_code = 0
    with suppress(KeyboardInterrupt, SystemExit):
        exit_code = supervisor.wait()
    _log(f"stopped: {', '.join(_stop(workspace)) or 'all had ended'}")
    if exit_code != 0:
        raise UserError(
            f"supervisor ended by itself with exit code {exit_code}; "
            f"its log is {services_folder(workspace)}/supervisor.log"
        )


def _prepare_services(workspace: Workspace) -> str:
    """Check the settings and set the services' environment; returns where Prefect's password is."""
    from ragtide.flows.services.secret_files import prefect_auth
    from ragtide.flows.services.settings import check_settings, service_environment

    check_settings(workspace, os.environ)
    source = PREFECT_AUTH if os.environ.get(PREFECT_AUTH) else f"the line in {prefect_auth_file(workspace.root)}"
    password = prefect_auth(workspace.root, os.environ)
    os.environ.update({PREFECT_AUTH: password, "PREFECT_API_AUTH_STRING": password})
    os.environ.update(service_environment(workspace, os.environ))
    make_prefect_home()
    return source


def _stop(workspace: Workspace) -> list[str]:
    """Stop the services; a second Ctrl-C does not interrupt this."""
    from ragtide.flows.services.supervisor import stop_services

    end_without_deadline()
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    return stop_services(workspace)


def _start_services(start: ServiceStart) -> None:
    """Start all services in the order of their dependencies, and wait until each is ready."""
    from ragtide.flows.services.settings import list_services

    services = list_services(start.workspace)
    _log(f"waiting for {', '.join(service.name for service in services)}; logs are in .ragtide/services")
    start.wait(services[0])
    from ragtide.flows.prefect_server.deployment import deploy_flows, make_pool

    make_pool()
    # MLflow's server creates the tables of its database, which the services that need Prefect read.
    for server in services[1:]:
        if not server.needs_prefect:
            start.wait(server)
    # The watcher's first event must find the automation that starts a run: the server does not keep it for later.
    deploy_flows(start.workspace)
    _log("prefect.yaml is deployed")
    start.rest()
    for service in services[1:]:
        if service.needs_prefect:
            start.wait(service)


@app.command("down")
@report_errors
def down_command(project: ProjectFolder = HERE) -> None:
    """Stop all services that `ragtide up` started.

    Also stops services that were left running after a crash.
    """
    require_services()
    from ragtide.flows.services.supervisor import stop_services
    from ragtide.pipelines.workspace import Workspace

    workspace = Workspace.open(project)
    stopped = stop_services(workspace)
    if stopped:
        _close_records(workspace)
    print_text(f"stopped: {', '.join(stopped)}" if stopped else "no service was running")


def _close_records(workspace: Workspace) -> None:
    """Record the cycles whose processes were stopped as interrupted, where they could not do so themselves."""
    from ragtide.pipelines.records.release import Outcome
    from ragtide.pipelines.registry.releases import Registry

    registry, tags = Registry(workspace), {"outcome": Outcome.INTERRUPTED.value, "outcome_detail": "`ragtide down`"}
    # A run of the command line may be at work, and MLflow may have been one of the services: the next run does this.
    with suppress(UserError), workspace.write_lock(what="ragtide down"), registry.pointer_lock():
        for cycle in registry.running_cycles():
            registry.close_killed(cycle, tags)


@app.command("deploy")
@report_errors
def deploy_command(project: ProjectFolder = HERE) -> None:
    """Deploy prefect.yaml to the Prefect server at PREFECT_API_URL.

    For a server and a worker of your own; `ragtide up` deploys by itself.
    """
    prepare_environment(project)
    from ragtide.flows.prefect_server.deployment import deploy_project
    from ragtide.pipelines.workspace import Workspace

    deploy_project(Workspace.open(project))
    print_text("prefect.yaml is deployed; `prefect worker start --pool ragtide` starts a worker that runs it")


@app.command("ui")
@report_errors
def ui_command(project: ProjectFolder = HERE, port: Port = 5000) -> None:
    """Serve MLflow's web interface for this project, on this machine only."""
    prepare_environment(project)
    from ragtide.flows.services.secret_files import mlflow_password_place
    from ragtide.flows.services.settings import MARK, mlflow_arguments, service_environment, write_settings
    from ragtide.pipelines.workspace import Workspace

    workspace = Workspace.open(project)
    write_settings(workspace)
    command = [sys.executable, "-m", *mlflow_arguments(workspace, "127.0.0.1", port)]
    os.environ.update(service_environment(workspace, os.environ))
    print_text(f"serving MLflow at http://127.0.0.1:{port}{mlflow_password_place(workspace)}; Ctrl-C stops it")
    # Without the mark, `ragtide down` does not stop it.
    settings = {key: value for key, value in os.environ.items() if key != MARK}
    os.execve(sys.executable, command, settings)


def _log(line: str) -> None:
    err.print(escape_markup(line), highlight=False, soft_wrap=True)
