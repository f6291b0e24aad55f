"""Terminal view of an adapter's lineage: tables of its training data, and of the adapters that saw a document."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from ragtide.pipelines.release.lineage import DocumentState, Lineage, SeenDocument, SeenExample, Sighting
from ragtide.pipelines.reports.signals import count_of
from ragtide.pipelines.safe_text import escape_controls


def lineage_tables(lineage: Lineage) -> list[RenderableType]:
    """A line about the adapter, then a table with a row for each example and one with a row for each document."""
    model, deleted = lineage.model, sum(map(_is_deleted, lineage.documents))
    summary = f"adapter {model.adapter} on {model.base}, of release {', '.join(lineage.releases)}: "
    examples = count_of(len(lineage.examples), "example")
    summary += f"{model.seen_examples} of {examples} (cut short)" if model.cut_short else examples
    summary += f", {count_of(len(lineage.documents), 'document')}"
    summary += f", {deleted} of them deleted" if deleted else ""
    return [Text(summary, "bold"), _examples_table(lineage.examples), _documents_table(lineage.documents)]


def sightings_table(document: str, sightings: Sequence[Sighting]) -> RenderableType:
    """A row for each release whose adapter saw `document` in training."""
    if not sightings:
        return _plain(f"no recorded adapter has seen {document}")
    title = f"Adapters that have seen {escape_controls(document)}"
    table = Table("release", "adapter", "role", title=title, title_justify="left")
    for sighting in sightings:
        live = " (live)" if sighting.is_live else ""
        table.add_row(f"{sighting.release}{live}", _plain(sighting.adapter), _role(sighting.is_source))
    return table


def _examples_table(examples: Sequence[SeenExample]) -> Table:
    table = Table("example", "line", "question", "document", title="Examples", title_justify="left")
    for example in examples:
        content = example.content
        if content is None:
            table.add_row(example.digest, "", _plain("in no file that still exists", "dim"), "")
        else:
            question = " ".join(content.question.split())
            table.add_row(example.digest, _plain(content.where), _plain(question), _plain(content.doc or ""))
    return table


def _documents_table(documents: Sequence[SeenDocument]) -> Table:
    table = Table("document", "role", "now", title="Documents", title_justify="left")
    for document in documents:
        style = "bold red" if _is_deleted(document) else ""
        table.add_row(_plain(document.name, style), _role(document.is_source), _plain(document.state, style))
    return table


def _is_deleted(document: SeenDocument) -> bool:
    return document.state is DocumentState.DELETED


def _role(is_source: bool) -> str:
    """What a document was in training: the source of an answer, or a passage in the prompt beside it."""
    return "source of answers" if is_source else "context only"


def _plain(words: str, style: str = "") -> Text:
    return Text(escape_controls(words), style)
