"""How far is what is live behind the data? An old index is one alarm, a source that brings nothing new another.

The clock, the times of files and the turns come from outside, and any of them may be wrong: what lies in the future
counts for nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ragtide.pipelines.history.history import (
    NOT_ENDED,
    REFUSED,
    ROLLBACK,
    failed_since_decided,
    last_decided_cycle,
    rolled_back_releases,
)
from ragtide.pipelines.params import FreshnessParams
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.data import Snapshot
from ragtide.pipelines.records.release import Cycle, Release
from ragtide.pipelines.workspace import Workspace


@dataclass(frozen=True)
class SourceTimes:
    """The data folders: what is in them, when each file came there (unix seconds), and when one was last written.

    `arrived` knows folders too, under their names with a slash: what was taken out of one moves its time.
    """

    snapshot: Snapshot
    arrived: Mapping[str, float]
    written: float | None


@dataclass(frozen=True)
class Freshness:
    """`stale_since`: when the first change came that is neither live nor decided about; None where there is none.

    `why` says what it waits for, or why nothing does. `source_changed` is None where no file has a time that can be.
    """

    now: datetime
    stale_since: datetime | None
    source_changed: datetime | None
    why: str

    @property
    def lag_seconds(self) -> float:
        return (self.now - self.stale_since).total_seconds() if self.stale_since else 0.0

    @property
    def source_age_seconds(self) -> float | None:
        return (self.now - self.source_changed).total_seconds() if self.source_changed else None

    def alarms(self, params: FreshnessParams) -> list[str]:
        """What is past its limit, in words; empty where all is well."""
        found: list[str] = []
        if params.max_lag_hours is not None and self.lag_seconds > params.max_lag_hours * 3600:
            limit = f"freshness.max_lag_hours is {params.max_lag_hours:g}"
            found.append(
                f"the index is old: {format_duration(self.lag_seconds)} behind the data, and {limit}; {self.why}"
            )
        age = self.source_age_seconds
        if params.max_source_days is not None and age is not None and age > params.max_source_days * 86400:
            limit = f"freshness.max_source_days is {params.max_source_days:g}"
            found.append(f"the source is old: nothing new for {format_duration(age)}, and {limit}")
        return found


def read_source_times(workspace: Workspace, snapshot: Snapshot, now: datetime) -> SourceTimes:
    """The times of the files of a snapshot that was taken at `now`."""
    arrived: dict[str, float] = {}
    written: list[float] = []
    for name, path in _files(workspace, snapshot):
        with suppress(OSError):
            found = path.stat()
            # The inode's time: `cp -p`, `mv` and an archive bring old times of writing along.
            arrived[name] = found.st_ctime
            written.append(found.st_mtime)
            parent = f"{name.rpartition('/')[0]}/"
            arrived.setdefault(parent, path.parent.stat().st_ctime)
    return SourceTimes(snapshot, arrived, max((one for one in written if one <= now.timestamp()), default=None))


def measure_freshness(source: SourceTimes, live: Release | None, history: Sequence[Cycle], now: datetime) -> Freshness:
    """How what is live stands to the data at `now` (UTC); `history` is oldest first.

    A state that a turn looked at and let be is not stale: nothing in it was worth a change. One that was refused,
    taken back, held, or that no turn has come to an end about, is.
    """
    changed = _moment(source.written, now)
    judged = last_decided_cycle(history)
    waits = _waits(source.snapshot, live, judged, history)
    if waits is None:
        why = f"{judged.name} judged this very data: {judged.decision}" if judged else "nothing was ever judged"
        return Freshness(now, None, changed, why)
    return Freshness(now, _since(source, live, history, now), changed, waits)


def format_duration(seconds: float) -> str:
    """A span of time as people say it."""
    minutes = int(seconds // 60)
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h" if minutes < 48 * 60 else f"{minutes // 1440} days"


def _waits(snapshot: Snapshot, live: Release | None, judged: Cycle | None, history: Sequence[Cycle]) -> str | None:
    """What stands between the data and what is live; None where nothing does."""
    died = failed_since_decided(history)
    last = f"; {died[-1].name}: {died[-1].outcome}" if died else ""
    if live is None or judged is None:
        return f"nothing is live yet{last}"
    if judged.snapshot != snapshot.id:
        return f"no turn since {judged.name} has judged the data{last}"
    if judged.run not in _settled(history):
        return f"{judged.name}: {judged.outcome}{last}"
    if judged.release and live.index.waiting:
        return f"release {live.id} went ahead without {live.index.waiting} documents, which wait or are tried again"
    return None


def _settled(history: Sequence[Cycle]) -> set[str]:
    """The turns (by their run) that have done with their data: by a release that stands, or by letting well alone."""
    undone = rolled_back_releases(history)
    failed = {(one.snapshot, one.params) for one in history if one.outcome.startswith(REFUSED) or one.release in undone}
    return {
        one.run
        for one in history
        if one.decision in set(Action)
        and (one.release not in undone if one.release else one.decision == Action.NOTHING)
        and (one.release or (one.snapshot, one.params) not in failed)
        and not one.outcome.startswith(NOT_ENDED)
    }


def _since(source: SourceTimes, live: Release | None, history: Sequence[Cycle], now: datetime) -> datetime:
    """When the first change came that waits: after the last turn that had done, and before the first that had not."""
    turns, settled = [one for one in history if one.decision != ROLLBACK and _at(one) <= now], _settled(history)
    after = max((number + 1 for number, one in enumerate(turns) if one.run in settled), default=0)
    lower = _at(turns[after - 1]) if after else datetime.fromtimestamp(0, UTC)
    upper = min([now, *(_at(one) for one in turns[after:])])
    times = (datetime.fromtimestamp(one, UTC) for one in _arrivals(source, live) if one > 0)
    return min([one for one in times if lower < one <= upper] or [upper])


def _arrivals(source: SourceTimes, live: Release | None) -> Iterator[float]:
    """When what differs from the live release came: a file by its own time, one that is gone by its folder's."""
    before = _digests(live.snapshot) if live else {}
    after = _digests(source.snapshot)
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            where = name if name in after else f"{name.rpartition('/')[0]}/"
            if where in source.arrived:
                yield source.arrived[where]


def _digests(snapshot: Snapshot) -> dict[str, str]:
    folders = {"kb": snapshot.documents, "train": snapshot.examples, "golden": snapshot.questions}
    return {f"{folder}/{name}": digest for folder, files in folders.items() for name, digest in files.items()}


def _files(workspace: Workspace, snapshot: Snapshot) -> Iterator[tuple[str, Path]]:
    folders = {"kb": workspace.kb, "train": workspace.train, "golden": workspace.golden}
    for name in _digests(snapshot):
        folder, _, rest = name.partition("/")
        yield name, folders[folder] / rest


def _at(cycle: Cycle) -> datetime:
    return datetime.fromisoformat(cycle.at)


def _moment(seconds: float | None, now: datetime) -> datetime | None:
    return None if seconds is None else min(datetime.fromtimestamp(seconds, UTC), now)
