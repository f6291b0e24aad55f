"""Markdown tables of quarantined documents, invalid training lines and maintenance steps."""

from __future__ import annotations

from collections.abc import Sequence

from ragtide.pipelines.records.data import DataIssue, QuarantinedDocument, WithheldDocument
from ragtide.pipelines.records.release import MaintenanceStep
from ragtide.pipelines.reports.markdown import markdown_table
from ragtide.pipelines.safe_text import escape_controls


def quarantine_markdown(documents: Sequence[QuarantinedDocument]) -> str:
    """Return a row for each document that could not be read: the reason, the number of attempts, and since when."""
    rows = [
        (f"`{escape_controls(document.document)}`", document.reason, str(document.attempts), document.since)
        for document in documents
    ]
    return markdown_table(("document", "reason", "attempts", "since"), rows)


def withheld_markdown(documents: Sequence[WithheldDocument]) -> str:
    """Return a row for each document that took answers at the gate: how many questions were lost to it, since when."""
    rows = [
        (f"`{escape_controls(document.document)}`", str(len(document.questions)), document.since)
        for document in documents
    ]
    return markdown_table(("document", "lost questions", "since"), rows)


def issues_markdown(issues: Sequence[DataIssue]) -> str:
    """Return a row for each training line that is filtered out, with the kind of issue and the reason."""
    rows = [(f"`{escape_controls(issue.where)}`", issue.kind, issue.why) for issue in issues]
    return markdown_table(("line", "issue", "reason"), rows)


def maintenance_markdown(steps: Sequence[MaintenanceStep]) -> str:
    """Return a row for each maintenance step: whether it was done, and why."""
    rows = [(step.step, "yes" if step.done else "no", step.why) for step in steps]
    return markdown_table(("step", "done", "reason"), rows)
