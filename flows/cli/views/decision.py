"""Decision page in a terminal: a panel with the reasons, the actions, the evidence and the counterfactuals."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import RenderableType
from rich.markdown import Markdown
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.decision import Plan
from ragtide.pipelines.reports.decision_page import ActionRow, DecisionPage, decision_page
from ragtide.pipelines.reports.signals import SignalRow
from ragtide.pipelines.safe_text import escape_controls

COLOURS = {str(Action.NOTHING): "blue", str(Action.HOLD): "yellow"}
BUILDS = "green"


def decision_renderables(plan: Plan) -> list[RenderableType]:
    """What `Console.print` shows one below the other; readable from 80 columns on.

    Values are Text and never markup, so that no document's name and no reason is taken for a style.
    """
    page = decision_page(plan)
    changes: list[RenderableType] = []
    if page.changes:
        changes = [Text("\nWhat has changed", "bold"), Markdown(page.changes)]
    return [
        _plain(page.headline, "bold"),
        _panel(page),
        _actions(page),
        _plain(page.costs, "dim"),
        _evidence(page),
        *_lines("What would have changed it", page.counterfactuals),
        *_lines("Quarantined documents", _quarantined(page)),
        *changes,
    ]


def _panel(page: DecisionPage) -> Panel:
    colour = COLOURS.get(page.action, BUILDS)
    pending = Text(f" pending approval: {page.pending} ") if page.pending else None
    title = Text(f" {page.action} ", f"bold {colour}")
    sentences = Text("\n").join(_plain(sentence) for sentence in page.sentences)
    return Panel(sentences, title=title, subtitle=pending, border_style=colour, padding=(0, 1))


def _actions(page: DecisionPage) -> Table:
    table = _table("Actions", "action", "gain [low, high]", "cost", "points/hour", "worth it")
    for column in table.columns[1:4]:
        column.justify = "right"
    for row in page.actions:
        cells = (row.action, row.gain, row.cost, row.points_per_hour)
        table.add_row(*(_plain(cell, "bold" if row.is_chosen else "") for cell in cells), _mark(row))
    return table


def _mark(row: ActionRow) -> Text:
    return Text("✓ yes", "green") if row.worth_it else Text("✗ no", "red")


def _evidence(page: DecisionPage) -> Table:
    """A value stands below its name, so that at 80 columns there is room for what it means."""
    table = _table("Evidence", "signal", "what it means", "took")
    table.columns[0].min_width = 27
    table.columns[1].ratio = 1
    table.columns[2].justify = "right"
    table.columns[2].no_wrap = True
    for row in page.signals:
        table.add_row(_name_and_value(row), _meaning(row), Text(row.took, "dim"))
    return table


def _name_and_value(row: SignalRow) -> Text:
    return Text("\n").join([_plain(row.signal, "bold"), _plain(row.value, "yellow" if row.why else "cyan")])


def _meaning(row: SignalRow) -> Text:
    return _plain(row.means) if row.why is None else _plain(row.why, "dim")


def _lines(title: str, lines: Sequence[str]) -> list[RenderableType]:
    return [Text(f"\n{title}", "bold"), *(_bullet(line) for line in lines)] if lines else []


def _quarantined(page: DecisionPage) -> list[str]:
    lines = [f"{document}: {why}" for document, why in page.quarantined]
    return (
        [*lines, f"and {page.more_quarantined} more: `ragtide status` lists them"] if page.more_quarantined else lines
    )


def _bullet(line: str) -> Table:
    """A list item whose further lines are indented."""
    grid = Table.grid(padding=(0, 1))
    grid.add_row(Text("-", "dim"), _plain(line))
    return grid


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column)
    return table


def _plain(words: str, style: str = "") -> Text:
    """Words on one line without control characters; what Markdown marks as code is bold."""
    text = Text(style=style)
    for place, part in enumerate(escape_controls(" ".join(words.split())).split("`")):
        text.append(part, "bold" if place % 2 else None)
    return text
