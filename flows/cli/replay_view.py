"""How are replayed turns read in a terminal? A table of turns for one policy, and one of sums for all."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from ragtide.pipelines.planning.policy_replay import ReplayedCycle, ReplayTotal


def cycles_table(policy: str, turns: Sequence[ReplayedCycle]) -> Table:
    """A row a turn: what was decided, what the policy would have decided, and what each comes to."""
    table = Table(title=f"Every recorded turn under {policy!r}", show_lines=False)
    table.add_column("when (UTC)", no_wrap=True)
    table.add_column("was")
    table.add_column("would be")
    table.add_column("points, was → would be", justify="right")
    table.add_column("seconds, was → would be", justify="right")
    for one in turns:
        table.add_row(
            one.at[:16].replace("T", " "),
            str(one.was),
            Text(str(one.would), style="" if one.same else "bold yellow"),
            f"{one.was_points:+.1f} → {one.would_points:+.1f}",
            f"{one.was_seconds:.0f} → {one.would_seconds:.0f}",
        )
    return table


def reasons_for_changes(turns: Sequence[ReplayedCycle]) -> list[Text]:
    """A line for each turn that would have been decided otherwise, and why: in a column there is no room for it."""
    return [Text(f"{one.at[:16].replace('T', ' ')} {one.would}: {one.because}") for one in turns if not one.same]


def totals_table(totals: Sequence[ReplayTotal], turns: Sequence[ReplayedCycle]) -> Table:
    """A row a policy, below what was really done."""
    table = Table("policy", title=f"What {len(turns)} recorded turns come to")
    for name in ("points", "seconds", "retrains", "decided otherwise"):
        table.add_column(name, justify="right")
    points, seconds = sum(one.was_points for one in turns), sum(one.was_seconds for one in turns)
    retrains = sum(one.was.retrains for one in turns)
    table.add_row("as it was", f"{points:+.1f}", f"{seconds:.0f}", str(retrains), "", end_section=True)
    for one in totals:
        table.add_row(one.policy, f"{one.points:+.1f}", f"{one.seconds:.0f}", str(one.retrains), str(one.others))
    return table
