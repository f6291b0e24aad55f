"""Approvals: suspends a deployed run that needs one, and resumes it from Prefect's page or from the terminal.

A suspended run holds no resources: its process has ended and the project's lease is free. When it is resumed, it starts
from the beginning: it records the answer and runs a whole cycle, which decides about the data as it is by then.
"""

from __future__ import annotations

from prefect import suspend_flow_run
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.input import RunInput
from prefect.states import Cancelled

from ragtide.flows.prefect_server.client import server_client
from ragtide.flows.prefect_server.runs import deployed_run
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.history.approvals import record_approval, record_rejection
from ragtide.pipelines.planning.plan import read_plan
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.decision import Plan
from ragtide.pipelines.records.release import Cycle
from ragtide.pipelines.reports import decision
from ragtide.pipelines.reports.markdown import list_some
from ragtide.pipelines.safe_text import literal_links, mask_secrets
from ragtide.pipelines.workspace import Workspace

# Tags of a suspended run: the plan's digest, and the digest of what needs approval, which several plans may share.
PLAN, APPROVAL = "plan:", "approval:"


class ApprovalInput(RunInput):
    """The form on Prefect's page: approve or decline, and the reason."""

    approve: bool
    why: str = "on Prefect's page"


def record_answer(project: Project) -> bool:
    """Record the answer of a resumed run; returns whether this run is one. The caller holds the write lease."""
    digest = _suspended_plan(deployed_run())
    if digest is None:
        return False
    # With the key of the earlier suspension Prefect does not suspend again, but returns the answer.
    answer = suspend_flow_run(wait_for_input=ApprovalInput, key=digest)
    record = record_approval if answer.approve else record_rejection
    record(project.workspace, digest, read_plan(project, digest), answer.why)
    return True


def request_approval(project: Project, cycle: Cycle) -> None:
    """Suspend a deployed run whose plan needs an approval; does not return then. The caller holds no lease.

    Suspended runs that ask for something else are cancelled. Where one asks for the same, it stays suspended and this
    run ends. A run without a deployment, such as `ragtide run`, cannot be suspended.
    """
    run = deployed_run()
    if run is None:
        return
    plan = read_plan(project, cycle.plan)
    with get_client(sync_client=True) as client:
        equivalent_runs = _cancel_superseded(client, run, plan)
        if equivalent_runs or not plan.needs_approval:
            return
        tags = [tag for tag in run.tags if not tag.startswith((PLAN, APPROVAL))]
        client.update_flow_run(run.id, tags=[*tags, f"{PLAN}{cycle.plan}", f"{APPROVAL}{plan.approval_digest()}"])
    form = ApprovalInput.with_initial_data(description=approval_form(project, cycle, plan))
    suspend_flow_run(wait_for_input=form, key=cycle.plan)


def resume_runs(workspace: Workspace, plan: Plan, answer: ApprovalInput) -> list[str]:
    """Resume the runs that are suspended for what `plan` needs approved, and return their names.

    Raises UnavailableError where no server answers, UserError where it does not accept the answer.
    """
    with server_client(workspace) as client:
        suspended = _suspended_runs(client, tags=FlowRunFilterTags(all_=[f"{APPROVAL}{plan.approval_digest()}"]))
        for run in suspended:
            result = client.resume_flow_run(run.id, run_input=answer.model_dump())
            if result.status != "ACCEPT":
                why = getattr(result.details, "reason", result.status)
                raise UserError(f"Prefect did not resume run {run.name}: {why}")
    return [run.name for run in suspended]


def approval_form(project: Project, cycle: Cycle, plan: Plan) -> str:
    """The Markdown above the form on Prefect's page."""
    proposed = plan.decision.proposed
    parts = [f"Plan `{cycle.plan}` of {project.workspace.root.name} needs your approval. The answer covers it alone."]
    if proposed:
        parts.append(f"**Action to approve:** {proposed}{_forecast(plan)}")
    if plan.deletions_to_approve:
        parts.append(f"**Deletions to approve:** {list_some(tuple(plan.deletions_to_approve))}")
    if plan.documents_to_approve:
        parts.append(f"**Withheld documents to release:** {list_some(tuple(plan.documents_to_approve))}")
    parts.append(f"In the terminal: `ragtide approve {cycle.plan}` or `ragtide reject {cycle.plan} --why TEXT`.")
    parts.append(decision.decision_markdown(plan))
    return literal_links(mask_secrets("\n\n".join(parts)))


def _forecast(plan: Plan) -> str:
    proposed = plan.decision.option(plan.decision.proposed) if plan.decision.proposed else None
    return f", about {proposed.cost_seconds:.0f} s" if proposed else ""


def _suspended_plan(run: FlowRun | None) -> str | None:
    """The digest of the plan that a run was suspended for; None where it was not."""
    digests = [tag.removeprefix(PLAN) for tag in run.tags if tag.startswith(PLAN)] if run else []
    return digests[0] if digests else None


def _cancel_superseded(client: SyncPrefectClient, run: FlowRun, plan: Plan) -> list[FlowRun]:
    """Cancel the deployment's suspended runs, except those that ask for the same as `plan`, which are returned."""
    suspended = _suspended_runs(client, deployment_id=FlowRunFilterDeploymentId(any_=[run.deployment_id]))
    tag = f"{APPROVAL}{plan.approval_digest()}"
    equivalent = [other for other in suspended if plan.needs_approval and tag in other.tags]
    change = "asks for something else" if plan.needs_approval else "needs no approval"
    for other in suspended:
        if other not in equivalent and _suspended_plan(other):
            message = f"Superseded: {run.name} looked at newer data and {change}. Nothing is lost."
            client.set_flow_run_state(other.id, Cancelled(message=message))
    return equivalent


def _suspended_runs(client: SyncPrefectClient, **conditions: object) -> list[FlowRun]:
    state = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.PAUSED]))
    return client.read_flow_runs(flow_run_filter=FlowRunFilter(state=state, **conditions))
