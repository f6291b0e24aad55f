"""What must a Prefect server know of a project? Work pool, deployments, and the automation that finds killed runs.

Deploying once more changes nothing but what was edited.
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
from ragtide.flows.services.settings import POOL
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.workspace import Workspace


def deploy_project(workspace: Workspace) -> None:
    """Tell the server at PREFECT_API_URL of the project.

    Raises UnavailableError where no server answers, RefusalError with Prefect's last words where it does not take
    prefect.yaml.
    """
    make_pool()
    deploy_flows(workspace)


def make_pool() -> None:
    """The pool whose worker runs the flows as processes of its own machine; before its first run, the automation."""
    template = ProcessWorker.get_default_base_job_template()
    pool = WorkPoolCreate(name=POOL, type=ProcessWorker.type, base_job_template=template)
    with server_client() as server, suppress(ObjectAlreadyExists):
        server.create_work_pool(pool)
    ensure_automations()


def deploy_flows(workspace: Workspace) -> None:
    """The deployments of prefect.yaml, with their schedules and triggers."""
    if not (workspace.root / "prefect.yaml").is_file():
        raise UserError(f"{workspace.root / 'prefect.yaml'} is missing: `ragtide init` puts one there")
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    environment = os.environ | {"RAGTIDE_PROJECT": str(workspace.root)}
    done = subprocess.run(command, cwd=workspace.root, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = " ".join((done.stderr or done.stdout).split())[-400:]
        raise UserError(f"prefect deploy, in {workspace.root}: {said}")


SILENT = "ragtide: a killed run frees its place"
NEVER_BEGAN = "ragtide: a run that never began frees its place"
# What PREFECT_FLOWS_HEARTBEAT_FREQUENCY must be in the worker's environment: Prefect takes nothing shorter.
HEARTBEAT_SECONDS = 30
# One beat may be lost. A living run that is thought dead does no harm: it still holds the project.
SILENT_SECONDS = 75
# From a worker's hands to the run's first step: a process, and Prefect's import. A loaded machine has taken half of it.
BEGIN_SECONDS = 75
BEAT = "prefect.flow-run.heartbeat"
TAKEN = frozenset(f"prefect.flow-run.{state}" for state in ("Pending", "Submitting", "InfrastructurePending"))
# After these a run is silent by right. A suspended one beats again when it goes on.
ENDS = frozenset(
    f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled", "Crashed", "Paused", "Suspended")
)
# What becomes of a run that was taken: it begins, or it is to wait for its place.
GOES_ON = frozenset(
    f"prefect.flow-run.{state}"
    for state in ("Running", "Scheduled", "Late", "AwaitingConcurrencySlot", "AwaitingRetry")
)


def ensure_automations() -> None:
    """Have the automations on the server as they are here; once more changes nothing.

    They see what comes after they were made: they must be there before the first run. Raises UnavailableError where no
    server answers.
    """
    with server_client() as server:
        for wanted in automations():
            _ensure(server, wanted)


def _ensure(server: SyncPrefectClient, wanted: AutomationCore) -> None:
    known = server.read_automations_by_name(wanted.name)
    for one in known[:1]:
        if AutomationCore.model_validate(one.model_dump(exclude={"id"})) != wanted:
            server.update_automation(one.id, wanted)
    for double in known[1:]:
        server.delete_automation(double.id)
    if not known:
        server.create_automation(wanted)


def automations() -> Iterator[AutomationCore]:
    """Crashed for a run that gave a sign of life and then neither another nor an end, or was taken and never began."""
    silent = f"no sign of life for {SILENT_SECONDS} s: its process was killed, or its machine is away"
    yield _crashed(SILENT, silent, {BEAT}, {BEAT, *ENDS}, SILENT_SECONDS)
    never = f"not begun within {BEGIN_SECONDS} s: the worker that had taken it was killed"
    yield _crashed(NEVER_BEGAN, never, set(TAKEN), {BEAT, *GOES_ON, *ENDS}, BEGIN_SECONDS)


def _crashed(name: str, why: str, after: set[str], expect: set[str], seconds: float) -> AutomationCore:
    return AutomationCore(
        name=name,
        description=f"Crashed: {why}.",
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
