"""Tests of the missed-run check and its growing waits."""

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


def cycle(workspace: Workspace, number: int = 1, **fields: Any) -> Cycle:
    """A cycle that decided NOTHING for the current data a day ago."""
    usual = {"name": f"cycle-{number}", "run": "r", "at": (NOW - timedelta(days=1)).isoformat(), "reason": ""}
    usual |= {"action": "NOTHING", "outcome": "nothing", "snapshot": take_snapshot(workspace).id}
    return Cycle.model_validate(usual | {"params": workspace.params.digest()} | fields)


def test_before_the_first_cycle_a_run_is_due(workspace: Workspace) -> None:
    check = check_missed_run(workspace, [], NOW)
    assert (check.is_due, check.revision, check.why) == (True, take_snapshot(workspace).id, "no cycle has decided yet")


def test_after_a_decision_about_the_current_data_no_run_is_due(workspace: Workspace) -> None:
    check = check_missed_run(workspace, [cycle(workspace)], NOW)
    assert (check.is_due, check.why) == (False, "cycle-1 decided NOTHING for this data (nothing)")


@pytest.mark.parametrize(
    ("change", "what"),
    [({"snapshot": "another.dir"}, "the data"), ({"params": "another"}, "params.yaml")],
)
def test_a_run_is_due_after_data_or_settings_changed(workspace: Workspace, change: dict[str, str], what: str) -> None:
    check = check_missed_run(workspace, [cycle(workspace, **change)], NOW)
    assert (check.is_due, check.why) == (True, f"{what} changed since cycle-1")


def test_a_cycle_that_is_pending_approval_has_decided(workspace: Workspace) -> None:
    pending = cycle(workspace, action="HOLD", outcome="held")
    assert not check_missed_run(workspace, [pending], NOW).is_due


@pytest.mark.parametrize("outcome", ["running", "failed", "killed"])
def test_a_run_is_due_again_after_a_cycle_that_did_not_finish(workspace: Workspace, outcome: str) -> None:
    check = check_missed_run(workspace, [cycle(workspace), cycle(workspace, 2, outcome=outcome)], NOW)
    assert (check.is_due, check.why) == (True, f"cycle-2 did not finish ({outcome})")


def test_a_rollback_makes_no_run_due(workspace: Workspace) -> None:
    check = check_missed_run(
        workspace, [cycle(workspace), cycle(workspace, 2, action=None, undone="2", snapshot="")], NOW
    )
    assert not check.is_due


@pytest.mark.parametrize(("deaths", "wait"), [(1, FIRST_WAIT), (2, 2 * FIRST_WAIT), (30, LONGEST_WAIT)])
def test_each_unfinished_cycle_on_the_same_data_lengthens_the_wait(
    workspace: Workspace, deaths: int, wait: timedelta
) -> None:
    unfinished = [cycle(workspace, number, outcome="killed", at=NOW.isoformat()) for number in range(deaths)]
    assert not check_missed_run(workspace, unfinished, NOW + wait - timedelta(seconds=1)).is_due
    assert check_missed_run(workspace, unfinished, NOW + wait).is_due


def test_new_data_does_not_wait_for_unfinished_cycles_on_older_data(workspace: Workspace) -> None:
    unfinished = cycle(workspace, 2, outcome="killed", at=NOW.isoformat(), snapshot="older.dir")
    check = check_missed_run(workspace, [cycle(workspace, snapshot="older.dir"), unfinished], NOW)
    assert (check.is_due, check.why) == (True, "the data changed since cycle-1")
