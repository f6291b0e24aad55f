"""Which commands say yes or no to what a plan holds back, and tell people? approve, reject, notify."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ragtide.flows.cli.console import HERE, ProjectFolder, out, report_errors
from ragtide.flows.environment import make_prefect_home, prepare_environment
from ragtide.pipelines.errors import UnavailableError, UserError

app = typer.Typer()


@app.command("approve")
@report_errors
def approve_command(
    digest: Annotated[str, typer.Argument(help="The digest of a plan that holds something back.")],
    why: Annotated[str, typer.Option("--why", help="Kept with the approval.")] = "by hand",
    project: ProjectFolder = HERE,
) -> None:
    """Say yes to what a plan holds back, and to nothing else: those removals, or an action that waits."""
    prepare_environment(project)
    from ragtide.flows.prefect_server.approvals import ApprovalInput
    from ragtide.pipelines.history.approvals import record_approval as give
    from ragtide.pipelines.planning.plan import read_plan
    from ragtide.pipelines.ports import no_progress
    from ragtide.pipelines.project import Project

    opened = Project.open(project, no_progress)
    with opened.workspace.write_lock():
        plan = read_plan(opened, digest)
        given = give(opened.workspace, digest, plan, why)
    what = [f"{len(given.removals)} removals"] if given.removals else []
    what += [str(given.action)] if given.action else []
    who = _resumed(opened, plan, ApprovalInput(approve=True, why=why))
    out.print(f"approved: {' and '.join(what)}; {who} goes ahead with it, on this very data")


@app.command("reject")
@report_errors
def reject_command(
    digest: Annotated[str, typer.Argument(help="The digest of a plan that holds something back.")],
    why: Annotated[str, typer.Option("--why", help="Kept, and given as the reason in later decisions.")],
    project: ProjectFolder = HERE,
) -> None:
    """Say no to what a plan holds back: it is not proposed again for this data."""
    prepare_environment(project)
    from ragtide.flows.prefect_server.approvals import ApprovalInput
    from ragtide.pipelines.history.approvals import record_rejection as refuse
    from ragtide.pipelines.planning.plan import read_plan
    from ragtide.pipelines.ports import no_progress
    from ragtide.pipelines.project import Project

    opened = Project.open(project, no_progress)
    with opened.workspace.write_lock():
        plan = read_plan(opened, digest)
        said = refuse(opened.workspace, digest, plan, why)
    what = [f"{len(said.removals)} removals"] if said.removals else []
    what += [" and ".join(map(str, said.actions))] if said.actions else []
    out.print(
        f"rejected: {' and '.join(what)}; {_resumed(opened, plan, ApprovalInput(approve=False, why=why))} goes on without it"
    )


def _resumed(opened: Any, plan: Any, answer: Any) -> str:
    """Who takes the answer up: the run that waits for it, where a server has one, else the next."""
    from ragtide.flows.prefect_server.approvals import resume_runs

    try:
        names = resume_runs(opened.workspace, plan, answer)
    except UnavailableError:
        names = []
    return f"the run {' and '.join(names)}, resumed," if names else "the next `ragtide run`"


@app.command("notify")
@report_errors
def notify_command(
    test: Annotated[bool, typer.Option("--test", help="Send a message to every block of `notify.blocks`.")] = False,
    project: ProjectFolder = HERE,
) -> None:
    """List who is told of what, and see whether Prefect has these blocks; with --test, send each a message."""
    prepare_environment(project)
    from ragtide.pipelines.workspace import Workspace

    workspace = Workspace.open(project)
    params = workspace.params.notify
    if not params.blocks:
        out.print("nobody is told of anything: `notify.blocks` in params.yaml names nobody")
        return
    make_prefect_home()
    from ragtide.flows.prefect_server.notifications import Notification, check_blocks, send_notification

    check_blocks(params)
    out.print(f"{', '.join(params.blocks)}: told of {', '.join(params.kinds)}", soft_wrap=True)
    news = Notification(
        "waits", f"ragtide: a test from {workspace.root.name}", "`ragtide notify --test` was called.", ""
    )
    for block in params.blocks if test else ():
        try:
            send_notification(block, news)
        except Exception as problem:
            raise UserError(f"{block} did not take the message: {' '.join(str(problem).split())}") from problem
        out.print(f"{block}: sent")
