"""Has a trigger been lost, or a run been killed? Then ask for the run that is missing. Light: it only looks.

It makes the run itself, where every other trigger sends an event: that events can be lost is why it is there.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from prefect import flow, get_run_logger
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter
from prefect.exceptions import ObjectNotFound
from prefect.states import Crashed

from flows.runs import named
from flows.triggers import prefect_server
from pipelines.errors import UnavailableError
from pipelines.publish.due import due
from pipelines.publish.registry import Registry
from pipelines.workspace import Workspace

DEPLOYMENT = "keep-current/keep-current"
# A scheduled run that begins so soon makes another needless.
SOON = timedelta(minutes=5)
# A run that a worker took so long ago, and that has not begun, never will.
LONG_PENDING = timedelta(minutes=5)
AT_WORK = ("PENDING", "RUNNING", "CANCELLING")


@flow(name="reconcile", flow_run_name=named("reconcile"), persist_result=False)
def reconcile(project: str = ".") -> str:
    """Ask for a run of keep-current where one is missing. Returns what was found, in a line."""
    workspace = Workspace.open(Path(project))
    known = due(workspace, Registry(workspace).history(), datetime.now(UTC))
    told = known.why
    if known.is_due:
        asked = ask_for_run(workspace, known.revision)
        told += f": asked for {asked}" if asked else ": a run is at work or due that will see it"
    get_run_logger().info(told)
    return told


def ask_for_run(workspace: Workspace, revision: str) -> str | None:
    """The name of a new run of keep-current; None where one is at work, or due soon.

    Raises UnavailableError where the server does not answer, or knows no such deployment.
    """
    with prefect_server(workspace) as server:
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
    """Free the place of a run whose worker died before it began, where flows/zombies.py has missed it."""
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
