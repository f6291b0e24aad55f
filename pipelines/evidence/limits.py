"""Limits of a decision: forecast costs, past decisions, spent compute, and what was approved or rejected before."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime

from ragtide.pipelines.errors import UserError
from ragtide.pipelines.history.approvals import (
    approved_actions,
    read_approvals,
    read_rejections,
    rejected_actions,
)
from ragtide.pipelines.history.costs import forecast_costs
from ragtide.pipelines.history.history import (
    hours_since_retrain,
    past_decisions,
    rejected_before,
    rejects_training,
    retrained_snapshots,
    spent_hours,
)
from ragtide.pipelines.records.data import Snapshot
from ragtide.pipelines.records.evidence import Limits, Workload
from ragtide.pipelines.records.release import Cycle
from ragtide.pipelines.workspace import Workspace


def read_limits(
    workspace: Workspace, history: Sequence[Cycle], workload: Workload, snapshot: Snapshot, now: datetime
) -> Limits:
    """The limits of a decision about a snapshot, from the recorded cycles (oldest first) and people's answers."""
    params = workspace.params.digest()
    rejected = rejected_before(history, snapshot.id, params, _same_training(workspace, history, snapshot))
    return Limits(
        costs=forecast_costs(workload, history, workspace.params.costs),
        workload=workload,
        past=past_decisions(history),
        spent_hours=spent_hours(history, now),
        hours_since_retrain=hours_since_retrain(history, now),
        rejected_actions=rejected | rejected_actions(read_rejections(workspace), snapshot.id, params),
        approved_actions=approved_actions(read_approvals(workspace), snapshot.id),
    )


def _same_training(workspace: Workspace, history: Sequence[Cycle], snapshot: Snapshot) -> set[str]:
    """The snapshots that were trained on with the examples and golden questions of this one; a lost one is none.

    They matter only where a training was rejected; otherwise no snapshot is read.
    """
    same: set[str] = set()
    if not rejects_training(history, workspace.params.digest()):
        return same
    for earlier in retrained_snapshots(history) - {snapshot.id, ""}:
        with suppress(UserError):
            stored = Snapshot.read(workspace.snapshot_file(earlier))
            if (stored.train_id, stored.golden_id) == (snapshot.train_id, snapshot.golden_id):
                same.add(earlier)
    return same
