"""Commands about approvals and notifications: approve, reject, notify."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ragtide.flows.cli.console import HERE, ProjectFolder, print_text, report_errors
from ragtide.flows.environment import make_prefect_home, prepare_environment, protect_temporary_server
from ragtide.pipelines.errors import UnavailableError, UserError

if TYPE_CHECKING:
    from ragtide.flows.prefect_server.approvals import ApprovalInput
    from ragtide.pipelines.project import Project
    from ragtide.pipelines.records.decision import Plan

app = typer.Typer()
PlanDigest = Annotated[str, typer.Argument(help="Digest of a plan that needs approval.")]


@app.command("approve")
@report_errors
def approve_command(
    digest: PlanDigest,
    why: Annotated[str, typer.Option("--why", help="Reason, stored with the approval.")] = "by hand",
    project: ProjectFolder = HERE,
) -> None:
    """Approve what a plan is waiting for.

    The approval covers the plan's removals, its withheld documents or its action, on the plan's data, and nothing else.
    """
    prepare_environment(project)
    from ragtide.flows.prefect_server.approvals import ApprovalInput
    from ragtide.pipelines.history.approvals import record_approval
    from ragtide.pipelines.planning.plan import read_plan
    from ragtide.pipelines.ports import no_progress
    from ragtide.pipelines.project import Project
    from ragtide.pipelines.reports.wording import approval_subject

    opened = Project.open(project, no_progress)
    with opened.workspace.write_lock():
        plan = read_plan(opened, digest)
        approval = record_approval(opened.workspace, digest, plan, why)
    approved = approval_subject(approval)
    run = _answered_run(opened, plan, ApprovalInput(approve=True, why=why))
    print_text(f"approved: {approved}; {run} carries it out, on the plan's data only")


@app.command("reject")
@report_errors
def reject_command(
    digest: PlanDigest,
    why: Annotated[str, typer.Option("--why", help="Reason, stored and shown in later decisions.")],
    project: ProjectFolder = HERE,
) -> None:
    """Decline what a plan is waiting for.

    It is not proposed again for the same data and settings.
    """
    prepare_environment(project)
    from ragtide.flows.prefect_server.approvals import ApprovalInput
    from ragtide.pipelines.history.approvals import record_rejection
    from ragtide.pipelines.planning.plan import read_plan
    from ragtide.pipelines.ports import no_progress
    from ragtide.pipelines.project import Project
    from ragtide.pipelines.reports.wording import approval_subject

    opened = Project.open(project, no_progress)
    with opened.workspace.write_lock():
        plan = read_plan(opened, digest)
        rejection = record_rejection(opened.workspace, digest, plan, why)
    declined = approval_subject(rejection)
    run = _answered_run(opened, plan, ApprovalInput(approve=False, why=why))
    print_text(f"declined: {declined}; {run} continues without it")


def _answered_run(opened: Project, plan: Plan, answer: ApprovalInput) -> str:
    """The run that takes up an answer: the suspended one, if a server has it, otherwise the next."""
    from ragtide.flows.prefect_server.approvals import resume_runs

    try:
        names = resume_runs(opened.workspace, plan, answer)
    except UnavailableError:
        names = []
    return f"the resumed run {' and '.join(names)}" if names else "the next `ragtide run`"


@app.command("notify")
@report_errors
def notify_command(
    test: Annotated[bool, typer.Option("--test", help="Send a message to every block of `notify.blocks`.")] = False,
    project: ProjectFolder = HERE,
) -> None:
    """List who is notified of what, or send a test message.

    Checks that Prefect has the blocks that `notify.blocks` names.
    """
    prepare_environment(project)
    from ragtide.pipelines.workspace import Workspace

    workspace = Workspace.open(project)
    params = workspace.params.notify
    if not params.blocks:
        print_text("nobody is notified: `notify.blocks` in params.yaml is empty")
        return
    make_prefect_home()
    protect_temporary_server()
    from ragtide.flows.prefect_server.notifications import Notification, check_blocks, send_notification

    check_blocks(params)
    print_text(f"{', '.join(params.blocks)}: notified of {', '.join(params.kinds)}")
    message = Notification(
        "pending_approval", f"ragtide: a test from {workspace.root.name}", "`ragtide notify --test` was called.", ""
    )
    for block in params.blocks if test else ():
        try:
            send_notification(block, message)
        except Exception as problem:
            raise UserError(f"{block} did not accept the message: {' '.join(str(problem).split())}") from problem
        print_text(f"{block}: message sent")
