"""Deployment to a Prefect server: work pool, deployments, and automations that mark dead flow runs as Crashed.

Deploying is idempotent: it changes only what was edited.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.exceptions import ObjectAlreadyExists
from prefect.workers.process import ProcessWorker

from ragtide.flows.prefect_server.client import server_client
from ragtide.flows.services.settings import POOL, require_prefect_yaml
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.workspace import Workspace

NO_HEARTBEAT = "ragtide: crash runs without a heartbeat"
NEVER_STARTED = "ragtide: crash runs that never started"
# One heartbeat may be lost. A live run that is marked as dead does no harm: it still holds the project's lease.
SILENT_SECONDS = 75
# From the worker's pick-up to the first step: a new process and the import of Prefect, about half of this on a loaded
# machine.
BEGIN_SECONDS = 75
BEAT = "prefect.flow-run.heartbeat"
TAKEN = frozenset(f"prefect.flow-run.{state}" for state in ("Pending", "Submitting", "InfrastructurePending"))
# After these events no heartbeat is expected. A suspended run sends them again once it is resumed.
ENDS = frozenset(
    f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled", "Crashed", "Paused", "Suspended")
)
# The possible next events of a run that a worker has taken: it starts, or it is queued again.
NEXT_EVENTS = frozenset(
    f"prefect.flow-run.{state}"
    for state in ("Running", "Scheduled", "Late", "AwaitingConcurrencySlot", "AwaitingRetry")
)


def deploy_project(workspace: Workspace) -> None:
    """Deploy the project to the server at PREFECT_API_URL.

    Raises UnavailableError where no server answers, UserError with Prefect's own message where it does not accept
    prefect.yaml.
    """
    make_pool()
    deploy_flows(workspace)


def make_pool() -> None:
    """Create the process work pool, and the automations, which must exist before the first run."""
    template = ProcessWorker.get_default_base_job_template()
    pool = WorkPoolCreate(name=POOL, type=ProcessWorker.type, base_job_template=template)
    with server_client() as server, suppress(ObjectAlreadyExists):
        server.create_work_pool(pool)
    ensure_automations()


def deploy_flows(workspace: Workspace) -> None:
    """Create or update the deployments of prefect.yaml, with their schedules and triggers."""
    require_prefect_yaml(workspace)
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    environment = os.environ | {"RAGTIDE_PROJECT": str(workspace.root)}
    done = subprocess.run(command, cwd=workspace.root, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        output = " ".join((done.stderr or done.stdout).split())[-400:]
        raise UserError(f"`prefect deploy` failed in {workspace.root}: {output}")


def ensure_automations() -> None:
    """Create or update the automations on the server; changes nothing where they are as they should be.

    An automation sees only events that come after its creation, so it must exist before the first run. Raises
    UnavailableError where no server answers.
    """
    with server_client() as server:
        for wanted in automations():
            _ensure(server, wanted)


def _ensure(server: SyncPrefectClient, wanted: AutomationCore) -> None:
    known = server.read_automations_by_name(wanted.name)
    for current in known[:1]:
        if AutomationCore.model_validate(current.model_dump(exclude={"id"})) != wanted:
            server.update_automation(current.id, wanted)
    for duplicate in known[1:]:
        server.delete_automation(duplicate.id)
    if not known:
        server.create_automation(wanted)


def automations() -> Iterator[AutomationCore]:
    """Two automations: one crashes runs whose heartbeat stops, the other runs that a worker took but never started."""
    silent = f"no heartbeat for {SILENT_SECONDS} s: its process was killed or its machine is unreachable"
    yield _crashed(NO_HEARTBEAT, silent, {BEAT}, {BEAT, *ENDS}, SILENT_SECONDS)
    never = f"the run did not start within {BEGIN_SECONDS} s: its worker was killed"
    yield _crashed(NEVER_STARTED, never, set(TAKEN), {BEAT, *NEXT_EVENTS, *ENDS}, BEGIN_SECONDS)


def _crashed(name: str, why: str, after: set[str], expect: set[str], seconds: float) -> AutomationCore:
    return AutomationCore(
        name=name,
        description=f"Marks a flow run as Crashed: {why}.",
        trigger=EventTrigger(
            after=after,
            expect=expect,
            match={"prefect.resource.id": ["prefect.flow-run.*"]},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=seconds),
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message=why)],
    )
