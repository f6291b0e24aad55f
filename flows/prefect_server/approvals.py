"""How does a person answer what a run holds back? The run is suspended; Prefect's page or the terminal resumes it.

A suspended run holds nothing: its process has ended, the project is free. Resumed, it begins anew: it writes the answer
down and does a whole turn, which decides about the data as it is by then.
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
from ragtide.pipelines.workspace import Workspace

# Tags of a suspended run: the plan's digest, and that of what it asks for, which another plan may ask for as well.
PLAN, QUESTION = "plan:", "asks:"


class ApprovalInput(RunInput):
    """What the page asks for: yes or no, and why."""

    approve: bool
    why: str = "on Prefect's page"


def record_answer(project: Project) -> bool:
    """Whether this run was suspended and is resumed; what the person said is kept. Hold the project for writing."""
    digest = _digest_asked(deployed_run())
    if digest is None:
        return False
    # This very suspension has happened: Prefect does not suspend again, and hands the answer over.
    answer = suspend_flow_run(wait_for_input=ApprovalInput, key=digest)
    say = record_approval if answer.approve else record_rejection
    say(project.workspace, digest, read_plan(project, digest), answer.why)
    return True


def request_approval(project: Project, cycle: Cycle) -> None:
    """Suspend a deployed run whose plan holds something back; does not return then. Hold nothing.

    What was asked before this turn is asked no more, unless it is the same: then that run goes on waiting, and this one
    ends. A run without a deployment, such as `ragtide run`, cannot be suspended.
    """
    run = deployed_run()
    if run is None:
        return
    plan = read_plan(project, cycle.plan)
    with get_client(sync_client=True) as client:
        same = _clear_away(client, run, plan)
        if same or not plan.needs_approval:
            return
        tags = [tag for tag in run.tags if not tag.startswith((PLAN, QUESTION))]
        client.update_flow_run(run.id, tags=[*tags, f"{PLAN}{cycle.plan}", f"{QUESTION}{plan.approval_digest()}"])
    asked = ApprovalInput.with_initial_data(description=approval_form(project, cycle, plan))
    suspend_flow_run(wait_for_input=asked, key=cycle.plan)


def resume_runs(workspace: Workspace, plan: Plan, answer: ApprovalInput) -> list[str]:
    """Resume the runs that wait for an answer to what `plan` asks for, and return their names.

    Raises UnavailableError where no server answers, RefusalError where it does not take the answer.
    """
    with server_client(workspace) as client:
        waiting = _waiting(client, tags=FlowRunFilterTags(all_=[f"{QUESTION}{plan.approval_digest()}"]))
        for run in waiting:
            result = client.resume_flow_run(run.id, run_input=answer.model_dump())
            if result.status != "ACCEPT":
                why = getattr(result.details, "reason", result.status)
                raise UserError(f"run {run.name} was not resumed: {why}")
    return [run.name for run in waiting]


def approval_form(project: Project, cycle: Cycle, plan: Plan) -> str:
    """What the page says above the form."""
    removals = (
        [f"**Removals that wait:** {list_some(tuple(plan.deletions_to_approve))}"] if plan.deletions_to_approve else []
    )
    proposed = plan.decision.proposed
    action = [f"**Action that waits:** {proposed}{_cost(plan)}"] if proposed else []
    return "\n\n".join(
        [
            f"Plan `{cycle.plan}` of {project.workspace.root.name} waits for a yes or a no, which covers it alone.",
            *action,
            *removals,
            f"In the terminal: `ragtide approve {cycle.plan}`, `ragtide reject {cycle.plan} --why TEXT`.",
            decision.decision_markdown(plan.evidence, plan.decision),
        ]
    )


def _cost(plan: Plan) -> str:
    found = [one for one in plan.decision.options if one.action == plan.decision.proposed]
    return f", about {found[0].cost_seconds:.0f} s" if found else ""


def _digest_asked(run: FlowRun | None) -> str | None:
    """The plan that a run was suspended for."""
    asked = [tag.removeprefix(PLAN) for tag in run.tags if tag.startswith(PLAN)] if run else []
    return asked[0] if asked else None


def _clear_away(client: SyncPrefectClient, run: FlowRun, plan: Plan) -> list[FlowRun]:
    """Cancel the deployment's suspended runs that ask for something else than `plan`; those that ask the same stay."""
    waiting = _waiting(client, deployment_id=FlowRunFilterDeploymentId(any_=[run.deployment_id]))
    same = [one for one in waiting if plan.needs_approval and f"{QUESTION}{plan.approval_digest()}" in one.tags]
    now = "asks for something else" if plan.needs_approval else "holds nothing back"
    for one in waiting:
        if one not in same and _digest_asked(one):
            message = f"Superseded: {run.name} looked at the data later and {now}. Nothing is lost."
            client.set_flow_run_state(one.id, Cancelled(message=message))
    return same


def _waiting(client: SyncPrefectClient, **where: object) -> list[FlowRun]:
    state = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.PAUSED]))
    return client.read_flow_runs(flow_run_filter=FlowRunFilter(state=state, **where))
