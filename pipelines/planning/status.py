"""How does a project stand? What is live, how far it is behind the data, what came last, and what waits for a person.

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
    """`history` is oldest first; `asked` is the plan that waits for a yes or a no."""

    snapshot: Snapshot
    live: Release | None
    history: Sequence[Cycle]
    freshness: Freshness
    asked: Plan | None


def project_status(project: Project, now: datetime) -> ProjectStatus:
    """How a project stands at `now` (UTC)."""
    live, history, snapshot = project.registry.champion(), project.registry.history(), take_snapshot(project.workspace)
    fresh = measure_freshness(read_source_times(project.workspace, snapshot, now), live, history, now)
    return ProjectStatus(snapshot, live, history, fresh, _asked(project, history))


def _asked(project: Project, history: Sequence[Cycle]) -> Plan | None:
    """What the last turn held back, unless a person has answered since."""
    judged = last_decided_cycle(history)
    if judged is None:
        return None
    with suppress(UserError):
        plan = read_plan(project, judged.plan)
        return plan if plan.needs_approval and not is_answered(project.workspace, plan) else None
    return None
