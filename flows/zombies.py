"""What of a run whose process was killed together with its worker? Prefect's server marks it Crashed by an automation.

A run shows every HEARTBEAT_SECONDS that it lives; one that has been silent for SILENT_SECONDS frees its place. Without
this it stays Running, and holds its deployment's one place, for minutes (docs/decisions/0017).
"""

from __future__ import annotations

from datetime import timedelta

from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

from flows.triggers import prefect_server

NAME = "ragtide: a killed run frees its place"
# What PREFECT_FLOWS_HEARTBEAT_FREQUENCY must be in the worker's environment: Prefect takes nothing shorter.
HEARTBEAT_SECONDS = 30
# One beat may be lost. A living run that is thought dead does no harm: it still holds the project.
SILENT_SECONDS = 75
BEAT = "prefect.flow-run.heartbeat"
# After these a run is silent by right. A suspended one beats again when it goes on.
ENDS = {f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled", "Crashed", "Paused", "Suspended")}


def ensure(silent_seconds: float = SILENT_SECONDS) -> None:
    """Have the automation on the server as it is here; once more changes nothing.

    It sees what comes after it was made: it must be there before the first run. Raises UnavailableError where no
    server answers.
    """
    wanted = automation(silent_seconds)
    with prefect_server() as server:
        known = server.read_automations_by_name(NAME)
        for one in known[:1]:
            if AutomationCore.model_validate(one.model_dump(exclude={"id"})) != wanted:
                server.update_automation(one.id, wanted)
        for double in known[1:]:
            server.delete_automation(double.id)
        if not known:
            server.create_automation(wanted)


def automation(silent_seconds: float) -> AutomationCore:
    """Crashed for every run that gave a sign of life, and then neither another nor an end for so long."""
    return AutomationCore(
        name=NAME,
        description=f"A run that gave no sign of life for {silent_seconds:.0f} s was killed with its worker.",
        trigger=EventTrigger(
            after={BEAT},
            expect={BEAT, *ENDS},
            match={"prefect.resource.id": ["prefect.flow-run.*"]},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=silent_seconds),
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                message=f"no sign of life for {silent_seconds:.0f} s: its process was killed, or its machine is away",
            )
        ],
    )
