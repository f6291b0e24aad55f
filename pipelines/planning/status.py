"""Status of a project: the live release, its lag behind the data, the last cycles and what is pending approval.

Cheap: no model is loaded, and nothing changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from ragtide.pipelines.data.snapshot import take_snapshot
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.history.approvals import is_answered
from ragtide.pipelines.history.freshness import Freshness, measure_freshness, read_source_times
from ragtide.pipelines.history.history import last_decided_cycle
from ragtide.pipelines.planning.plan import read_plan
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.data import Snapshot
from ragtide.pipelines.records.decision import Plan
from ragtide.pipelines.records.release import Cycle, Release


@dataclass(frozen=True)
class ProjectStatus:
    """A project at one moment; `history` is oldest first, `pending` is the plan that waits for an approval, if any."""

    snapshot: Snapshot
    live: Release | None
    history: Sequence[Cycle]
    freshness: Freshness
    pending: Plan | None


def project_status(project: Project, now: datetime) -> ProjectStatus:
    """The status of a project at `now` (UTC)."""
    live, history, snapshot = project.registry.champion(), project.registry.history(), take_snapshot(project.workspace)
    fresh = measure_freshness(read_source_times(project.workspace, snapshot, now), live, history, now)
    return ProjectStatus(snapshot, live, history, fresh, _pending_plan(project, history))


def _pending_plan(project: Project, history: Sequence[Cycle]) -> Plan | None:
    """The plan of the last cycle where it holds something back that no person has answered yet."""
    decided = last_decided_cycle(history)
    if decided is None:
        return None
    with suppress(UserError):
        plan = read_plan(project, decided.plan)
        return plan if plan.needs_approval and not is_answered(project.workspace, plan) else None
    return None
