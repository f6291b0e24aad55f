"""Tests of the terminal view of a lineage: training data, deleted documents, and adapters that saw a document."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO

from rich.console import Console, RenderableType

from ragtide.flows.cli.views.lineage import lineage_tables, sightings_table
from ragtide.pipelines.ports import Message
from ragtide.pipelines.records.release import BuiltModel
from ragtide.pipelines.release.lineage import DocumentState, Lineage, SeenDocument, SeenExample, Sighting
from ragtide.pipelines.training.examples import Example

MODEL = BuiltModel(base="reader-1", adapter="a1b2", examples=None, settings=None)
EXAMPLE = Example((Message("user", "When does [bold]Pump 1\nend?"),), "2027", "pump.md", where="t.jsonl:3")
DELETED, UNCHANGED = DocumentState.DELETED, DocumentState.UNCHANGED


def shown(*parts: RenderableType) -> str:
    console = Console(width=120, record=True, file=StringIO())
    console.print(*parts)
    return console.export_text()


def lineage(*documents: SeenDocument) -> Lineage:
    return Lineage(MODEL, ("1", "4"), (SeenExample("d1", EXAMPLE), SeenExample("d2", None)), documents)


def row(text: str, first: str) -> list[str]:
    """The cells of the only row that holds `first`."""
    [line] = [line for line in text.splitlines() if first in line]
    return [cell.strip() for cell in line.strip("│").split("│")]


def test_the_summary_counts_examples_documents_and_deleted_ones() -> None:
    deleted, unchanged = SeenDocument("pump.md", True, DELETED), SeenDocument("tank.md", False, UNCHANGED)
    first = shown(*lineage_tables(lineage(deleted, unchanged))).splitlines()[0]
    assert all(part in first for part in ("a1b2", "reader-1", "1, 4", "2 examples", "2 documents", "1 of them deleted"))
    assert shown(*lineage_tables(lineage(unchanged))).splitlines()[0].endswith("2 examples, 1 document")


def test_the_summary_of_a_training_that_was_cut_short_counts_the_examples_that_it_saw() -> None:
    model = MODEL.model_copy(update={"cut_short": True, "trained_examples": 1, "trained_on": ("d1", "d2")})
    first = shown(*lineage_tables(replace(lineage(), model=model))).splitlines()[0]
    assert "1 of 2 examples (cut short)" in first


def test_an_example_is_shown_by_line_and_question_if_a_file_holds_it() -> None:
    text = shown(*lineage_tables(lineage()))
    assert row(text, "d1") == ["d1", "t.jsonl:3", "When does [bold]Pump 1 end?", "pump.md"]
    assert [cell == "" for cell in row(text, "d2")] == [False, True, False, True]


def test_a_document_is_shown_by_its_role_and_its_state() -> None:
    deleted, unchanged = SeenDocument("old\n.md", True, DELETED), SeenDocument("tank.md", False, UNCHANGED)
    text = shown(*lineage_tables(lineage(deleted, unchanged)))
    assert row(text, r"old\n.md") == [r"old\n.md", "source of answers", str(DELETED)]
    assert row(text, "tank.md") == ["tank.md", "context only", str(UNCHANGED)]


def test_the_adapters_that_saw_a_document_are_shown_release_by_release() -> None:
    seen = Sighting("2", "a1", is_live=True, is_source=True), Sighting("1", "a0", False, False)
    text = shown(sightings_table("pump.md", seen))
    assert row(text, "2 (live)") == ["2 (live)", "a1", "source of answers"]
    assert row(text, "a0") == ["1", "a0", "context only"]
    assert "pump.md" in text.splitlines()[0]


def test_a_document_that_no_adapter_saw_is_named() -> None:
    assert "x[b].md" in shown(sightings_table("x[b].md", ()))
