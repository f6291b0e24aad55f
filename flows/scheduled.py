"""How well does the live release answer now? The golden questions of now, asked apart from any decision."""

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

from ragtide.flows.prefect_server.artifacts import show_markdown
from ragtide.flows.prefect_server.client import server_client
from ragtide.flows.prefect_server.runs import run_name_for
from ragtide.flows.progress import progress_bars
from ragtide.flows.tasks import step
from ragtide.pipelines.errors import UnavailableError
from ragtide.pipelines.planning.missed_runs import check_missed_run
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.evaluation import Scorecard
from ragtide.pipelines.records.release import MaintenanceStep, Release
from ragtide.pipelines.registry.releases import Registry
from ragtide.pipelines.release import live_evaluation
from ragtide.pipelines.release.cleanup import maintain_project as keep_up
from ragtide.pipelines.release.cleanup import store_sizes, store_sizes_markdown
from ragtide.pipelines.reports.data import maintenance_markdown
from ragtide.pipelines.workspace import Workspace


@flow(name="evaluate", flow_run_name=run_name_for("evaluate"), persist_result=False)
def evaluate(project: str = ".") -> Scorecard | None:
    """Score the live release and log it as an MLflow run with a row a question; None where nothing is live yet."""
    opened = Project.open(Path(project), progress_bars)
    release = opened.registry.champion()
    if release is None:
        get_run_logger().info("nothing is live yet: there is nothing to score")
        return None
    return score_live(opened, release)


@step("score-live")
def score_live(project: Project, release: Release) -> Scorecard:
    """The scores in MLflow and on Prefect's page."""
    done = live_evaluation.evaluate_release(project, release)
    show_markdown("evaluation", done.markdown, f"release {release.id}, MLflow {done.address}")
    return done.scorecard


# As long as a long run may take: upkeep is a week old by then, an hour more is no matter.
WAIT_SECONDS = 3600.0


@flow(name="maintain", flow_run_name=run_name_for("maintain"), persist_result=False)
def maintain(project: str = ".") -> list[MaintenanceStep]:
    """Compact the index, take away what no release needs, and tell how large everything has become."""
    return maintain_step(Project.open(Path(project), progress_bars))


@step("look-after")
def maintain_step(project: Project) -> list[MaintenanceStep]:
    """Every step of upkeep, done or not and why, on Prefect's page; with what is on the disk of this machine."""
    with project.workspace.write_lock(WAIT_SECONDS, "maintain"):
        steps = keep_up(project)
    weighed = store_sizes(project.workspace, PREFECT_HOME.value() / "prefect.db")
    markdown = f"{maintenance_markdown(steps)}\n\n{store_sizes_markdown(weighed)}"
    show_markdown("maintenance", markdown, "what was done, and what lies on this machine")
    return steps


DEPLOYMENT = "keep-current/keep-current"
# A scheduled run that begins so soon makes another needless.
SOON = timedelta(minutes=5)
# A run that a worker took so long ago, and that has not begun, never will.
LONG_PENDING = timedelta(minutes=5)
AT_WORK = ("PENDING", "RUNNING", "CANCELLING")


@flow(name="reconcile", flow_run_name=run_name_for("reconcile"), persist_result=False)
def reconcile(project: str = ".") -> str:
    """Ask for a run of keep-current where one is missing. Returns what was found, in a line."""
    workspace = Workspace.open(Path(project))
    known = check_missed_run(workspace, Registry(workspace).history(), datetime.now(UTC))
    told = known.why
    if known.is_due:
        asked = request_run(workspace, known.revision)
        told += f": asked for {asked}" if asked else ": a run is at work or due that will see it"
    get_run_logger().info(told)
    return told


def request_run(workspace: Workspace, revision: str) -> str | None:
    """The name of a new run of keep-current; None where one is at work, or due soon.

    Raises UnavailableError where the server does not answer, or knows no such deployment.
    """
    with server_client(workspace) as server:
        try:
            deployment = server.read_deployment_by_name(DEPLOYMENT).id
        except ObjectNotFound as problem:
            raise UnavailableError(f"the server has no deployment {DEPLOYMENT}: `ragtide up` deploys it") from problem
        _give_up_what_never_began(server, deployment)
        if _expected(server, deployment):
            return None
        asked = server.create_flow_run_from_deployment(
            deployment, parameters={"revision": revision}, tags=["reconcile"]
        )
        return asked.name


def _give_up_what_never_began(server: SyncPrefectClient, deployment: UUID) -> None:
    """Crash pending runs whose worker died before they started and that no automation has caught."""
    taken = {"deployment_id": {"any_": [deployment]}, "state": {"type": {"any_": ["PENDING"]}}}
    for run in server.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate(taken)):
        if run.state and datetime.now(UTC) - run.state.timestamp > LONG_PENDING:
            message = f"not begun within {LONG_PENDING}: the worker that had taken it was killed"
            server.set_flow_run_state(run.id, Crashed(message=message))


def _expected(server: SyncPrefectClient, deployment: UUID) -> bool:
    """Whether a run is at work or due soon; one that is suspended for an approval looks at older data."""
    of_ours = {"deployment_id": {"any_": [deployment]}}
    at_work = of_ours | {"state": {"type": {"any_": AT_WORK}}}
    soon = {"before_": datetime.now(UTC) + SOON}
    waiting = of_ours | {"state": {"type": {"any_": ["SCHEDULED"]}}, "next_scheduled_start_time": soon}
    filters = [FlowRunFilter.model_validate(one) for one in (at_work, waiting)]
    return any(server.read_flow_runs(flow_run_filter=one, limit=1) for one in filters)
