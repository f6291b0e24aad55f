"""Decision page in Markdown, for MLflow, HTML and Prefect."""

from __future__ import annotations

from ragtide.pipelines.records.decision import Plan
from ragtide.pipelines.reports.decision_page import (
    ACTIONS_HEAD,
    PAST_HEAD,
    ActionRow,
    DecisionPage,
    GapTable,
    decision_page,
    format_group,
)
from ragtide.pipelines.reports.markdown import markdown_list, markdown_table
from ragtide.pipelines.safe_text import escape_controls


def decision_markdown(plan: Plan) -> str:
    """The decision: headline, explanation, changes, evidence, every action, past ones and counterfactuals.

    An empty section is left out.
    """
    page = decision_page(plan)
    return "\n\n".join(
        [
            f"# Decision: {page.action}",
            f"**{page.headline}**",
            markdown_list(page.sentences),
            "## What has changed",
            page.changes or "Nothing.",
            *_section("Quarantined documents", _quarantined(page)),
            "## Evidence",
            _signals(page),
            *_section("Where the gaps are", *(_gaps(table) for table in page.gaps)),
            "## Actions",
            markdown_table(ACTIONS_HEAD, [_action(row) for row in page.actions]),
            page.costs,
            *_section("What earlier decisions brought", markdown_table(PAST_HEAD, page.past) if page.past else ""),
            "## What would have changed it",
            markdown_list(page.counterfactuals),
            *_section("What could not be measured", markdown_list(page.unmeasured)),
        ]
    )


def _section(title: str, *parts: str) -> list[str]:
    """A heading and its content; nothing where the content is empty."""
    filled = [part for part in parts if part]
    return [f"## {title}", *filled] if filled else []


def _quarantined(page: DecisionPage) -> str:
    if not page.quarantined:
        return ""
    rows = [(f"`{escape_controls(document)}`", why) for document, why in page.quarantined]
    more = f"\n\n… and {page.more_quarantined} more: `ragtide status` lists them." if page.more_quarantined else ""
    return markdown_table(("document", "why"), rows) + more


def _signals(page: DecisionPage) -> str:
    rows = [(row.signal, row.written, row.means, row.took) for row in page.signals]
    return markdown_table(("signal", "value", "what it means", "measured in"), rows)


def _gaps(table: GapTable) -> str:
    head = (table.grouped_by, "the index gap", "the model gap", "the larger gap")
    rows = [(format_group(name), *measures) for name, *measures in table.rows]
    more = f"\n\n… and {table.more} more, with smaller gaps." if table.more else ""
    return markdown_table(head, rows) + more


def _action(row: ActionRow) -> tuple[str, ...]:
    action = f"**{row.action}**" if row.is_chosen else row.action
    return (action, row.gain, row.cost, row.points_per_hour, "yes" if row.worth_it else "no", row.why)
