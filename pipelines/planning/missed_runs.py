"""Is a turn due that nobody has asked for? The data and settings of now, held against those last judged.

A trigger can be lost: a watcher that was down, a server that was away, an event that a busy SQLite dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from ragtide.pipelines.data.snapshot import take_snapshot
from ragtide.pipelines.history.history import failed_since_decided, last_decided_cycle
from ragtide.pipelines.records.release import Cycle
from ragtide.pipelines.workspace import Workspace

# After a turn that died on this very data; twice as long after each further one, so that what cannot succeed does not
# fill the history.
FIRST_WAIT = timedelta(minutes=10)
LONGEST_WAIT = timedelta(hours=6)


@dataclass(frozen=True)
class MissedRunCheck:
    """The snapshot that is in the folders now, whether a turn should look at it, and why or why not."""

    revision: str
    is_due: bool
    why: str


def check_missed_run(workspace: Workspace, history: Sequence[Cycle], now: datetime) -> MissedRunCheck:
    """Whether `history` (oldest first) lacks a turn for what is in the folders at `now` (UTC)."""
    revision, params = take_snapshot(workspace).id, workspace.params.digest()
    died = [cycle for cycle in failed_since_decided(history) if cycle.snapshot in ("", revision)]
    if died and now < (until := _wait_until(died)):
        return MissedRunCheck(revision, False, f"{_told(died)}: it is tried again from {until:%Y-%m-%d %H:%M} UTC on")
    if died:
        return MissedRunCheck(revision, True, _told(died))
    judged = last_decided_cycle(history)
    if judged is None:
        return MissedRunCheck(revision, True, "nothing was ever judged")
    moved = {"the data": judged.snapshot != revision, "params.yaml": judged.params != params}
    if any(moved.values()):
        what = " and ".join(name for name, has_moved in moved.items() if has_moved)
        return MissedRunCheck(revision, True, f"{what} changed since {judged.name}")
    return MissedRunCheck(revision, False, f"{judged.name} judged this very data: {judged.decision}, {judged.outcome}")


def _wait_until(died: Sequence[Cycle]) -> datetime:
    doubled: int = 2 ** min(len(died) - 1, 10)
    return datetime.fromisoformat(died[-1].at) + min(FIRST_WAIT * doubled, LONGEST_WAIT)


def _told(died: Sequence[Cycle]) -> str:
    count = f", as did {len(died) - 1} before it" if len(died) > 1 else ""
    return f"{died[-1].name} came to no end ({died[-1].outcome}){count}"
