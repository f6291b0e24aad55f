"""Which flow run is going on, what is it called, and where does it stand on Prefect's page?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext
from prefect.runtime import flow_run
from prefect.utilities.urls import url_for


def run_name_for(flow: str) -> Callable[[], str]:
    """A name for the runs of a flow whose parameter `project` is a folder, which may be ".": Prefect's own templates
    would call every run "reconcile ."."""

    def name() -> str:
        return f"{flow} {Path(str(flow_run.parameters.get('project', '.'))).resolve().name}"

    return name


def current_run() -> FlowRun | None:
    """The run that is going on; None outside of one."""
    context = FlowRunContext.get()
    return context.flow_run if context else None


def deployed_run() -> FlowRun | None:
    """The run that is going on, where it belongs to a deployment."""
    run = current_run()
    return run if run and run.deployment_id else None


def run_url(run: FlowRun | None) -> str | None:
    """Where a run stands on Prefect's page; None without a server that stays."""
    return url_for("flow-run", obj_id=str(run.id)) if run else None
