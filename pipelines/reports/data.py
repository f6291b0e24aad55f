"""How are a decision and a verdict read? As Markdown, HTML and plots, for the terminal, Prefect and MLflow alike."""

from __future__ import annotations

from collections.abc import Sequence

from ragtide.pipelines.records.data import DataIssue, QuarantinedDocument
from ragtide.pipelines.records.release import MaintenanceStep
from ragtide.pipelines.reports.markdown import escape_controls, markdown_table


def quarantine_markdown(documents: Sequence[QuarantinedDocument]) -> str:
    """What could not be read, why, how often it was tried, and since when."""
    rows = [(f"`{escape_controls(one.document)}`", one.reason, str(one.attempts), one.since) for one in documents]
    return markdown_table(("document", "why", "tries", "since"), rows)


def issues_markdown(findings: Sequence[DataIssue]) -> str:
    """The lines of the training files that nothing is learnt from, and why."""
    return markdown_table(
        ("line", "what", "why"), [(f"`{escape_controls(one.where)}`", one.kind, one.why) for one in findings]
    )


def maintenance_markdown(steps: Sequence[MaintenanceStep]) -> str:
    """A row for each step of maintenance: whether it was done, and why."""
    return markdown_table(("step", "done", "why"), [(one.step, "yes" if one.done else "no", one.why) for one in steps])
