"""Replayed cycles in a terminal: a table of cycles for one policy, and one of totals for all."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from ragtide.flows.cli.console import minute_of
from ragtide.pipelines.planning.policy_replay import ReplayedCycle, ReplayTotal
from ragtide.pipelines.reports.signals import count_of


def cycles_table(policy: str, cycles: Sequence[ReplayedCycle]) -> Table:
    """A row for each cycle: what was decided, what the policy would have decided, and points and seconds of both."""
    table = Table(title=f"Every recorded cycle under {policy!r}", show_lines=False)
    table.add_column("when (UTC)", no_wrap=True)
    table.add_column("was")
    table.add_column("would be")
    table.add_column("points, was → would be", justify="right")
    table.add_column("seconds, was → would be", justify="right")
    for cycle in cycles:
        table.add_row(
            minute_of(cycle.at),
            str(cycle.was),
            Text(str(cycle.would), style="" if cycle.same else "bold yellow"),
            f"{cycle.was_points:+.1f} → {cycle.would_points:+.1f}",
            f"{cycle.was_seconds:.0f} → {cycle.would_seconds:.0f}",
        )
    return table


def reasons_for_changes(cycles: Sequence[ReplayedCycle]) -> list[Text]:
    """A line for each cycle that would have been decided otherwise, and why: a column has no room for it."""
    return [Text(f"{minute_of(cycle.at)} {cycle.would}: {cycle.why}") for cycle in cycles if not cycle.same]


def totals_table(totals: Sequence[ReplayTotal], cycles: Sequence[ReplayedCycle]) -> Table:
    """A row for each policy, below what was really done."""
    table = Table("policy", title=f"Totals of {count_of(len(cycles), 'recorded cycle')}")
    for name in ("points", "seconds", "retrains", "decided otherwise"):
        table.add_column(name, justify="right")
    points, seconds = sum(cycle.was_points for cycle in cycles), sum(cycle.was_seconds for cycle in cycles)
    retrains = sum(cycle.was.retrains for cycle in cycles)
    table.add_row("as recorded", f"{points:+.1f}", f"{seconds:.0f}", str(retrains), "", end_section=True)
    for total in totals:
        row = (f"{total.points:+.1f}", f"{total.seconds:.0f}", str(total.retrains), str(total.others))
        table.add_row(total.policy, *row)
    return table
