"""Can an adapter's lineage be read in a terminal: what went into it, what is gone, and who has seen a document?"""

from __future__ import annotations

from io import StringIO

from rich.console import Console, RenderableType

from ragtide.flows.cli.lineage_view import lineage_tables, sightings_table
from ragtide.pipelines.ports import Message
from ragtide.pipelines.records.release import BuiltModel
from ragtide.pipelines.release.lineage import DocumentState, Lineage, SeenDocument, SeenExample, Sighting
from ragtide.pipelines.training.examples import Example

MODEL = BuiltModel(base="reader-1", adapter="a1b2", examples=None, settings=None)
ASKED = Example((Message("user", "When does [bold]Pump 1\nend?"),), "2027", "pump.md", where="t.jsonl:3")


def shown(*parts: RenderableType) -> str:
    console = Console(width=120, record=True, file=StringIO())
    console.print(*parts)
    return console.export_text()


def lineage(*documents: SeenDocument) -> Lineage:
    return Lineage(MODEL, ("1", "4"), (SeenExample("d1", ASKED), SeenExample("d2", None)), documents)


def row(text: str, first: str) -> str:
    [found] = [line for line in text.splitlines() if first in line]
    return found


def test_the_adapter_is_told_with_its_releases_and_how_much_of_it_is_gone() -> None:
    gone, there = (
        SeenDocument("pump.md", True, DocumentState.DELETED),
        SeenDocument("tank.md", False, DocumentState.UNCHANGED),
    )
    first = "adapter a1b2 on reader-1, of release 1, 4: 2 examples, 2 documents, 1 of them gone"
    assert shown(*lineage_tables(lineage(gone, there))).startswith(first)
    assert shown(*lineage_tables(lineage(there))).splitlines()[0].endswith("2 examples, 1 documents")


def test_each_example_is_told_by_line_and_question_or_that_nothing_holds_it() -> None:
    text = shown(*lineage_tables(lineage()))
    known = row(text, "d1")
    assert all(part in known for part in ("t.jsonl:3", "When does [bold]Pump 1 end?", "pump.md"))
    assert "stands in no file that is left" in row(text, "d2")


def test_each_document_is_told_by_what_it_was_for_and_what_it_is_now() -> None:
    gone, there = (
        SeenDocument("old\n.md", True, DocumentState.DELETED),
        SeenDocument("tank.md", False, DocumentState.EDITED),
    )
    text = shown(*lineage_tables(lineage(gone, there)))
    assert all(part in row(text, r"old\n.md") for part in ("taught from", "deleted"))
    assert all(part in row(text, "tank.md") for part in ("stood beside", "edited since"))


def test_who_has_seen_a_document_is_told_release_by_release() -> None:
    seen = Sighting("2", "a1", is_live=True, is_source=True), Sighting("1", "a0", False, False)
    text = shown(sightings_table("pump.md", seen))
    assert all(part in row(text, "2 (live)") for part in ("a1", "taught from"))
    assert all(part in row(text, "a0") for part in ("1", "stood beside"))
    assert "Who has seen pump.md" in text


def test_a_document_that_nobody_saw_is_told_so() -> None:
    assert shown(sightings_table("x[b].md", ())).startswith("no release's adapter has seen x[b].md")
