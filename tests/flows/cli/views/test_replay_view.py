"""Tests of the replay tables in a terminal."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from ragtide.flows.cli.views.replay import cycles_table, reasons_for_changes, totals_table
from ragtide.pipelines.planning.policy_replay import ReplayedCycle, replay_total
from ragtide.pipelines.records.action import Action


def replayed(was: str = "REFRESH", would: Action = Action.REFRESH, **fields: Any) -> ReplayedCycle:
    usual: dict[str, Any] = {
        "cycle": "cycle-0001",
        "at": "2030-01-01T12:34:56+00:00",
        "was_seconds": 42.4,
        "would_seconds": 42.4,
        "was_points": 2.0,
        "would_points": 2.0,
        "why": "it pays",
    }
    return ReplayedCycle(was=Action.named(was), would=would, **(usual | fields))


OTHER = replayed("RETRAIN", Action.NOTHING, was_points=-1.25, would_points=0.0, would_seconds=0.0, was_seconds=300.0)


def shown(table: Table, width: int = 120, styles: bool = False) -> str:
    """What a terminal of this width would show."""
    console = Console(width=width, record=True, file=StringIO(), force_terminal=True, color_system="standard")
    console.print(table)
    return console.export_text(styles=styles)


def rows(table: Table) -> list[list[str]]:
    """The cells of each line between the table's sides."""
    return [[cell.strip() for cell in line[1:-1].split("│")] for line in shown(table).splitlines() if "│" in line]


def test_a_turn_is_a_row_of_what_was_and_what_would_have_been() -> None:
    assert rows(cycles_table("never", [replayed(), OTHER])) == [
        ["2030-01-01 12:34", "REFRESH", "REFRESH", "+2.0 → +2.0", "42 → 42"],
        ["2030-01-01 12:34", "RETRAIN", "NOTHING", "-1.2 → +0.0", "300 → 0"],
    ]


def test_why_is_said_of_each_turn_that_would_have_been_decided_otherwise() -> None:
    assert [line.plain for line in reasons_for_changes([replayed(), OTHER])] == ["2030-01-01 12:34 NOTHING: it pays"]


def test_the_table_says_whose_decisions_it_shows() -> None:
    assert "Every recorded cycle under 'never'" in shown(cycles_table("never", [OTHER]))


def test_only_another_decision_stands_out() -> None:
    assert "\x1b[1;33mNOTHING" in shown(cycles_table("never", [OTHER]), styles=True)
    assert "\x1b[1;33m" not in shown(cycles_table("evidence", [replayed()]), styles=True)


def test_below_what_was_really_done_each_policy_has_a_row_of_sums() -> None:
    turns = [replayed(), OTHER, replayed("REFRESH+RETRAIN", Action.REFRESH.with_retrain())]
    table = totals_table([replay_total("evidence", turns), replay_total("never", [OTHER])], turns)
    assert "Totals of 3 recorded cycles" in shown(table)
    assert rows(table) == [
        ["as recorded", "+2.8", "385", "2", ""],
        ["evidence", "+4.0", "85", "1", "1"],
        ["never", "+0.0", "0", "0", "1"],
    ]


def test_a_single_cycle_is_counted_in_the_singular() -> None:
    assert shown(totals_table([], [OTHER])).splitlines()[0].strip() == "Totals of 1 recorded cycle"


@pytest.mark.parametrize("was", ["RETRAIN", "REFRESH+RETRAIN", "REBUILD+RETRAIN"])
def test_every_action_that_trains_is_counted_as_a_retrain(was: str) -> None:
    assert rows(totals_table([], [replayed(was)]))[0][3] == "1"


def test_a_narrow_terminal_gets_all_of_it() -> None:
    for table in (cycles_table("never", [OTHER]), totals_table([replay_total("never", [OTHER])], [OTHER])):
        text = shown(table, width=80)
        assert max(len(line) for line in text.splitlines()) <= 80
        assert "…" not in text
