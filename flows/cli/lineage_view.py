"""How is an adapter's lineage read in a terminal? Tables of what went into it, and of who has seen a document."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from ragtide.pipelines.release.lineage import DocumentState, Lineage, SeenDocument, SeenExample, Sighting
from ragtide.pipelines.reports.markdown import escape_controls


def lineage_tables(lineage: Lineage) -> list[RenderableType]:
    """The adapter in one line, then a row an example and a row a document."""
    model, gone = lineage.model, sum(one.state is DocumentState.DELETED for one in lineage.documents)
    releases = ", ".join(lineage.releases)
    told = f"adapter {model.adapter} on {model.base}, of release {releases}: {len(lineage.examples)} examples"
    told += f", {len(lineage.documents)} documents" + (f", {gone} of them gone" if gone else "")
    return [Text(told, "bold"), _examples(lineage.examples), _documents(lineage.documents)]


def sightings_table(document: str, sightings: Sequence[Sighting]) -> RenderableType:
    """A row a release."""
    if not sightings:
        return _plain(f"no release's adapter has seen {document}, as far as it is written down")
    table = Table("release", "adapter", "how", title=f"Who has seen {escape_controls(document)}", title_justify="left")
    for one in sightings:
        live = " (live)" if one.is_live else ""
        table.add_row(f"{one.release}{live}", _plain(one.adapter), _role(one.is_source))
    return table


def _examples(examples: Sequence[SeenExample]) -> Table:
    table = Table("example", "line", "question", "page", title="Examples", title_justify="left")
    for one in examples:
        if one.content is None:
            table.add_row(one.digest, "", _plain("stands in no file that is left", "dim"), "")
        else:
            question = " ".join(one.content.question.split())
            table.add_row(one.digest, _plain(one.content.where), _plain(question), _plain(one.content.doc or ""))
    return table


def _documents(documents: Sequence[SeenDocument]) -> Table:
    table = Table("document", "how", "now", title="Documents", title_justify="left")
    for one in documents:
        style = "bold red" if one.state is DocumentState.DELETED else ""
        table.add_row(_plain(one.name, style), _role(one.is_source), _plain(one.state, style))
    return table


def _role(is_source: bool) -> str:
    return "taught from" if is_source else "stood beside"


def _plain(words: str, style: str = "") -> Text:
    return Text(escape_controls(words), style)
