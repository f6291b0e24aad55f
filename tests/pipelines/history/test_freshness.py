"""Is an old index told from an old source, and does a clock that jumps raise no alarm?"""

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


def turn(at: datetime, decision: str | None, outcome: str, data: Snapshot = OLD, **fields: object) -> Cycle:
    name = f"cycle {at.isoformat()}"
    usual = {"name": name, "run": name, "at": at.isoformat(timespec="seconds"), "reason": "", "snapshot": data.id}
    return Cycle(**(usual | {"action": decision, "outcome": outcome} | fields))  # type: ignore[arg-type]


FIRST = turn(ago(days=9), "REFRESH", "released", release="1")


def seen(*turns: Cycle, data: Snapshot = NEW, live: Release | None = LIVE, **arrived: datetime) -> Freshness:
    """How it stands where the files came at those times."""
    times = {f"kb/{name}.md": at.timestamp() for name, at in arrived.items()}
    return measure_freshness(SourceTimes(data, times, max(times.values(), default=None)), live, turns, NOW)


def test_what_is_live_is_current_however_old_the_source_is() -> None:
    found = seen(FIRST, data=OLD, a=ago(days=20), b=ago(days=10))
    assert (found.stale_since, found.lag_seconds) == (None, 0)
    assert found.source_changed == ago(days=10)
    [alarm] = found.alarms(LIMITS)
    assert alarm.startswith("no data has changed for 10 days")


def test_a_change_that_no_turn_has_looked_at_counts_from_when_it_came() -> None:
    found = seen(FIRST, a=ago(hours=30), b=ago(days=20))
    assert found.stale_since == ago(hours=30)
    [alarm] = found.alarms(LIMITS)
    assert alarm.startswith("the index is 30 h behind the data, and freshness.max_lag_hours is 24")


def test_an_old_index_is_no_alarm_within_the_limit() -> None:
    assert seen(FIRST, a=ago(hours=23)).alarms(LIMITS) == []
    assert seen(FIRST, a=ago(days=8)).alarms(FreshnessParams(max_lag_hours=None, max_source_days=None)) == []


@pytest.mark.parametrize("outcome", ["failed", "killed", "running"])
def test_a_turn_that_came_to_no_end_settles_nothing(outcome: str) -> None:
    found = seen(FIRST, turn(ago(hours=2), None, outcome, NEW), a=ago(hours=30))
    assert found.stale_since == ago(hours=30)
    assert outcome in found.why


def test_what_was_looked_at_and_let_be_is_not_stale() -> None:
    found = seen(FIRST, turn(ago(hours=28), "NOTHING", "nothing", NEW), a=ago(hours=30))
    assert found.stale_since is None


def test_what_came_after_a_look_counts_from_when_it_came() -> None:
    newest = snapshot({"a.md": "3" * 32, "b.md": "4" * 32})
    looked = turn(ago(hours=28), "NOTHING", "nothing", NEW)
    assert seen(FIRST, looked, data=newest, a=ago(hours=30), b=ago(hours=5)).stale_since == ago(hours=5)


@pytest.mark.parametrize(("decision", "outcome"), [("HOLD", "held"), ("REFRESH", "rejected")])
def test_what_is_held_or_refused_is_stale_since_the_change_came(decision: str | None, outcome: str) -> None:
    found = seen(FIRST, turn(ago(hours=28), decision, outcome, NEW), a=ago(hours=30))
    assert found.stale_since == ago(hours=30)
    assert outcome in found.why


def test_that_nothing_is_done_about_what_was_refused_does_not_make_it_current() -> None:
    refused = turn(ago(hours=28), "REFRESH", "rejected", NEW)
    again = turn(ago(hours=4), "NOTHING", "nothing", NEW)
    assert seen(FIRST, refused, again, a=ago(hours=30)).stale_since == ago(hours=30)


def test_what_was_taken_back_is_stale() -> None:
    second = turn(ago(hours=28), "REFRESH", "released", NEW, release="2")
    back = turn(ago(hours=20), None, "rolled_back", Snapshot(**dict(OLD)), release="1", undone="2")
    found = seen(FIRST, second, back, a=ago(hours=30))
    assert found.stale_since == ago(hours=30)


def test_a_release_that_left_documents_waiting_is_behind() -> None:
    waits = release(1, snapshot=OLD)
    waits = waits.model_copy(update={"index": waits.index.model_copy(update={"waiting": 2})})
    found = seen(turn(ago(hours=30), "REFRESH", "released", release="1"), data=OLD, live=waits)
    assert found.stale_since is not None
    assert "without 2 documents" in found.why


def test_before_the_first_release_the_data_waits_since_it_came() -> None:
    assert seen(live=None, a=ago(hours=3), b=ago(hours=2)).stale_since == ago(hours=3)


def test_a_document_that_is_gone_counts_from_when_its_folder_changed() -> None:
    less = snapshot({"b.md": "2" * 32})
    source = SourceTimes(less, {"kb/": ago(hours=3).timestamp(), "kb/b.md": ago(days=20).timestamp()}, None)
    assert measure_freshness(source, LIVE, [FIRST], NOW).stale_since == ago(hours=3)


def test_times_that_lie_in_the_future_count_for_nothing() -> None:
    found = seen(FIRST, a=NOW + timedelta(days=400))
    assert (found.lag_seconds, found.source_age_seconds) == (0, 0)
    looked = turn(ago(hours=-50), "NOTHING", "nothing", OLD)
    assert seen(FIRST, looked, a=ago(hours=30)).stale_since == ago(hours=30)


def test_the_times_of_files_are_read_by_when_they_came_and_when_they_were_written(tmp_path: Path) -> None:
    space = workspace(tmp_path)
    page = write(space.kb / "deep/a.md", "# A")
    os.utime(page, (1000, 1000))
    write(space.golden / "q.jsonl", '{"question": None, "answers": ["A"]}\n')
    os.utime(space.golden / "q.jsonl", (4e9, 4e9))
    now = datetime.now(UTC) + timedelta(seconds=5)
    found = read_source_times(space, take_snapshot(space), now)
    assert found.written == 1000
    assert found.arrived.keys() == {"kb/deep/a.md", "kb/deep/", "golden/q.jsonl", "golden/"}
    assert abs(found.arrived["kb/deep/a.md"] - now.timestamp()) < 600


@pytest.mark.parametrize(("seconds", "words"), [(59, "0 min"), (3600, "60 min"), (7200, "2 h"), (172800, "2 days")])
def test_a_span_is_told_in_one_unit(seconds: float, words: str) -> None:
    assert format_duration(seconds) == words
