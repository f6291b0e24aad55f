"""Missed-run check: the data and settings of now, compared with those that a cycle last decided about.

A trigger can be lost: a watcher that was down, a server that did not answer, an event that a busy SQLite dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from ragtide.pipelines.data.snapshot import take_snapshot
from ragtide.pipelines.history.history import failed_since_decided, last_decided_cycle
from ragtide.pipelines.records.release import Cycle
from ragtide.pipelines.workspace import Workspace

# After a cycle that failed on this very data; doubled after each further one, so that data on which every cycle fails
# does not fill the history.
FIRST_WAIT = timedelta(minutes=10)
LONGEST_WAIT = timedelta(hours=6)


@dataclass(frozen=True)
class MissedRunCheck:
    """The snapshot that is in the folders now, whether a cycle is due for it, and why or why not."""

    revision: str
    is_due: bool
    why: str


def check_missed_run(workspace: Workspace, history: Sequence[Cycle], now: datetime) -> MissedRunCheck:
    """Whether `history` (oldest first) lacks a cycle for the data in the folders at `now` (UTC)."""
    revision, params = take_snapshot(workspace).id, workspace.params.digest()
    failed = [cycle for cycle in failed_since_decided(history) if cycle.snapshot in ("", revision)]
    if failed and now < (until := _retry_time(failed)):
        why = f"{_describe_failures(failed)}: the next try is due at {until:%Y-%m-%d %H:%M} UTC"
        return MissedRunCheck(revision, False, why)
    if failed:
        return MissedRunCheck(revision, True, _describe_failures(failed))
    decided = last_decided_cycle(history)
    if decided is None:
        return MissedRunCheck(revision, True, "no cycle has decided yet")
    changed = {"the data": decided.snapshot != revision, "params.yaml": decided.params != params}
    if any(changed.values()):
        what = " and ".join(name for name, has_changed in changed.items() if has_changed)
        return MissedRunCheck(revision, True, f"{what} changed since {decided.name}")
    why = f"{decided.name} decided {decided.decision} for this data ({decided.outcome})"
    return MissedRunCheck(revision, False, why)


def _retry_time(failed: Sequence[Cycle]) -> datetime:
    doubled: int = 2 ** min(len(failed) - 1, 10)
    return datetime.fromisoformat(failed[-1].at) + min(FIRST_WAIT * doubled, LONGEST_WAIT)


def _describe_failures(failed: Sequence[Cycle]) -> str:
    last = failed[-1]
    outcome = f"{last.outcome}: {last.detail}" if last.detail else str(last.outcome)
    earlier = f", and so did {len(failed) - 1} before it" if len(failed) > 1 else ""
    return f"{last.name} did not finish ({outcome}){earlier}"
