"""Which commands start and stop what runs beside a project? up, down, deploy, ui."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from ragtide.flows.cli.console import HERE, Port, ProjectFolder, err, escape_markup, out, report_errors
from ragtide.flows.environment import make_prefect_home, prepare_environment
from ragtide.pipelines.errors import UserError

if TYPE_CHECKING:
    from ragtide.flows.services.supervisor import ServiceStart
    from ragtide.pipelines.workspace import Workspace

app = typer.Typer()
Detach = Annotated[bool, typer.Option("--detach", help="Come back when all are ready, and leave them running.")]


@app.command("up")
@report_errors
def up_command(detach: Detach = False, project: ProjectFolder = HERE) -> None:
    """Start Prefect, MLflow, a worker, the watcher and the door for triggers, deploy prefect.yaml, keep all running."""
    from ragtide.flows.services.settings import check_settings, service_environment, services_folder
    from ragtide.flows.services.supervisor import ServiceStart, starting_services
    from ragtide.pipelines.workspace import Workspace

    workspace = Workspace.open(project)
    check_settings(workspace, os.environ)
    os.environ.update(service_environment(workspace, os.environ))
    make_prefect_home()
    # A terminal that is closed is a wish to stop, as Ctrl-C is.
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(128 + signal.SIGHUP))
    with starting_services(workspace):
        start = ServiceStart(workspace, _say)
        supervisor = start.first()
        try:
            _make_ready(start)
        except BaseException:
            _stop(workspace)
            raise
    _tell_addresses(workspace, detach)
    if detach:
        return
    ended = 0
    with suppress(KeyboardInterrupt, SystemExit):
        ended = supervisor.wait()
    _say(f"stopped: {', '.join(_stop(workspace)) or 'all had ended'}")
    if ended != 0:
        raise UserError(
            f"supervisor ended by itself, with {ended}; its log is {services_folder(workspace)}/supervisor.log"
        )


def _stop(workspace: Workspace) -> list[str]:
    """Stop them, undisturbed by a second Ctrl-C."""
    from ragtide.flows.services.supervisor import stop_services

    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    return stop_services(workspace)


def _make_ready(start: ServiceStart) -> None:
    from ragtide.flows.services.settings import list_services

    everything = list_services(start.workspace)
    _say(f"waiting for {', '.join(service.name for service in everything)}; logs are in .ragtide/services")
    start.wait(everything[0])
    from ragtide.flows.prefect_server.deployment import deploy_flows, make_pool

    make_pool()
    # Whatever reads MLflow's database comes after the server that makes its tables.
    for server in everything[1:]:
        if not server.needs_prefect:
            start.wait(server)
    start.rest()
    deploy_flows(start.workspace)
    _say("prefect.yaml is deployed")
    for service in everything[1:]:
        if service.needs_prefect:
            start.wait(service)


@app.command("down")
@report_errors
def down_command(project: ProjectFolder = HERE) -> None:
    """Stop what `ragtide up` started, also what is left after a crash."""
    from ragtide.flows.services.supervisor import stop_services
    from ragtide.pipelines.workspace import Workspace

    stopped = stop_services(Workspace.open(project))
    out.print(f"stopped: {', '.join(stopped)}" if stopped else "nothing was running")


@app.command("deploy")
@report_errors
def deploy_command(project: ProjectFolder = HERE) -> None:
    """Tell the Prefect server at PREFECT_API_URL of this project: for a server and a worker of your own."""
    prepare_environment(project)
    from ragtide.flows.prefect_server.deployment import deploy_project as tell
    from ragtide.pipelines.workspace import Workspace

    workspace = Workspace.open(project)
    tell(workspace)
    out.print("deployed; `prefect worker start --pool ragtide` carries the runs out", highlight=False)


@app.command("ui")
@report_errors
def ui_command(project: ProjectFolder = HERE, port: Port = 5000) -> None:
    """Open MLflow on this project's runs and releases, on this machine only."""
    prepare_environment(project)
    from ragtide.flows.services.settings import MARK, mlflow_arguments, service_environment, write_settings
    from ragtide.pipelines.workspace import Workspace

    workspace = Workspace.open(project)
    out.print(f"MLflow: http://127.0.0.1:{port} (Ctrl-C stops it)", highlight=False)
    write_settings(workspace)
    command = [sys.executable, "-m", *mlflow_arguments(workspace, "127.0.0.1", port)]
    # It is none of those that `ragtide down` stops.
    told = {key: value for key, value in service_environment(workspace, os.environ).items() if key != MARK}
    os.execve(sys.executable, command, told)


def _say(line: str) -> None:
    err.print(escape_markup(line), highlight=False, soft_wrap=True)


def _tell_addresses(workspace: Workspace, detach: bool) -> None:
    from ragtide.flows.services.settings import is_loopback, starts_mlflow

    params = workspace.params.services
    mlflow = params.mlflow_url if starts_mlflow(workspace) else workspace.tracking_uri
    out.print(f"Prefect  {params.prefect_url}\nMLflow   {mlflow}\ndoor     {params.webhook_url}", highlight=False)
    reach = "for this machine alone" if is_loopback(params.host) else "with passwords, for whoever reaches this machine"
    out.print(f"They listen on {params.host}, {reach}.", highlight=False)
    out.print("`ragtide down` stops them." if detach else "Ctrl-C stops them.")
