"""Scheduled flows beside keep-current: reconcile (missed runs), evaluate (live release) and maintain (cleanup)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from prefect import flow, get_run_logger
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_HOME
from prefect.states import Crashed

from ragtide.flows.environment import apply_offline_defaults
from ragtide.flows.prefect_server.artifacts import show_markdown
from ragtide.flows.prefect_server.client import server_client
from ragtide.flows.prefect_server.runs import run_name_for, watch_signals_of_deployed_run
from ragtide.flows.progress import progress_bars
from ragtide.flows.tasks import step
from ragtide.pipelines.errors import UnavailableError
from ragtide.pipelines.planning.missed_runs import check_missed_run
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.evaluation import Scorecard
from ragtide.pipelines.records.release import MaintenanceStep, Release
from ragtide.pipelines.registry.releases import Registry
from ragtide.pipelines.release import live_evaluation
from ragtide.pipelines.release.cleanup import maintain_project, store_sizes, store_sizes_markdown
from ragtide.pipelines.reports.data import maintenance_markdown
from ragtide.pipelines.workspace import Workspace

# Maintenance waits as long for the project as a long cycle may take: an hour more is no matter once a week.
WAIT_SECONDS = 3600.0
DEPLOYMENT = "keep-current/keep-current"
# A scheduled run that begins this soon makes another one unnecessary.
SOON = timedelta(minutes=5)
# A run that has been pending for this long will never begin.
LONG_PENDING = timedelta(minutes=5)
AT_WORK = ("PENDING", "RUNNING", "CANCELLING")


@flow(name="evaluate", flow_run_name=run_name_for("evaluate"), persist_result=False)
def evaluate(project: str = ".") -> Scorecard | None:
    """Score the live release on today's golden questions, as an MLflow run with one row per question.

    Returns None where there is no live release.
    """
    apply_offline_defaults(project)
    watch_signals_of_deployed_run()
    opened = Project.open(Path(project), progress_bars)
    release = opened.registry.champion()
    if release is None:
        get_run_logger().info("there is no live release to score")
        return None
    return score_live(opened, release)


@step("score-live")
def score_live(project: Project, release: Release) -> Scorecard:
    """Score `release`, log the evaluation to MLflow and show it on the run's page in Prefect."""
    evaluation = live_evaluation.evaluate_release(project, release)
    show_markdown("evaluation", evaluation.markdown, f"release {release.id}", evaluation.address)
    return evaluation.scorecard


@flow(name="maintain", flow_run_name=run_name_for("maintain"), persist_result=False)
def maintain(project: str = ".") -> list[MaintenanceStep]:
    """Compact the index, delete what no release needs, and report the size of every store."""
    apply_offline_defaults(project)
    watch_signals_of_deployed_run()
    return maintain_step(Project.open(Path(project), progress_bars))


@step("maintain-project")
def maintain_step(project: Project) -> list[MaintenanceStep]:
    """Run every maintenance step; show what was done or skipped, why, and the sizes of the stores on the run's page."""
    with project.workspace.write_lock(WAIT_SECONDS, "maintain"):
        steps = maintain_project(project)
    sizes = store_sizes(project.workspace, PREFECT_HOME.value() / "prefect.db")
    markdown = f"{maintenance_markdown(steps)}\n\n{store_sizes_markdown(sizes)}"
    show_markdown("maintenance", markdown, "maintenance steps, and the sizes of the stores on this machine")
    return steps


@flow(name="reconcile", flow_run_name=run_name_for("reconcile"), persist_result=False)
def reconcile(project: str = ".") -> str:
    """Request a run of keep-current where a trigger was lost or a run was killed. Returns the result in one line."""
    apply_offline_defaults(project)
    watch_signals_of_deployed_run()
    workspace = Workspace.open(Path(project))
    check = check_missed_run(workspace, Registry(workspace).history(), datetime.now(UTC))
    result = check.why
    if check.is_due:
        requested = request_run(workspace, check.revision)
        result += f": requested run {requested}" if requested else ": a run that will see this is active or due soon"
    get_run_logger().info(result)
    return result


def request_run(workspace: Workspace, revision: str) -> str | None:
    """Create a run of keep-current and return its name; None where one is active or due soon.

    Raises UnavailableError where the server does not answer, or has no such deployment.
    """
    with server_client(workspace) as server:
        try:
            deployment = server.read_deployment_by_name(DEPLOYMENT).id
        except ObjectNotFound as problem:
            message = f"the Prefect server has no deployment {DEPLOYMENT}: `ragtide up` or `ragtide deploy` creates it"
            raise UnavailableError(message) from problem
        _crash_stuck_runs(server, deployment)
        if _has_upcoming_run(server, deployment):
            return None
        parameters = {"revision": revision}
        return server.create_flow_run_from_deployment(deployment, parameters=parameters, tags=["reconcile"]).name


def _crash_stuck_runs(server: SyncPrefectClient, deployment: UUID) -> None:
    """Crash pending runs whose worker died before they started and that no automation has caught."""
    pending = {"deployment_id": {"any_": [deployment]}, "state": {"type": {"any_": ["PENDING"]}}}
    for run in server.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate(pending)):
        if run.state and datetime.now(UTC) - run.state.timestamp > LONG_PENDING:
            minutes = LONG_PENDING.total_seconds() / 60
            message = f"the run did not start within {minutes:.0f} min: its worker was killed"
            server.set_flow_run_state(run.id, Crashed(message=message))


def _has_upcoming_run(server: SyncPrefectClient, deployment: UUID) -> bool:
    """Whether a run is active or due soon; a run suspended for an approval does not count, since it saw older data."""
    of_deployment = {"deployment_id": {"any_": [deployment]}}
    active = of_deployment | {"state": {"type": {"any_": AT_WORK}}}
    before = {"before_": datetime.now(UTC) + SOON}
    due = of_deployment | {"state": {"type": {"any_": ["SCHEDULED"]}}, "next_scheduled_start_time": before}
    filters = [FlowRunFilter.model_validate(conditions) for conditions in (active, due)]
    return any(server.read_flow_runs(flow_run_filter=run_filter, limit=1) for run_filter in filters)
