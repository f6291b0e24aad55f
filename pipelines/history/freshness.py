"""Freshness of the live release: its lag behind the data, and the age of the data itself.

An old index is one alarm, a source that brings nothing new another. The clock and the times of files and cycles come
from outside, and any of them may be wrong: what lies in the future is ignored.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ragtide.pipelines.history.history import (
    SUBSTANTIVE_SENTENCES,
    failed_since_decided,
    last_decided_cycle,
    rolled_back_releases,
)
from ragtide.pipelines.params import FreshnessParams
from ragtide.pipelines.records.data import Snapshot
from ragtide.pipelines.records.release import Cycle, Outcome, Release
from ragtide.pipelines.workspace import Workspace

# A change that no cycle has seen yet waits for the next one, which is scheduled for the night.
UNSEEN_HOURS = 24.0


@dataclass(frozen=True)
class SourceTimes:
    """The data folders: their snapshot, when each file arrived (unix seconds), and when one was last written.

    `arrived` has folders too, under their names with a slash: a deletion moves a folder's time.
    """

    snapshot: Snapshot
    arrived: Mapping[str, float]
    written: float | None


@dataclass(frozen=True)
class Freshness:
    """Whether the live release is behind the data at `now`, and since when.

    `stale_since` is when the first change arrived that is neither live nor decided about; None where there is none.
    `why` says what it waits for, or why nothing does; `is_seen` says that a cycle has decided about the data as it is.
    `source_changed` is None where no file has a usable time.
    """

    now: datetime
    stale_since: datetime | None
    source_changed: datetime | None
    why: str
    is_seen: bool = True

    @property
    def lag_seconds(self) -> float:
        return (self.now - self.stale_since).total_seconds() if self.stale_since else 0.0

    @property
    def source_age_seconds(self) -> float | None:
        return (self.now - self.source_changed).total_seconds() if self.source_changed else None

    def alarms(self, params: FreshnessParams) -> list[str]:
        """What is past its limit, a sentence each; empty where nothing is."""
        alarms: list[str] = []
        hours = params.max_lag_hours
        if hours is not None and self.lag_seconds > 3600 * (hours if self.is_seen else max(hours, UNSEEN_HOURS)):
            limit = f"freshness.max_lag_hours is {hours:g}"
            alarms.append(f"the index is {format_duration(self.lag_seconds)} behind the data, and {limit}; {self.why}")
        age = self.source_age_seconds
        if params.max_source_days is not None and age is not None and age > params.max_source_days * 86400:
            limit = f"freshness.max_source_days is {params.max_source_days:g}"
            alarms.append(f"no data has changed for {format_duration(age)}, and {limit}")
        return alarms


def read_source_times(workspace: Workspace, snapshot: Snapshot, now: datetime) -> SourceTimes:
    """The times of the files of a snapshot that was taken at `now`."""
    arrived: dict[str, float] = {}
    written: list[float] = []
    for name, path in _files(workspace, snapshot):
        with suppress(OSError):
            stat = path.stat()
            # The inode's time: `cp -p`, `mv` and an archive keep old modification times.
            arrived[name] = stat.st_ctime
            written.append(stat.st_mtime)
            parent = f"{name.rpartition('/')[0]}/"
            arrived.setdefault(parent, path.parent.stat().st_ctime)
    return SourceTimes(
        snapshot, arrived, max((seconds for seconds in written if seconds <= now.timestamp()), default=None)
    )


def measure_freshness(source: SourceTimes, live: Release | None, history: Sequence[Cycle], now: datetime) -> Freshness:
    """Freshness of the live release at `now` (UTC); `history` is oldest first.

    Data counts as fresh once a cycle decided NOTHING for it, where the documents say nothing new. Data whose candidate
    was rejected, whose release was rolled back, whose action is held, or about which no cycle has come to its end, is
    stale; so is what is new and was left for a later cycle (invariant facts-are-due).
    """
    changed = _to_datetime(source.written, now)
    decided = last_decided_cycle(history)
    obstacle = _obstacle(source.snapshot, live, decided, history)
    if obstacle is None:
        why = f"{decided.name} decided {decided.decision} for this data" if decided else "no cycle has decided yet"
        return Freshness(now, None, changed, why)
    is_seen = decided is not None and decided.snapshot == source.snapshot.id
    return Freshness(now, _stale_since(source, live, history, now), changed, obstacle, is_seen)


def format_duration(seconds: float) -> str:
    """Seconds in minutes, hours or days, whichever reads best."""
    minutes = int(seconds // 60)
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h" if minutes < 48 * 60 else f"{minutes // 1440} days"


def _obstacle(snapshot: Snapshot, live: Release | None, decided: Cycle | None, history: Sequence[Cycle]) -> str | None:
    """Why the data is not live; None where it is, or needs not be."""
    failed = failed_since_decided(history)
    last = f"; {failed[-1].name} {failed[-1].outcome}" if failed else ""
    if live is None or decided is None:
        return f"no release is live yet{last}"
    if decided.snapshot != snapshot.id:
        return f"no cycle since {decided.name} has decided about the data{last}"
    if decided.outcome in (Outcome.NOTHING, Outcome.RELEASED) and _leaves_facts(decided):
        sentences = f"{decided.signals[SUBSTANTIVE_SENTENCES]:.0f} new or removed sentences"
        return f"{decided.name} decided {decided.decision}, and {sentences} are not live{last}"
    if decided.run not in _decided_runs(history):
        return f"{decided.name} decided {decided.decision} for this data: {decided.outcome}{last}"
    if decided.release and live.index.waiting:
        return f"release {live.id} lacks {live.index.waiting} documents, which wait for an approval or are tried again"
    return None


def _decided_runs(history: Sequence[Cycle]) -> set[str]:
    """The runs of cycles whose data needs nothing more: their release is in effect, or NOTHING was decided for it."""
    undone = rolled_back_releases(history)
    failed = {
        (cycle.snapshot, cycle.params)
        for cycle in history
        if cycle.outcome is Outcome.REJECTED or undone.keys() & _settling_releases(cycle)
    }
    return {
        cycle.run
        for cycle in history
        if cycle.action and _is_settled(cycle, undone, failed) and not _leaves_facts(cycle)
    }


def _is_settled(cycle: Cycle, undone: Mapping[str, str], failed: Collection[tuple[str, str]]) -> bool:
    """Whether a cycle's release is in effect, or it decided NOTHING for data of which nothing was rejected."""
    if cycle.outcome is Outcome.RELEASED:
        return not undone.keys() & _settling_releases(cycle)
    return cycle.outcome is Outcome.NOTHING and (cycle.snapshot, cycle.params) not in failed


