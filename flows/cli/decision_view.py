"""How does a decision look in a terminal? A panel with the why, the actions, the evidence, what would change it."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import RenderableType
from rich.markdown import Markdown
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.decision import Decision, Option
from ragtide.pipelines.records.evidence import Evidence
from ragtide.pipelines.reports.decision import describe_costs, format_cost, format_gain
from ragtide.pipelines.reports.markdown import SHOWN, changes_markdown, escape_controls
from ragtide.pipelines.reports.signals import SignalRow, signal_rows

COLOURS = {Action.NOTHING: "blue", Action.HOLD: "yellow"}
BUILDS = "green"


def decision_renderables(evidence: Evidence, decision: Decision) -> list[RenderableType]:
    """What `Console.print` shows one below the other; readable from 80 columns on.

    Values are Text and never markup, so that no name of a document and no reason is taken for a style.
    """
    return [
        _panel(decision),
        _actions(evidence, decision),
        _plain(describe_costs(evidence.costs), "dim"),
        _evidence(evidence),
        *_lines("What would have changed it", decision.counterfactuals),
        *_lines("Set aside", _set_aside(evidence)),
        *_changes(evidence),
    ]


def _panel(decision: Decision) -> Panel:
    colour = COLOURS.get(decision.action, BUILDS)
    words = decision.explanation or " ".join(decision.reasons)
    waits = Text(f" waits for a yes: {decision.proposed} ") if decision.proposed else None
    title = Text(f" {decision.action} ", f"bold {colour}")
    return Panel(_plain(words), title=title, subtitle=waits, border_style=colour, padding=(0, 1))


def _actions(evidence: Evidence, decision: Decision) -> Table:
    table = _table("Actions", "action", "gain [low, high]", "cost", "points/hour", "worth it")
    for column in table.columns[1:4]:
        column.justify = "right"
    for option in decision.options:
        buys = "" if option.points_per_hour is None else f"{option.points_per_hour:,.0f}"
        style = "bold" if option.action == decision.action else ""
        cells = (str(option.action), format_gain(option), format_cost(option, evidence.costs), buys)
        table.add_row(*(_plain(cell, style) for cell in cells), _mark(option))
    return table


def _mark(option: Option) -> Text:
    return Text("✓ yes", "green") if option.worth_it else Text("✗ no", "red")


def _evidence(evidence: Evidence) -> Table:
    """A value stands below its name, so that at 80 columns there is room to say what it means."""
    table = _table("Evidence", "signal", "what it means", "took")
    table.columns[0].min_width = 27
    table.columns[1].ratio = 1
    table.columns[2].justify = "right"
    table.columns[2].no_wrap = True
    for told in signal_rows(evidence):
        table.add_row(_named(told), _meant(told), Text(told.took, "dim"))
    return table


def _named(told: SignalRow) -> Text:
    return Text("\n").join([_plain(told.signal, "bold"), _plain(told.value, "yellow" if told.why else "cyan")])


def _meant(told: SignalRow) -> Text:
    return _plain(told.means) if told.why is None else _plain(told.why, "dim")


def _lines(title: str, lines: Sequence[str]) -> list[RenderableType]:
    return [Text(f"\n{title}", "bold"), *(_bullet(line) for line in lines)] if lines else []


def _set_aside(evidence: Evidence) -> list[str]:
    """The documents that cannot be read, and why; of many the first."""
    lines = [f"{document}: {why}" for document, why in evidence.quarantined.items()]
    more = [f"and {len(lines) - SHOWN} more: `ragtide status` lists them"] if len(lines) > SHOWN else []
    return lines[:SHOWN] + more


def _changes(evidence: Evidence) -> list[RenderableType]:
    if evidence.changes.is_empty:
        return []
    return [Text("\nWhat has changed", "bold"), Markdown(changes_markdown(evidence.changes))]


def _bullet(line: str) -> Table:
    """A line that goes on below its own first word."""
    grid = Table.grid(padding=(0, 1))
    grid.add_row(Text("-", "dim"), _plain(line))
    return grid


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column)
    return table


def _plain(words: str, style: str = "") -> Text:
    """Words on one line that move no cursor, with what Markdown marks as code in bold."""
    text = Text(style=style)
    for place, part in enumerate(escape_controls(" ".join(words.split())).split("`")):
        text.append(part, "bold" if place % 2 else None)
    return text
