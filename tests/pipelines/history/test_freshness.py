"""Tests of freshness: lag, source age, alarms and clocks that jump."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ragtide.pipelines.data.snapshot import take_snapshot
from ragtide.pipelines.history.freshness import (
    Freshness,
    SourceTimes,
    format_duration,
    measure_freshness,
    read_source_times,
)
from ragtide.pipelines.params import FreshnessParams
from ragtide.pipelines.records.data import Snapshot
from ragtide.pipelines.records.release import Cycle, Release
from tests.factories import release, snapshot, workspace, write

NOW = datetime(2030, 1, 11, 12, tzinfo=UTC)
OLD, NEW = snapshot({"a.md": "1" * 32, "b.md": "2" * 32}), snapshot({"a.md": "3" * 32, "b.md": "2" * 32})
LIVE = release(1, snapshot=OLD)
LIMITS = FreshnessParams(max_lag_hours=24, max_source_days=7)


def ago(**span: float) -> datetime:
    return NOW - timedelta(**span)


def cycle(at: datetime, decision: str | None, outcome: str, data: Snapshot = OLD, **fields: object) -> Cycle:
    name = f"cycle {at.isoformat()}"
    usual = {"name": name, "run": name, "at": at.isoformat(timespec="seconds"), "reason": "", "snapshot": data.id}
    return Cycle(**(usual | {"action": decision, "outcome": outcome} | fields))  # type: ignore[arg-type]


FIRST = cycle(ago(days=9), "REFRESH", "released", release="1")


def measure(*cycles: Cycle, data: Snapshot = NEW, live: Release | None = LIVE, **arrived: datetime) -> Freshness:
    """Freshness at NOW, where the files arrived at those times."""
    times = {f"kb/{name}.md": at.timestamp() for name, at in arrived.items()}
    return measure_freshness(SourceTimes(data, times, max(times.values(), default=None)), live, cycles, NOW)


def test_live_data_is_fresh_however_old_the_source_is() -> None:
    freshness = measure(FIRST, data=OLD, a=ago(days=20), b=ago(days=10))
    assert (freshness.stale_since, freshness.lag_seconds) == (None, 0)
    assert freshness.source_changed == ago(days=10)
    [alarm] = freshness.alarms(LIMITS)
    assert alarm.startswith("no data has changed for 10 days")


def test_a_change_without_a_decision_is_stale_since_its_arrival() -> None:
    freshness = measure(FIRST, a=ago(hours=30), b=ago(days=20))
    assert freshness.stale_since == ago(hours=30)
    [alarm] = freshness.alarms(LIMITS)
    assert alarm.startswith("the index is 30 h behind the data, and freshness.max_lag_hours is 24")


def test_a_lag_within_the_limit_raises_no_alarm() -> None:
    assert measure(FIRST, a=ago(hours=23)).alarms(LIMITS) == []
    assert measure(FIRST, a=ago(days=8)).alarms(FreshnessParams(max_lag_hours=None, max_source_days=None)) == []


@pytest.mark.parametrize("outcome", ["failed", "killed", "running"])
def test_a_cycle_that_did_not_finish_leaves_its_data_stale(outcome: str) -> None:
    freshness = measure(FIRST, cycle(ago(hours=2), None, outcome, NEW), a=ago(hours=30))
    assert freshness.stale_since == ago(hours=30)
    assert outcome in freshness.why


def test_data_is_fresh_once_a_cycle_decided_nothing_for_it() -> None:
    freshness = measure(FIRST, cycle(ago(hours=28), "NOTHING", "nothing", NEW), a=ago(hours=30))
    assert freshness.stale_since is None


def test_facts_that_a_decision_left_for_later_are_stale_since_their_arrival() -> None:
    left = cycle(ago(hours=28), "NOTHING", "nothing", NEW, signals={"substantive_sentences": 1.0})
    freshness = measure(FIRST, left, a=ago(hours=30))
    assert freshness.stale_since == ago(hours=30)
    retrained = cycle(ago(hours=20), "RETRAIN", "released", NEW, release="2", signals={"substantive_sentences": 1.0})
    assert measure(FIRST, left, retrained, a=ago(hours=30)).stale_since == ago(hours=30)
    refreshed = cycle(ago(hours=10), "REFRESH", "released", NEW, release="3", signals={"substantive_sentences": 1.0})
    assert measure(FIRST, left, retrained, refreshed, a=ago(hours=30)).stale_since is None


def test_a_limit_of_0_waits_for_the_first_cycle_that_sees_the_change() -> None:
    at_once, left = FreshnessParams(max_lag_hours=0), {"substantive_sentences": 1.0}
    assert measure(FIRST, a=ago(hours=1)).alarms(at_once) == []
    assert len(measure(FIRST, a=ago(hours=25)).alarms(at_once)) == 1
    seen = cycle(ago(hours=0.5), "NOTHING", "nothing", NEW, signals=left)
    assert len(measure(FIRST, seen, a=ago(hours=1)).alarms(at_once)) == 1
    assert measure(FIRST, seen, a=ago(hours=1)).alarms(LIMITS) == []


def test_a_change_after_the_last_decision_is_stale_since_its_arrival() -> None:
    newest = snapshot({"a.md": "3" * 32, "b.md": "4" * 32})
    decided = cycle(ago(hours=28), "NOTHING", "nothing", NEW)
    assert measure(FIRST, decided, data=newest, a=ago(hours=30), b=ago(hours=5)).stale_since == ago(hours=5)


@pytest.mark.parametrize(("decision", "outcome"), [("HOLD", "held"), ("REFRESH", "rejected")])
def test_pending_or_rejected_data_is_stale_since_its_arrival(decision: str | None, outcome: str) -> None:
    freshness = measure(FIRST, cycle(ago(hours=28), decision, outcome, NEW), a=ago(hours=30))
    assert freshness.stale_since == ago(hours=30)
    assert outcome in freshness.why


def test_rejected_data_stays_stale_after_a_later_decision_of_nothing() -> None:
    rejected = cycle(ago(hours=28), "REFRESH", "rejected", NEW)
    again = cycle(ago(hours=4), "NOTHING", "nothing", NEW)
    assert measure(FIRST, rejected, again, a=ago(hours=30)).stale_since == ago(hours=30)


def test_data_of_a_release_that_was_rolled_back_is_stale() -> None:
    second = cycle(ago(hours=28), "REFRESH", "released", NEW, release="2")
    rollback = cycle(ago(hours=20), None, "rolled_back", Snapshot(**dict(OLD)), release="1", undone="2")
    freshness = measure(FIRST, second, rollback, a=ago(hours=30))
    assert freshness.stale_since == ago(hours=30)


def test_a_release_with_waiting_documents_is_stale() -> None:
    live = release(1, snapshot=OLD)
    live = live.model_copy(update={"index": live.index.model_copy(update={"waiting": 2})})
    freshness = measure(cycle(ago(hours=30), "REFRESH", "released", release="1"), data=OLD, live=live)
    assert freshness.stale_since == ago(hours=30)
    assert "2 documents" in freshness.why
    assert len(freshness.alarms(LIMITS)) == 1
    unread = live.model_copy(update={"index": live.index.model_copy(update={"quarantined": 2})})
    assert measure(cycle(ago(hours=30), "REFRESH", "released", release="1"), data=OLD, live=unread).lag_seconds == 0


def test_before_the_first_release_all_data_is_stale_since_its_arrival() -> None:
    assert measure(live=None, a=ago(hours=3), b=ago(hours=2)).stale_since == ago(hours=3)


def test_a_deletion_is_dated_by_the_change_of_its_folder() -> None:
    remaining = snapshot({"b.md": "2" * 32})
    source = SourceTimes(remaining, {"kb/": ago(hours=3).timestamp(), "kb/b.md": ago(days=20).timestamp()}, None)
    assert measure_freshness(source, LIVE, [FIRST], NOW).stale_since == ago(hours=3)


def test_times_in_the_future_are_ignored() -> None:
    freshness = measure(FIRST, a=NOW + timedelta(days=400))
    assert (freshness.lag_seconds, freshness.source_age_seconds) == (0, 0)
    decided = cycle(ago(hours=-50), "NOTHING", "nothing", OLD)
    assert measure(FIRST, decided, a=ago(hours=30)).stale_since == ago(hours=30)


def test_arrival_and_modification_times_of_files_are_read(tmp_path: Path) -> None:
    space = workspace(tmp_path)
    page = write(space.kb / "deep/a.md", "# A")
    os.utime(page, (1000, 1000))
    write(space.golden / "q.jsonl", '{"question": None, "answers": ["A"]}\n')
    os.utime(space.golden / "q.jsonl", (4e9, 4e9))
    now = datetime.now(UTC) + timedelta(seconds=5)
    times = read_source_times(space, take_snapshot(space), now)
    assert times.written == 1000
    assert times.arrived.keys() == {"kb/deep/a.md", "kb/deep/", "golden/q.jsonl", "golden/"}
    assert abs(times.arrived["kb/deep/a.md"] - now.timestamp()) < 600


@pytest.mark.parametrize(("seconds", "words"), [(59, "0 min"), (3600, "60 min"), (7200, "2 h"), (172800, "2 days")])
def test_a_duration_is_written_in_one_unit(seconds: float, words: str) -> None:
    assert format_duration(seconds) == words
