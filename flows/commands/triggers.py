"""Which commands say that data has moved? trigger, watch, door, hooks."""

from __future__ import annotations

import signal
from contextlib import suppress
from datetime import UTC, datetime
from threading import Event
from typing import Annotated

import typer

from flows.console import HERE, ProjectFolder, out, plain, refusing
from flows.environment import make_prefect_home, prepare
from pipelines.errors import UnavailableError

app = typer.Typer()
hooks = typer.Typer(no_args_is_help=True, help="Have git ask for a run after a commit, a merge, a checkout, a rebase.")
app.add_typer(hooks, name="hooks")


@app.command()
@refusing
def trigger(
    source: Annotated[str, typer.Option("--source", help="Who says so; it stands in the event.")] = "command",
    if_moved: Annotated[bool, typer.Option("--if-moved", help="Send nothing where nothing has moved.")] = False,
    project: ProjectFolder = HERE,
) -> None:
    """Ask the Prefect server for a run on what is in the data folders now. Safe to repeat: a run of no use is short."""
    prepare(project)
    from pipelines.publish.due import due
    from pipelines.publish.registry import Registry
    from pipelines.workspace import Workspace

    workspace = Workspace.open(project)
    make_prefect_home()
    from flows.triggers import send

    known = None
    with suppress(UnavailableError):  # Without MLflow, nobody knows what was judged; the news goes out all the same.
        known = due(workspace, Registry(workspace).history(), datetime.now(UTC))
    if if_moved and known and not known.is_due:
        out.print(f"not sent: {plain(known.why)}", highlight=False, soft_wrap=True)
        return
    out.print(f"sent: the data is at {send(project, source)}", highlight=False, soft_wrap=True)
    if known and not known.is_due:
        out.print(f"the run will find nothing new: {plain(known.why)}", highlight=False, soft_wrap=True)


@app.command()
@refusing
def watch(project: ProjectFolder = HERE) -> None:
    """Watch the data folders and ask for a run after each batch of changes. Ends on SIGTERM or Ctrl-C."""
    prepare(project)
    from pipelines.workspace import Workspace

    Workspace.open(project)  # Says so where there is no project, before anything is made.
    make_prefect_home()
    from flows.watch import Watcher

    stop = Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop.set())
    Watcher(project, stop).run()


@app.command()
@refusing
def door(project: ProjectFolder = HERE) -> None:
    """Take triggers over HTTP, from whoever shows the token: where services.host and door_port say."""
    prepare(project)
    from pipelines.workspace import Workspace

    Workspace.open(project)  # Says so where there is no project, before anything is made.
    make_prefect_home()
    from flows.door import serve

    serve(project, lambda line: out.print(line, highlight=False, markup=False, soft_wrap=True))


@hooks.command("install")
@refusing
def install_hooks(project: ProjectFolder = HERE) -> None:
    """Write a block into git's hooks; what stands there stays."""
    prepare(project)
    from flows.hooks import install
    from pipelines.workspace import Workspace

    for hook in install(Workspace.open(project).root):
        out.print(f"asks for a run: {hook}", highlight=False, markup=False, soft_wrap=True)


@hooks.command("uninstall")
@refusing
def uninstall_hooks(project: ProjectFolder = HERE) -> None:
    """Take the block out of git's hooks again, and nothing else."""
    prepare(project)
    from flows.hooks import uninstall

    held = uninstall(project)
    for hook in held:
        out.print(f"asks no more: {hook}", highlight=False, markup=False, soft_wrap=True)
    if not held:
        out.print("no hook holds a block of this project")
