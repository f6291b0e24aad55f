"""Is the turn that nobody asked for noticed, and one that cannot succeed not asked for over and over?"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ragtide.pipelines.data.snapshot import take_snapshot
from ragtide.pipelines.planning.missed_runs import FIRST_WAIT, LONGEST_WAIT, check_missed_run
from ragtide.pipelines.records.release import Cycle
from ragtide.pipelines.workspace import Workspace

NOW = datetime(2030, 1, 8, 12, tzinfo=UTC)


@pytest.fixture
def workspace(make_project: Callable[..., Path]) -> Workspace:
    root = make_project()
    (root / "data" / "kb" / "a.md").write_text("# A", encoding="utf-8")
    return Workspace.open(root)


def turn(workspace: Workspace, number: int = 1, **fields: Any) -> Cycle:
    """A turn that judged what is there now, a day ago."""
    usual = {"name": f"cycle-{number}", "run": "r", "at": (NOW - timedelta(days=1)).isoformat(), "reason": ""}
    usual |= {"action": "NOTHING", "outcome": "nothing", "snapshot": take_snapshot(workspace).id}
    return Cycle.model_validate(usual | {"params": workspace.params.digest()} | fields)


def test_before_the_first_turn_one_is_due(workspace: Workspace) -> None:
    known = check_missed_run(workspace, [], NOW)
    assert (known.is_due, known.revision, known.why) == (True, take_snapshot(workspace).id, "no cycle has decided yet")


def test_what_was_judged_is_not_due(workspace: Workspace) -> None:
    known = check_missed_run(workspace, [turn(workspace)], NOW)
    assert (known.is_due, known.why) == (False, "cycle-1 decided NOTHING for this data (nothing)")


@pytest.mark.parametrize(
    ("moved", "what"),
    [({"snapshot": "another.dir"}, "the data"), ({"params": "another"}, "params.yaml")],
)
def test_data_or_settings_that_moved_since_are_due(workspace: Workspace, moved: dict[str, str], what: str) -> None:
    known = check_missed_run(workspace, [turn(workspace, **moved)], NOW)
    assert (known.is_due, known.why) == (True, f"{what} changed since cycle-1")


def test_a_turn_that_waits_for_an_approval_has_judged(workspace: Workspace) -> None:
    waits = turn(workspace, action="HOLD", outcome="held")
    assert not check_missed_run(workspace, [waits], NOW).is_due


@pytest.mark.parametrize("outcome", ["running", "failed", "killed"])
def test_a_turn_that_died_is_due_again(workspace: Workspace, outcome: str) -> None:
    known = check_missed_run(workspace, [turn(workspace), turn(workspace, 2, outcome=outcome)], NOW)
    assert (known.is_due, known.why) == (True, f"cycle-2 came to no end ({outcome})")


def test_a_rollback_is_no_turn_that_judged(workspace: Workspace) -> None:
    known = check_missed_run(workspace, [turn(workspace), turn(workspace, 2, action="ROLLBACK", snapshot="")], NOW)
    assert not known.is_due


@pytest.mark.parametrize(("deaths", "wait"), [(1, FIRST_WAIT), (2, 2 * FIRST_WAIT), (30, LONGEST_WAIT)])
def test_after_each_death_on_the_same_data_it_waits_longer(workspace: Workspace, deaths: int, wait: timedelta) -> None:
    died = [turn(workspace, number, outcome="killed", at=NOW.isoformat()) for number in range(deaths)]
    assert not check_missed_run(workspace, died, NOW + wait - timedelta(seconds=1)).is_due
    assert check_missed_run(workspace, died, NOW + wait).is_due


def test_new_data_does_not_wait_for_the_deaths_on_older_data(workspace: Workspace) -> None:
    died = turn(workspace, 2, outcome="killed", at=NOW.isoformat(), snapshot="older.dir")
    known = check_missed_run(workspace, [turn(workspace, snapshot="older.dir"), died], NOW)
    assert (known.is_due, known.why) == (True, "the data changed since cycle-1")
