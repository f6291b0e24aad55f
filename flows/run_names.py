"""What is a run called on Prefect's page? By its flow and its project's folder: `reconcile support`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from prefect.runtime import flow_run


def named(flow: str) -> Callable[[], str]:
    """A name for the runs of a flow whose parameter `project` is a folder, which may be ".": Prefect's own templates
    would call every run "reconcile ."."""

    def name() -> str:
        return f"{flow} {Path(str(flow_run.parameters.get('project', '.'))).resolve().name}"

    return name
