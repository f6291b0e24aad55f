"""The current flow run: its name, its deployment and its address on Prefect's page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext
from prefect.runtime import flow_run
from prefect.utilities.urls import url_for

from ragtide.flows.interruption import watch_signals


def run_name_for(flow: str) -> Callable[[], str]:
    """A function that names the runs of `flow` after the project's folder.

    Prefect's own templates would name every run "reconcile .", since the parameter `project` is usually ".".
    """

    def name() -> str:
        return f"{flow} {Path(str(flow_run.parameters.get('project', '.'))).resolve().name}"

    return name


def current_run() -> FlowRun | None:
    """The current flow run; None outside of one."""
    context = FlowRunContext.get()
    return context.flow_run if context else None


def deployed_run() -> FlowRun | None:
    """The current flow run if it belongs to a deployment, else None."""
    run = current_run()
    return run if run and run.deployment_id else None


def watch_signals_of_deployed_run() -> None:
    """End a deployed run in time after SIGTERM, which Prefect raises as an exception in its main thread."""
    if deployed_run():
        watch_signals()


def run_url(run: FlowRun | None) -> str | None:
    """The address of a run on Prefect's page; None without a persistent server."""
    return url_for("flow-run", obj_id=str(run.id)) if run else None
