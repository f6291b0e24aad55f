"""How does the news that data has moved reach the flow? As one Prefect event, which an automation answers with a run.

An event is a hint and no more: the run looks at what is in the folders itself. A hint that is lost is made up for by
flows/scheduled.py.
"""

from __future__ import annotations

from pathlib import Path

from prefect.events.schemas.events import Event, Resource

from ragtide.flows.prefect_server.client import server_client
from ragtide.pipelines.data.snapshot import take_snapshot
from ragtide.pipelines.workspace import Workspace

EVENT = "kb.data.updated"


def send_event(project: Path, source: str) -> str:
    """Say that the data of `project` may have moved; `source` is who says so. Returns the snapshot's id.

    When this returns, the server has taken the event: it is posted and answered, where Prefect's `emit_event` leaves
    it to a thread. Raises UnavailableError where no server answers, RefusalError where the data cannot be looked at.
    """
    workspace = Workspace.open(project)
    revision = take_snapshot(workspace).id
    resource = Resource({"prefect.resource.id": f"kb.source.{workspace.root.name}", "prefect.resource.name": source})
    event = Event(event=EVENT, resource=resource, payload={"rev": revision, "source": source})
    with server_client(workspace) as server:
        server.request("POST", "/events", json=[event.model_dump(mode="json")])
    return revision
