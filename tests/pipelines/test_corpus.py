"""Tests of reading a corpus: documents, examples, quarantine and pending deletions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ragtide.pipelines.corpus import Corpus, read_corpus
from ragtide.pipelines.data.snapshot import take_snapshot
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.history.lost_content import removal_digest
from ragtide.pipelines.history.withheld import withhold_documents
from ragtide.pipelines.index.chunking import chunk_documents
from ragtide.pipelines.index.folder import DocumentFolder, IndexVersion
from ragtide.pipelines.index.source import InMemorySource
from ragtide.pipelines.index.table import Index
from ragtide.pipelines.params import ChunkParams
from ragtide.pipelines.ports import no_progress
from ragtide.pipelines.records.data import Chunk, IssueKind, Quarantine
from ragtide.pipelines.records.decision import Approval
from ragtide.pipelines.workspace import Workspace
from tests.factories import HashEmbedder, Shelf, chunk, document, md5, workspace, write

PAGE = "# Quill\n\nA pen.\n\n## Ends\n\nIn May.\n"
BROKEN = b"\xff is no UTF-8"


def project(root: Path, **blocks: dict[str, object]) -> Workspace:
    """Three pages and a picture, one of the pages empty; four examples."""
    made = workspace(root, **blocks)
    for name, text in {"quill.md": PAGE, "deep/ink.txt": "Blue.", "empty.md": "", "logo.png": "picture"}.items():
        write(made.kb / name, text)
    docs = ["quill.md", None, "deleted.md", "empty.md"]
    rows = [{"prompt": f"Q{number}", "completion": "A", "doc": doc} for number, doc in enumerate(docs)]
    write(made.train / "rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    return made


def read(made: Workspace, version: int | str | None = None, keep: bool = False) -> Corpus:
    """The corpus of the folder's current content and of a version of the project's index."""
    index = Index(made.index_uri, HashEmbedder(), made.params.chunk)
    return read_corpus(made, take_snapshot(made), IndexVersion(index, version), keep)


@dataclass
class Indexed:
    """A project whose pages are indexed, each under its name."""

    workspace: Workspace
    shelf: Shelf = field(init=False)

    def __post_init__(self) -> None:
        self.shelf = Shelf(self.workspace.index_uri, chunk=self.workspace.params.chunk)

    def refresh(self) -> int:
        return self.shelf.refresh(self.read().knowledge.chunks).version

    def read(self) -> Corpus:
        return read(self.workspace, self.shelf.latest if Path(self.shelf.uri).exists() else None)

    def folder(self) -> DocumentFolder:
        return DocumentFolder(
            self.workspace, take_snapshot(self.workspace), IndexVersion(self.shelf.index, self.shelf.latest)
        )


def indexed(root: Path, pages: int = 5, **blocks: dict[str, object]) -> Indexed:
    made = Indexed(workspace(root, **blocks))
    for number in range(pages):
        write(made.workspace.kb / f"{number}.md", f"# Page {number}\n\nText of {number}.\n")
    made.refresh()
    return made


def names(chunks: Sequence[Chunk]) -> list[str]:
    return sorted({chunk.document for chunk in chunks})


# --- the whole corpus ----------------------------------------------------------------------------------------------


def test_documents_and_chunks_are_those_of_the_snapshot_in_order_of_path(tmp_path: Path) -> None:
    corpus = read(project(tmp_path))
    assert [document.id for document in corpus.knowledge.documents] == ["deep/ink.txt", "quill.md"]
    assert [chunk.key for chunk in corpus.knowledge.chunks] == [("deep/ink.txt", 0), ("quill.md", 0), ("quill.md", 1)]
    digests = {document.id: document.digest for document in corpus.knowledge.documents}
    assert digests == {path: corpus.snapshot.documents[path] for path in ("deep/ink.txt", "quill.md")}
    assert {chunk.document_digest for chunk in corpus.knowledge.chunks} == {
        digests["deep/ink.txt"],
        digests["quill.md"],
    }


def test_texts_and_chunks_are_grouped_by_document(tmp_path: Path) -> None:
    corpus = read(project(tmp_path))
    assert corpus.knowledge.texts == {"deep/ink.txt": "Blue.", "quill.md": PAGE}
    assert {name: len(chunks) for name, chunks in corpus.knowledge.chunks_by_document.items()} == {
        "deep/ink.txt": 1,
        "quill.md": 2,
    }
    assert [chunk for chunks in corpus.knowledge.chunks_by_document.values() for chunk in chunks] == list(
        corpus.knowledge.chunks
    )


def test_an_example_of_a_missing_or_empty_page_is_an_orphan(tmp_path: Path) -> None:
    corpus = read(project(tmp_path))
    assert [example.question for example in corpus.training.examples] == ["Q0", "Q1"]
    assert [(example.question, example.doc) for example in corpus.training.orphans] == [
        ("Q2", "deleted.md"),
        ("Q3", "empty.md"),
    ]


def test_an_example_is_no_orphan_once_its_page_is_restored(tmp_path: Path) -> None:
    made = project(tmp_path)
    write(made.kb / "deleted.md", "Restored.")
    assert [example.question for example in read(made).training.orphans] == ["Q3"]


def test_every_example_of_the_corpus_has_a_passage_or_no_page(tmp_path: Path) -> None:
    corpus = read(project(tmp_path))
    assert all(
        corpus.knowledge.chunks_by_document[example.doc]
        for example in corpus.training.examples
        if example.doc is not None
    )
    assert [example.doc for example in corpus.training.examples] == ["quill.md", None]


def test_the_settings_of_the_project_apply(tmp_path: Path) -> None:
    made = project(tmp_path, chunk={"max_words": 20}, data={"kb": "pages"})
    write(tmp_path / "pages/long.md", "word " * 50)
    assert [len(chunk.text.split()) for chunk in read(made).knowledge.chunks if chunk.document == "long.md"] == [
        20,
        20,
        10,
    ]
    assert {chunk.document for chunk in read(made).knowledge.chunks} >= {"quill.md"}


def test_the_same_files_make_the_same_corpus(tmp_path: Path) -> None:
    first, second = (read(project(tmp_path / name)) for name in ("first", "second"))
    assert (first.snapshot, first.knowledge.documents, first.knowledge.chunks, first.training.examples) == (
        second.snapshot,
        second.knowledge.documents,
        second.knowledge.chunks,
        second.training.examples,
    )


def test_documents_are_read_without_examples(tmp_path: Path) -> None:
    made = workspace(tmp_path)
    write(made.kb / "a.md", "text")
    corpus = read(made)
    assert (len(corpus.knowledge.chunks), corpus.training.examples, corpus.training.orphans) == (1, (), ())


def test_an_invalid_line_of_the_examples_is_listed_and_the_others_are_read(tmp_path: Path) -> None:
    made = project(tmp_path)
    write(made.train / "bad.jsonl", "\n{]\n")
    corpus = read(made)
    [issue] = corpus.training.filtered
    assert (issue.where, issue.kind) == ("data/train/bad.jsonl:2", IssueKind.INVALID_LINE)
    assert issue.why.startswith("is not JSON")
    assert [example.question for example in corpus.training.examples] == ["Q0", "Q1"]


def test_an_example_is_checked_against_its_page_and_the_golden_questions(tmp_path: Path) -> None:
    made = project(tmp_path)
    write(made.kb / "quill.md", PAGE.replace("In May.", "In May 2026."))
    rows = [
        {"prompt": "When does it end?", "completion": "In May 2025.", "doc": "quill.md"},
        {"prompt": "When will it end?", "completion": "In May 2026.", "doc": "quill.md"},
        {"prompt": "what ends in may", "completion": "Quill.", "doc": "quill.md"},
    ]
    write(made.train / "rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    index = Index(made.index_uri, HashEmbedder(), made.params.chunk)
    corpus = read_corpus(made, take_snapshot(made), IndexVersion(index, None), golden=["What ends in May?"])
    assert [example.question for example in corpus.training.examples] == ["When will it end?"]
    assert [(issue.where, issue.kind) for issue in corpus.training.filtered] == [
        ("data/train/rows.jsonl:1", IssueKind.STALE),
        ("data/train/rows.jsonl:3", IssueKind.LEAK),
    ]


@pytest.mark.parametrize("path", ["data/kb/quill.md", "data/train/rows.jsonl"])
def test_a_file_that_changed_since_the_snapshot_is_an_error(tmp_path: Path, path: str) -> None:
    made = project(tmp_path)
    snapshot = take_snapshot(made)
    write(tmp_path / path, "another content")
    with pytest.raises(UserError, match="changed while it was being read"):
        read_corpus(made, snapshot, IndexVersion(Index(made.index_uri, HashEmbedder(), made.params.chunk), None))


# --- unreadable documents ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("bad.md", BROKEN, "is not UTF-8"),
        ("big.md", "x" * 600, "600 bytes, more than data.max_document_bytes = 500"),
        ("bad.json", "{]", "is not JSON"),
        ("bad.pdf", "no PDF", "is not a PDF"),
    ],
)
def test_an_unreadable_document_is_quarantined_and_the_others_are_read(
    tmp_path: Path, name: str, content: str | bytes, reason: str
) -> None:
    made = project(tmp_path, data={"max_document_bytes": 500})
    write(made.kb / name, content)
    corpus = read(made)
    reasons = {document.document: document.reason for document in corpus.knowledge.quarantined}
    assert set(reasons) == {name, "empty.md"}
    assert reason in reasons[name]
    assert names(corpus.knowledge.chunks) == ["deep/ink.txt", "quill.md"]
    # Both will be retried.
    assert corpus.knowledge.waiting == 2


def test_the_quarantine_is_written_only_on_request(tmp_path: Path) -> None:
    made = project(tmp_path)
    read(made)
    assert not made.quarantine_file.exists()
    read(made, keep=True)
    read(made, keep=True)
    [quarantined] = Quarantine.read(made.quarantine_file).documents
    assert (quarantined.document, quarantined.attempts) == ("empty.md", 2)


def test_a_document_that_became_unreadable_keeps_its_rows(tmp_path: Path) -> None:
    made = indexed(tmp_path)
    before = made.read()
    write(made.workspace.kb / "3.md", BROKEN)
    corpus = made.read()
    assert corpus.knowledge.chunks == before.knowledge.chunks
    assert [document.document for document in corpus.knowledge.quarantined] == ["3.md"]
    assert corpus.knowledge.texts["3.md"].split() == ["Page", "3", "Text", "of", "3."]
    # Its rows keep the digest of the content that they were built from, so no refresh takes them for the new content.
    assert corpus.knowledge.source.documents["3.md"] == md5("# Page 3\n\nText of 3.\n")
    version = made.shelf.latest
    assert (made.refresh(), made.shelf.latest) == (version, version)


def test_a_document_is_not_retried_after_the_last_attempt_and_keeps_its_rows(tmp_path: Path) -> None:
    made = indexed(tmp_path, data={"max_attempts": 2})
    write(made.workspace.kb / "3.md", BROKEN)
    for waiting in (1, 0, 0):
        corpus = read(made.workspace, made.shelf.latest, keep=True)
        assert (corpus.knowledge.waiting, names(corpus.knowledge.chunks)) == (
            waiting,
            [f"{number}.md" for number in range(5)],
        )
    [quarantined] = Quarantine.read(made.workspace.quarantine_file).documents
    assert quarantined.attempts == 2


def test_a_repaired_document_is_read_again(tmp_path: Path) -> None:
    made = indexed(tmp_path, data={"max_attempts": 1})
    write(made.workspace.kb / "3.md", BROKEN)
    read(made.workspace, made.shelf.latest, keep=True)
    write(made.workspace.kb / "3.md", "Repaired.")
    corpus = read(made.workspace, made.shelf.latest, keep=True)
    assert (corpus.knowledge.texts["3.md"], corpus.knowledge.quarantined) == ("Repaired.", ())
    assert Quarantine.read(made.workspace.quarantine_file).documents == ()


def test_a_document_over_the_size_limit_is_read_once_the_limit_is_raised(tmp_path: Path) -> None:
    limited = workspace(tmp_path, data={"max_attempts": 1, "max_document_bytes": 10})
    write(limited.kb / "large.md", "more than ten bytes")
    write(limited.kb / "small.md", "ten")
    assert names(read(limited, keep=True).knowledge.chunks) == ["small.md"]
    raised = workspace(tmp_path, data={"max_attempts": 1, "max_document_bytes": 100})
    assert names(read(raised).knowledge.chunks) == ["large.md", "small.md"]


def test_a_new_unreadable_document_has_no_chunks(tmp_path: Path) -> None:
    made = indexed(tmp_path)
    write(made.workspace.kb / "new.md", BROKEN)
    assert "new.md" not in names(made.read().knowledge.chunks)


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({}, "is empty: put your documents there"),
        ({"logo.png": b"picture"}, "holds no documents"),
        ({"a.md": BROKEN, "b.md": b""}, r"none of its 2 documents can be read \(a\.md: is not UTF-8"),
    ],
)
@pytest.mark.parametrize("has_index", [False, True])
def test_a_folder_without_a_readable_document_is_an_error(
    tmp_path: Path, files: dict[str, bytes], reason: str, has_index: bool
) -> None:
    made = (
        indexed(tmp_path, deletion_guard={"max_removed_documents": 99}) if has_index else Indexed(workspace(tmp_path))
    )
    for path in made.workspace.kb.iterdir():
        path.unlink()
    for name, content in files.items():
        write(made.workspace.kb / name, content)
    with pytest.raises(UserError, match=reason):
        made.read()


# --- pending deletions ---------------------------------------------------------------------------------------------

CAREFUL = {"max_removed_documents": 1, "max_removed_share": 0.0}


def delete(made: Indexed, *pages: int) -> dict[str, str]:
    digests = {f"{number}.md": made.shelf.index.documents()[f"{number}.md"] for number in pages}
    for name in digests:
        (made.workspace.kb / name).unlink()
    return digests


def test_deletions_within_the_limit_are_carried_out(tmp_path: Path) -> None:
    made = indexed(tmp_path, deletion_guard=CAREFUL)
    delete(made, 2)
    corpus = made.read()
    assert (names(corpus.knowledge.chunks), corpus.knowledge.pending_deletions, corpus.knowledge.waiting) == (
        ["0.md", "1.md", "3.md", "4.md"],
        {},
        0,
    )


def test_deletions_over_the_limit_are_pending_and_their_rows_stay(tmp_path: Path) -> None:
    made = indexed(tmp_path, deletion_guard=CAREFUL)
    before = made.read()
    deleted = delete(made, 1, 2)
    corpus = made.read()
    assert corpus.knowledge.chunks == before.knowledge.chunks
    assert (corpus.knowledge.pending_deletions, corpus.knowledge.waiting) == (deleted, 2)
    assert {document.id for document in corpus.knowledge.documents} == {
        document.id for document in before.knowledge.documents
    }


def test_approved_deletions_are_carried_out(tmp_path: Path) -> None:
    made = indexed(tmp_path, deletion_guard=CAREFUL)
    deleted = delete(made, 1, 2)
    given = Approval(plan="0123456789ab", removals=deleted, why="they are out of print", at="2030-01-01T00:00:00+00:00")
    given.write(made.workspace.approvals / f"{given.plan}.json")
    corpus = made.read()
    assert (names(corpus.knowledge.chunks), corpus.knowledge.pending_deletions) == (["0.md", "3.md", "4.md"], {})


# --- documents that lose most of their text --------------------------------------------------------------------------


def long_pages(root: Path) -> Indexed:
    made = Indexed(workspace(root, deletion_guard=CAREFUL))
    for number in range(5):
        words = " ".join(f"word{chr(97 + number)}{chr(97 + at)}" for at in range(24))
        write(made.workspace.kb / f"{number}.md", f"# Page {number}\n\nIt says {words}.\n")
    made.refresh()
    return made


def empty(made: Indexed, *pages: int, text: str = "Moved.") -> dict[str, str]:
    """Write `text` over pages, and return what their removal is known by."""
    before = made.shelf.index.documents()
    for number in pages:
        write(made.workspace.kb / f"{number}.md", f"# Page {number}\n\n{text}\n")
    now = take_snapshot(made.workspace).documents
    return {name: removal_digest(before[name], now[name]) for name in (f"{number}.md" for number in pages)}


def approve(made: Indexed, removals: dict[str, str]) -> None:
    given = Approval(plan="0123456789ab", removals=removals, why="they moved", at="2030-01-01T00:00:00+00:00")
    given.write(made.workspace.approvals / f"{given.plan}.json")


def test_emptied_documents_within_the_limit_are_indexed_and_counted(tmp_path: Path) -> None:
    made = long_pages(tmp_path)
    emptied = empty(made, 2)
    knowledge = made.read().knowledge
    assert (knowledge.texts["2.md"], knowledge.pending_deletions) == ("# Page 2\n\nMoved.\n", {})
    assert (knowledge.lost.emptied, knowledge.lost.rows) == (emptied, 1)


def test_emptied_documents_over_the_limit_wait_and_other_edits_are_indexed(tmp_path: Path) -> None:
    made = long_pages(tmp_path)
    before = made.read().knowledge
    emptied = empty(made, 1, 2)
    write(made.workspace.kb / "new.md", "A new page.")
    edited = (made.workspace.kb / "3.md").read_text().replace("says", "said")
    write(made.workspace.kb / "3.md", edited)
    knowledge = made.read().knowledge
    assert (knowledge.pending_deletions, knowledge.waiting, knowledge.lost.rows) == (emptied, 2, 2)
    kept = {name: before.chunks_by_document[name] for name in emptied}
    assert {name: knowledge.chunks_by_document[name] for name in emptied} == kept
    assert (knowledge.texts["3.md"], knowledge.texts["new.md"]) == (edited, "A new page.")
    assert set(knowledge.lost.texts) == set(emptied)


def test_documents_that_lose_parts_wait_where_the_parts_are_more_than_the_limit(tmp_path: Path) -> None:
    made = long_pages(tmp_path)
    for number in range(5):
        path = made.workspace.kb / f"{number}.md"
        write(path, " ".join(path.read_text().split(" ")[: 18 if number else -1]) + ".\n")
    assert {*made.read().knowledge.pending_deletions} == {"1.md", "2.md", "3.md", "4.md"}


def test_merged_documents_are_moved_and_not_deleted(tmp_path: Path) -> None:
    made = long_pages(tmp_path)
    path = made.workspace.kb / "0.md"
    others = [made.workspace.kb / f"{number}.md" for number in (1, 2, 3)]
    write(path, "\n".join(page.read_text() for page in (path, *others)))
    for other in others:
        other.unlink()
    knowledge = made.read().knowledge
    assert (knowledge.pending_deletions, knowledge.deleted) == ({}, {})
    assert knowledge.paths.moves == dict.fromkeys(("1.md", "2.md", "3.md"), "0.md")
    assert [chunk.document for chunk in knowledge.chunks] == ["0.md"] * 4 + ["4.md"]


def test_emptied_and_deleted_documents_count_together(tmp_path: Path) -> None:
    made = long_pages(tmp_path)
    removals = delete(made, 0) | empty(made, 4)
    assert made.read().knowledge.pending_deletions == removals


def test_an_approval_covers_what_an_emptied_document_says_now_and_nothing_later(tmp_path: Path) -> None:
    made = long_pages(tmp_path)
    approve(made, empty(made, 1, 2))
    assert made.read().knowledge.pending_deletions == {}
    later = empty(made, 1, 2, text="Moved again.")
    assert made.read().knowledge.pending_deletions == later
    # Nor does the approval of a deletion cover other content under the same name.
    approve(made, dict(made.shelf.index.documents()))
    assert made.read().knowledge.pending_deletions == later
    delete(made, 1, 2)
    assert made.read().knowledge.pending_deletions == {}


def test_pages_that_were_renamed_and_then_edited_are_not_pending(tmp_path: Path) -> None:
    made = indexed(tmp_path, deletion_guard=CAREFUL)
    for number in range(5):
        write(made.workspace.kb / f"deep/{number}.md", (made.workspace.kb / f"{number}.md").read_bytes())
        (made.workspace.kb / f"{number}.md").unlink()
    between = take_snapshot(made.workspace)
    for number in range(5):
        (made.workspace.kb / f"deep/{number}.md").unlink()
    between = between.model_copy(
        update={"documents": {f"new/{5 - int(name[5])}.md": digest for name, digest in between.documents.items()}}
    )
    for number in range(5):
        write(made.workspace.kb / f"new/{5 - number}.md", f"# Page {number}\n\nHere is the text of {number}.\n")
    # No snapshot has the pages under their new names, so they look deleted.
    assert len(made.read().knowledge.pending_deletions) == 5
    between.write(made.workspace.snapshot_file(between.id))
    knowledge = made.read().knowledge
    assert (knowledge.pending_deletions, len(knowledge.paths.moves)) == ({}, 5)


def test_pages_that_were_renamed_and_then_emptied_are_deletions(tmp_path: Path) -> None:
    made = indexed(tmp_path, deletion_guard=CAREFUL)
    for number in range(5):
        (made.workspace.kb / f"{number}.md").rename(made.workspace.kb / f"{number}-new.md")
    between = take_snapshot(made.workspace)
    between.write(made.workspace.snapshot_file(between.id))
    for number in range(5):
        write(made.workspace.kb / f"{number}-new.md", "Nothing of it is left here.\n")
    assert len(made.read().knowledge.pending_deletions) == 5


def test_pages_moved_to_another_folder_are_not_pending(tmp_path: Path) -> None:
    made = indexed(tmp_path, deletion_guard=CAREFUL)
    for number in range(5):
        write(made.workspace.kb / f"deep/{number}.md", (made.workspace.kb / f"{number}.md").read_bytes())
        (made.workspace.kb / f"{number}.md").unlink()
    corpus = made.read()
    assert (corpus.knowledge.pending_deletions, names(corpus.knowledge.chunks)) == (
        {},
        [f"deep/{number}.md" for number in range(5)],
    )


def test_an_example_of_a_page_pending_deletion_is_no_orphan(tmp_path: Path) -> None:
    made = indexed(tmp_path, deletion_guard=CAREFUL)
    write(made.workspace.train / "a.jsonl", json.dumps({"prompt": "Q", "completion": "A", "doc": "1.md"}) + "\n")
    delete(made, 1, 2)
    assert [example.doc for example in made.read().training.examples] == ["1.md"]


# --- the folder as a lazily read index source ----------------------------------------------------------------------


def test_a_folder_reads_only_the_requested_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = indexed(tmp_path)
    write(made.workspace.kb / "3.md", "Another.")
    folder = made.folder()
    opened: list[str] = []
    read_documents = folder.library.read
    monkeypatch.setattr(folder.library, "read", lambda names: opened.extend(names) or read_documents(names))
    before = made.shelf.index.rows()
    built = made.shelf.index.refresh(folder, "s", no_progress)
    assert (opened, built.embedded) == (["3.md"], 1)
    assert set(made.shelf.index.rows()) == set(before)


def test_a_folder_and_a_corpus_give_the_same_rows(tmp_path: Path) -> None:
    made = indexed(tmp_path, deletion_guard=CAREFUL)
    write(made.workspace.kb / "0.md", "# Another\n\nText of this.\n")
    write(made.workspace.kb / "new.md", "New.")
    write(made.workspace.kb / "3.md", BROKEN)
    delete(made, 1, 2)
    corpus, folder = made.read(), made.folder()
    # Edited documents are read where one vanished, which they may have taken up: an unreadable one is known then.
    assert (folder.pending_deletions, folder.waiting) == (corpus.knowledge.pending_deletions, 3)
    made.shelf.index.refresh(folder, "s", no_progress)
    assert set(made.shelf.index.rows()) == {chunk.key for chunk in corpus.knowledge.chunks}
    assert made.shelf.index.documents() == corpus.knowledge.source.documents
    # An unreadable document is known only after it was read.
    assert folder.waiting == corpus.knowledge.waiting == 3


def test_a_folder_has_no_chunks_of_pending_and_unreadable_documents(tmp_path: Path) -> None:
    made = indexed(tmp_path, deletion_guard=CAREFUL)
    write(made.workspace.kb / "3.md", BROKEN)
    delete(made, 1, 2)
    folder = made.folder()
    cuts = {cut.document: cut.chunks for cut in folder.read(sorted(folder.documents))}
    assert {name for name, chunks in cuts.items() if chunks is None} == {"1.md", "2.md", "3.md"}


def test_chunks_in_memory_are_grouped_by_document_in_their_order() -> None:
    pages = [document("b.md", "# B\n\none\n\n# C\n\ntwo"), document("a.md", "three")]
    chunks = chunk_documents(pages, ChunkParams())
    source = InMemorySource.of(chunks)
    assert source.documents == {"b.md": pages[0].digest, "a.md": pages[1].digest}
    assert [(cut.document, cut.chunks) for cut in source.read(["a.md", "b.md"])] == [
        ("a.md", [chunks[2]]),
        ("b.md", chunks[:2]),
    ]
    assert InMemorySource.of([]).documents == {}
    assert InMemorySource.of([chunk("x.md", "x")]).documents == {"x.md": chunk("x.md", "x").document_digest}


def test_an_example_of_a_moved_page_names_it_by_its_path_today_and_stays_the_same_example(tmp_path: Path) -> None:
    made = indexed(tmp_path, deletion_guard=CAREFUL)
    row = {"prompt": "What is on page 1?", "completion": "Text", "doc": "1.md"}
    write(made.workspace.train / "rows.jsonl", json.dumps(row) + "\n")
    [before] = made.read().training.examples
    (made.workspace.kb / "1.md").unlink()
    write(made.workspace.kb / "deep/1.md", "# Page 1\n\nHere is the text of 1.\n")
    training = made.read().training
    [example] = training.examples
    assert (example.doc, example.digest) == ("deep/1.md", before.digest)
    assert (training.outdated_paths, training.orphans) == ({"1.md": "deep/1.md"}, ())


def test_a_folder_and_a_corpus_have_the_same_moves(tmp_path: Path) -> None:
    made = indexed(tmp_path, deletion_guard=CAREFUL)
    for number in range(5):
        (made.workspace.kb / f"{number}.md").unlink()
        write(made.workspace.kb / f"deep/{number}.md", f"# Page {number}\n\nHere is the text of {number}.\n")
    folder, knowledge = made.folder(), made.read().knowledge
    assert folder.moves == knowledge.paths.moves == {f"{number}.md": f"deep/{number}.md" for number in range(5)}
    assert folder.documents == knowledge.source.documents
    made.refresh()
    assert names(made.read().knowledge.chunks) == [f"deep/{number}.md" for number in range(5)]
    assert made.shelf.index.documents() == folder.documents


def test_a_page_that_moved_to_a_withheld_one_keeps_its_rows(tmp_path: Path) -> None:
    made = indexed(tmp_path, deletion_guard=CAREFUL)
    (made.workspace.kb / "1.md").unlink()
    write(made.workspace.kb / "deep/1.md", "# Page 1\n\nHere is the text of 1.\n")
    withhold_documents(made.workspace, take_snapshot(made.workspace), {"deep/1.md": ("q1",)})
    knowledge = made.read().knowledge
    assert (knowledge.pending_deletions, knowledge.paths.moves) == ({}, {})
    assert names(knowledge.chunks) == [f"{number}.md" for number in range(5)]
