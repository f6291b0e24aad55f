"""Commands that request runs when data changes: trigger, watch, webhook, hooks."""

from __future__ import annotations

import signal
from contextlib import suppress
from datetime import UTC, datetime
from threading import Event
from typing import Annotated

import typer

from ragtide.flows.cli.console import HERE, ProjectFolder, print_text, report_errors, require_services
from ragtide.flows.environment import make_prefect_home, prepare_environment
from ragtide.flows.interruption import end_without_deadline
from ragtide.pipelines.errors import UnavailableError

app = typer.Typer()
hooks = typer.Typer(no_args_is_help=True, help="Install or remove git hooks that request a run.")
app.add_typer(hooks, name="hooks")


@app.command("trigger")
@report_errors
def trigger_command(
    source: Annotated[str, typer.Option("--source", help="Name of the sender, kept in the event.")] = "command",
    if_moved: Annotated[
        bool, typer.Option("--if-moved", help="Send nothing if the current data was decided already.")
    ] = False,
    project: ProjectFolder = HERE,
) -> None:
    """Request a run for the current data.

    Sends an event to the Prefect server. Safe to repeat: a run that finds nothing new is short.
    """
    prepare_environment(project)
    from ragtide.pipelines.planning.missed_runs import check_missed_run
    from ragtide.pipelines.registry.releases import Registry
    from ragtide.pipelines.workspace import Workspace

    workspace = Workspace.open(project)
    make_prefect_home()
    from ragtide.flows.triggers.events import send_event

    check = None
    # Without MLflow it is unknown what was decided; the event is sent all the same.
    with suppress(UnavailableError):
        check = check_missed_run(workspace, Registry(workspace).history(), datetime.now(UTC))
    if if_moved and check and not check.is_due:
        print_text(f"not sent: {check.why}")
        return
    print_text(f"sent: run requested for revision {send_event(project, source)}")
    if check and not check.is_due:
        print_text(f"the run will find nothing new: {check.why}")


@app.command("watch")
@report_errors
def watch_command(project: ProjectFolder = HERE) -> None:
    """Watch the data folders and request a run after changes.

    Ends on SIGTERM or Ctrl-C.
    """
    prepare_environment(project)
    from ragtide.pipelines.workspace import Workspace

    Workspace.open(project)  # A missing project is an error before anything is created.
    require_services()
    make_prefect_home()
    from ragtide.flows.triggers.watcher import Watcher

    stop = Event()
    # A signal is the usual end of the watcher.
    end_without_deadline()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop.set())
    Watcher(project, stop).run()


@app.command("webhook")
@report_errors
def webhook_command(project: ProjectFolder = HERE) -> None:
    """Accept requests for runs over HTTP.

    A request must show the token. The settings `services.host` and `services.webhook_port` name the address.
    """
    prepare_environment(project)
    from ragtide.pipelines.workspace import Workspace

    Workspace.open(project)  # A missing project is an error before anything is created.
    make_prefect_home()
    from ragtide.flows.triggers.webhook import serve_webhook

    serve_webhook(project, print_text)


@hooks.command("install")
@report_errors
def install_hooks_command(project: ProjectFolder = HERE) -> None:
    """Add a block to git's hooks that requests a run.

    A commit, a merge, a checkout or a rebase then requests a run. What the hooks hold already is kept.
    """
    prepare_environment(project)
    from ragtide.flows.triggers.git_hooks import install_hooks
    from ragtide.pipelines.workspace import Workspace

    for hook in install_hooks(Workspace.open(project).root):
        print_text(f"installed in {hook}")


@hooks.command("uninstall")
@report_errors
def uninstall_hooks_command(project: ProjectFolder = HERE) -> None:
    """Remove the block from git's hooks.

    Whatever else the hooks hold is kept.
    """
    prepare_environment(project)
    from ragtide.flows.triggers.git_hooks import uninstall_hooks

    removed = uninstall_hooks(project)
    for hook in removed:
        print_text(f"removed from {hook}")
    if not removed:
        print_text("no git hook holds a block of this project")