def _settling_releases(cycle: Cycle) -> set[str]:
    """The releases that make a cycle's data current: those of its index, or of its model where it made no index."""
    index = {part.release for part in cycle.decided_parts if part.action.refreshes and part.release}
    return index or ({cycle.release} if cycle.release else set())


def _leaves_facts(cycle: Cycle) -> bool:
    """Whether the documents said something new when a cycle decided, and the cycle left the index as it was."""
    return not cycle.made_index_current and cycle.signals.get(SUBSTANTIVE_SENTENCES, 0.0) > 0


def _stale_since(source: SourceTimes, live: Release | None, history: Sequence[Cycle], now: datetime) -> datetime:
    """When the first waiting change arrived: after the last settled cycle, and before the first that is not settled."""
    cycles = [cycle for cycle in history if not cycle.is_rollback and _at(cycle) <= now]
    settled = _decided_runs(history) - _released_without(live, cycles)
    after = max((number + 1 for number, cycle in enumerate(cycles) if cycle.run in settled), default=0)
    lower = _at(cycles[after - 1]) if after else datetime.fromtimestamp(0, UTC)
    upper = min([now, *(_at(cycle) for cycle in cycles[after:])])
    arrivals = (datetime.fromtimestamp(seconds, UTC) for seconds in _arrivals(source, live) if seconds > 0)
    return min([arrival for arrival in arrivals if lower < arrival <= upper] or [upper])


def _released_without(live: Release | None, cycles: Sequence[Cycle]) -> set[str]:
    """The run of the live release where documents wait for an approval: what they say has waited since then.

    Those that cannot be read and are tried again are not meant.
    """
    if live is None or live.index.waiting <= live.index.quarantined:
        return set()
    return {cycle.run for cycle in cycles if cycle.release == live.id}


def _arrivals(source: SourceTimes, live: Release | None) -> Iterator[float]:
    """When each difference from the live release arrived: a file at its own time, a deleted one at its folder's."""
    before = _digests(live.snapshot) if live else {}
    after = _digests(source.snapshot)
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            path = name if name in after else f"{name.rpartition('/')[0]}/"
            if path in source.arrived:
                yield source.arrived[path]


def _digests(snapshot: Snapshot) -> dict[str, str]:
    folders = {"kb": snapshot.documents, "train": snapshot.examples, "golden": snapshot.questions}
    return {f"{folder}/{name}": digest for folder, files in folders.items() for name, digest in files.items()}


def _files(workspace: Workspace, snapshot: Snapshot) -> Iterator[tuple[str, Path]]:
    folders = workspace.data_folders
    for name in _digests(snapshot):
        folder, _, rest = name.partition("/")
        yield name, folders[folder] / rest


def _at(cycle: Cycle) -> datetime:
    return datetime.fromisoformat(cycle.at)


def _to_datetime(seconds: float | None, now: datetime) -> datetime | None:
    return None if seconds is None else min(datetime.fromtimestamp(seconds, UTC), now)
