"""The Prefect event that reports changed data; the trigger in prefect.yaml starts a run for it.

An event is only a hint: the run reads the data folders itself. The flow `reconcile` makes up for a lost event.
"""

from __future__ import annotations

from pathlib import Path

from prefect.events.schemas.events import Event, Resource

from ragtide.flows.prefect_server.client import server_client
from ragtide.pipelines.data.snapshot import take_snapshot
from ragtide.pipelines.workspace import Workspace

EVENT = "kb.data.updated"


def send_event(project: Path, source: str) -> str:
    """Send an event that the data of `project` may have changed, reported by `source`. Returns the snapshot's id.

    The server has accepted the event when this returns; Prefect's `emit_event` would only hand it to a thread. Raises
    UnavailableError where no server answers, UserError where the data cannot be read.
    """
    workspace = Workspace.open(project)
    revision = take_snapshot(workspace).id
    resource = Resource({"prefect.resource.id": f"kb.source.{workspace.root.name}", "prefect.resource.name": source})
    event = Event(event=EVENT, resource=resource, payload={"rev": revision, "source": source})
    with server_client(workspace) as server:
        server.request("POST", "/events", json=[event.model_dump(mode="json")])
    return revision
