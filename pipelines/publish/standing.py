"""How does a project stand? What is live, how far it is behind the data, what came last, and what waits for a person.

Cheap: no model is loaded, and nothing changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from pipelines.errors import RefusalError
from pipelines.observe.freshness import Freshness, freshness, read_source
from pipelines.observe.guard import is_answered
from pipelines.observe.past import last_judged
from pipelines.observe.snapshot import observe
from pipelines.publish.plan import read_plan
from pipelines.publish.project import Project
from pipelines.records import Cycle, Plan, Release, Snapshot


@dataclass(frozen=True)
class Standing:
    """`history` is oldest first; `asked` is the plan that waits for a yes or a no."""

    snapshot: Snapshot
    live: Release | None
    history: Sequence[Cycle]
    freshness: Freshness
    asked: Plan | None


def standing(project: Project, now: datetime) -> Standing:
    """How a project stands at `now` (UTC)."""
    live, history, snapshot = project.registry.champion(), project.registry.history(), observe(project.workspace)
    fresh = freshness(read_source(project.workspace, snapshot, now), live, history, now)
    return Standing(snapshot, live, history, fresh, _asked(project, history))


def _asked(project: Project, history: Sequence[Cycle]) -> Plan | None:
    """What the last turn held back, unless a person has answered since."""
    judged = last_judged(history)
    if judged is None:
        return None
    with suppress(RefusalError):
        plan = read_plan(project, judged.plan)
        return plan if plan.asks and not is_answered(project.workspace, plan) else None
    return None
