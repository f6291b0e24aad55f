"""Tests of when new facts must be live: at once, at the last cycle in time, or never for that reason alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ragtide.pipelines.planning.due_facts import next_cycle, with_due_facts
from tests.factories import evidence, workspace, write

NOW = datetime(2030, 1, 11, 12, tzinfo=UTC)
ROOT = Path(__file__).parents[3]


def prefect_yaml(folder: Path, schedules: str) -> Path:
    text = f"deployments:\n  - entrypoint: ragtide.flows.keep_current.keep_current\n    schedules: {schedules}\n"
    return write(folder / "prefect.yaml", text)


def due(folder: Path, sentences: int | None, limit: float | None, since_hours: float) -> tuple[bool, str | None]:
    space = workspace(folder, freshness={"max_lag_hours": limit})
    data = with_due_facts(evidence().data, sentences, NOW - timedelta(hours=since_hours), space, NOW)
    return data.facts_are_due, data.facts_due_by


@pytest.mark.parametrize("sentences", [0, None])
@pytest.mark.parametrize("limit", [0, 24, None])
def test_where_nothing_new_is_said_nothing_is_due(tmp_path: Path, sentences: int | None, limit: float | None) -> None:
    assert due(tmp_path, sentences, limit, 100) == (False, None)


def test_without_a_limit_nothing_is_due(tmp_path: Path) -> None:
    assert due(tmp_path, 3, None, 1000) == (False, None)


def test_with_a_limit_of_0_all_is_due_at_once(tmp_path: Path) -> None:
    prefect_yaml(tmp_path, "[{cron: '* * * * *'}]")
    assert due(tmp_path, 1, 0, 0) == (True, None)


@pytest.mark.parametrize(
    ("schedules", "since_hours", "is_due"),
    [
        ("[{cron: '0 3 * * *'}]", 1, False),  # the next cycle is in 15 hours, the limit in 23
        ("[{cron: '0 3 * * *'}]", 10, True),  # the limit is in 14 hours
        ("[{cron: '0 3 * * *', active: false}]", 1, True),
        ("[{cron: '0 3 * * *', active: false}, {cron: '0 * * * *'}]", 22, False),
        ("[{cron: '0 3 * * *', timezone: America/New_York}]", 4, False),  # 8 o'clock UTC
        ("[{cron: '0 3 * * *', timezone: America/New_York}]", 5, True),
        ("[{interval: 3600}]", 22, False),
        ("[{interval: 86400}]", 1, True),
        ("[{cron: 'every night'}, {rrule: x}]", 1, True),
        ("null", 1, True),
    ],
)
def test_facts_wait_until_the_last_cycle_in_time(
    tmp_path: Path, schedules: str, since_hours: float, is_due: bool
) -> None:
    prefect_yaml(tmp_path, schedules)
    due_by = (NOW - timedelta(hours=since_hours) + timedelta(hours=24)).isoformat(timespec="seconds")
    assert due(tmp_path, 1, 24, since_hours) == (is_due, due_by)


def test_without_a_schedule_every_cycle_may_be_the_last(tmp_path: Path) -> None:
    assert due(tmp_path, 1, 24, 1)[0]
    for text in ("", "- x", "deployments: 3", "deployments: [{}]", "{"):
        assert next_cycle(write(tmp_path / "prefect.yaml", text), NOW) is None


def test_the_shipped_schedule_is_understood() -> None:
    assert next_cycle(ROOT / "prefect.yaml", NOW) == datetime(2030, 1, 12, 3, tzinfo=UTC)
