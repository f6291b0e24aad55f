"""Which commands say that data has moved? trigger, watch, door, hooks."""

from __future__ import annotations

import signal
from contextlib import suppress
from datetime import UTC, datetime
from threading import Event
from typing import Annotated

import typer

from ragtide.flows.cli.console import HERE, ProjectFolder, escape_markup, out, report_errors
from ragtide.flows.environment import make_prefect_home, prepare_environment
from ragtide.pipelines.errors import UnavailableError

app = typer.Typer()
hooks = typer.Typer(no_args_is_help=True, help="Have git ask for a run after a commit, a merge, a checkout, a rebase.")
app.add_typer(hooks, name="hooks")


@app.command("trigger")
@report_errors
def trigger_command(
    source: Annotated[str, typer.Option("--source", help="Who says so; it stands in the event.")] = "command",
    if_moved: Annotated[bool, typer.Option("--if-moved", help="Send nothing where nothing has moved.")] = False,
    project: ProjectFolder = HERE,
) -> None:
    """Ask the Prefect server for a run on what is in the data folders now. Safe to repeat: a run of no use is short."""
    prepare_environment(project)
    from ragtide.pipelines.planning.missed_runs import check_missed_run
    from ragtide.pipelines.registry.releases import Registry
    from ragtide.pipelines.workspace import Workspace

    workspace = Workspace.open(project)
    make_prefect_home()
    from ragtide.flows.triggers.events import send_event

    known = None
    with suppress(UnavailableError):  # Without MLflow, nobody knows what was judged; the news goes out all the same.
        known = check_missed_run(workspace, Registry(workspace).history(), datetime.now(UTC))
    if if_moved and known and not known.is_due:
        out.print(f"not sent: {escape_markup(known.why)}", highlight=False, soft_wrap=True)
        return
    out.print(f"sent: the data is at {send_event(project, source)}", highlight=False, soft_wrap=True)
    if known and not known.is_due:
        out.print(f"the run will find nothing new: {escape_markup(known.why)}", highlight=False, soft_wrap=True)


@app.command("watch")
@report_errors
def watch_command(project: ProjectFolder = HERE) -> None:
    """Watch the data folders and ask for a run after each batch of changes. Ends on SIGTERM or Ctrl-C."""
    prepare_environment(project)
    from ragtide.pipelines.workspace import Workspace

    Workspace.open(project)  # Says so where there is no project, before anything is made.
    make_prefect_home()
    from ragtide.flows.triggers.watcher import Watcher

    stop = Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop.set())
    Watcher(project, stop).run()


@app.command("webhook")
@report_errors
def webhook_command(project: ProjectFolder = HERE) -> None:
    """Take triggers over HTTP, from whoever shows the token: where services.host and webhook_port say."""
    prepare_environment(project)
    from ragtide.pipelines.workspace import Workspace

    Workspace.open(project)  # Says so where there is no project, before anything is made.
    make_prefect_home()
    from ragtide.flows.triggers.webhook import serve_webhook

    serve_webhook(project, lambda line: out.print(line, highlight=False, markup=False, soft_wrap=True))


@hooks.command("install")
@report_errors
def install_hooks_command(project: ProjectFolder = HERE) -> None:
    """Write a block into git's hooks; what stands there stays."""
    prepare_environment(project)
    from ragtide.flows.triggers.git_hooks import install_hooks
    from ragtide.pipelines.workspace import Workspace

    for hook in install_hooks(Workspace.open(project).root):
        out.print(f"asks for a run: {hook}", highlight=False, markup=False, soft_wrap=True)


@hooks.command("uninstall")
@report_errors
def uninstall_hooks_command(project: ProjectFolder = HERE) -> None:
    """Take the block out of git's hooks again, and nothing else."""
    prepare_environment(project)
    from ragtide.flows.triggers.git_hooks import uninstall_hooks

    held = uninstall_hooks(project)
    for hook in held:
        out.print(f"asks no more: {hook}", highlight=False, markup=False, soft_wrap=True)
    if not held:
        out.print("no hook holds a block of this project")
