"""What of a run whose process or worker was killed? Prefect's server marks it Crashed by an automation.

A run at work shows every HEARTBEAT_SECONDS that it lives: one that has been silent for SILENT_SECONDS is dead. One that
a worker has taken and that has not begun after BEGIN_SECONDS lost its worker in between. Without this each holds its
deployment's one place: for minutes, or for ever (docs/decisions/0017).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

from flows.triggers import prefect_server

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


def ensure() -> None:
    """Have the automations on the server as they are here; once more changes nothing.

    They see what comes after they were made: they must be there before the first run. Raises UnavailableError where no
    server answers.
    """
    with prefect_server() as server:
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
