"""Tests of the document reader: conversion cache, quarantine, and retries up to a limit."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragtide.pipelines.data import documents as module
from ragtide.pipelines.data.documents import DocumentReader, require_documents, supported_documents
from ragtide.pipelines.data.formats.converter import CONVERTER
from ragtide.pipelines.data.snapshot import take_snapshot
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.records.data import Document, Quarantine, QuarantinedDocument
from ragtide.pipelines.workspace import Workspace
from tests.factories import md5, snapshot, workspace, write

GOOD, BAD = "# Pump\n\nA pump.\n", b"caf\xe9 \xff\x00"
LIMIT = 3


def project(root: Path, **pages: str | bytes) -> Workspace:
    """A project with these pages, named with `__` for the dot, and a readable one."""
    created = workspace(root, data={"max_attempts": LIMIT})
    for name, content in {"good__md": GOOD, **pages}.items():
        write(created.kb / name.replace("__", "."), content)
    return created


def run_cycle(space: Workspace) -> tuple[dict[str, Document | None], DocumentReader]:
    """Read all due documents and write the quarantine, as one cycle does."""
    library = DocumentReader(space, take_snapshot(space))
    read = read_due(library)
    library.keep()
    return read, library


def read_due(library: DocumentReader) -> dict[str, Document | None]:
    """Path -> document of all due documents; None for those that cannot be read."""
    return {path: read.document if read else None for path, read in library.read(sorted(library.due))}


def quarantine_of(space: Workspace) -> dict[str, QuarantinedDocument]:
    return {document.document: document for document in Quarantine.read(space.quarantine_file).documents}


def set_hour(monkeypatch: pytest.MonkeyPatch, hour: int) -> str:
    """Set the reader's clock to this hour of 2030-01-01 and return the time in ISO 8601."""

    class Clock:
        @staticmethod
        def now(_zone: object) -> datetime:
            return datetime(2030, 1, 1, hour, tzinfo=UTC)

    monkeypatch.setattr(module, "datetime", Clock)
    return f"2030-01-01T{hour:02}:00:00+00:00"


# --- reading -------------------------------------------------------------------------------------------------------


def test_a_document_has_the_digest_of_its_bytes(tmp_path: Path) -> None:
    text = "one\r\ntwo\n"
    read, _ = run_cycle(project(tmp_path, page__md=text))
    assert read["page.md"] == Document(id="page.md", text="one\ntwo\n", digest=md5(text))


def test_a_file_of_another_format_is_ignored(tmp_path: Path) -> None:
    space = project(tmp_path, picture__png=b"\xff\xd8\xff")
    read, library = run_cycle(space)
    assert set(read) == set(supported_documents(take_snapshot(space))) == {"good.md"}
    assert library.quarantined == ()
    assert not space.quarantine_file.exists()


@pytest.mark.parametrize(("size", "fits"), [(10, True), (11, False)])
def test_a_document_may_be_as_large_as_the_limit_and_no_larger(size: int, fits: bool, tmp_path: Path) -> None:
    space = workspace(tmp_path, data={"max_document_bytes": 10})
    write(space.kb / "page.md", "x" * size)
    read, library = run_cycle(space)
    assert (read["page.md"] is not None) is fits
    assert [document.document for document in library.quarantined] == ([] if fits else ["page.md"])
    assert all("data.max_document_bytes = 10" in document.reason for document in library.quarantined)


@pytest.mark.parametrize(
    ("content", "message"), [("new", "changed while it was being read"), (None, r"\(No such file or directory\)")]
)
def test_a_document_that_changed_since_the_snapshot_is_an_error(
    content: str | None, message: str, tmp_path: Path
) -> None:
    space = project(tmp_path, page__md="old")
    library = DocumentReader(space, take_snapshot(space))
    (space.kb / "page.md").unlink()
    if content is not None:
        write(space.kb / "page.md", content)
    with pytest.raises(UserError, match=rf"page\.md.* {message}"):
        list(library.read(["page.md"]))


def test_a_slow_format_is_converted_once_per_content(tmp_path: Path) -> None:
    space = project(tmp_path, page__html="<h1>Ports</h1>", twin__html="<h1>Ports</h1>", other__html="<h1>Tanks</h1>")
    first, _ = run_cycle(space)
    assert {file.name for file in space.texts.iterdir()} == {
        f"{md5(content)}-{CONVERTER}.html" for content in ("<h1>Ports</h1>", "<h1>Tanks</h1>")
    }
    assert run_cycle(space)[0] == first
    write(space.texts / f"{md5('<h1>Ports</h1>')}-{CONVERTER}.html", "the cached text")
    second, _ = run_cycle(space)
    assert {name: document.text for name, document in second.items() if document and name != "good.md"} == {
        "page.html": "the cached text",
        "twin.html": "the cached text",
        "other.html": first["other.html"] and first["other.html"].text,
    }


# --- quarantine -----------------------------------------------------------------------------------------------------


def test_an_unreadable_document_is_quarantined_and_the_others_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = set_hour(monkeypatch, 1)
    space = project(tmp_path, bad__md=BAD)
    read, library = run_cycle(space)
    assert {path for path, document in read.items() if document} == {"good.md"}
    [quarantined] = library.quarantined
    assert (quarantined.document, quarantined.attempts, quarantined.since) == ("bad.md", 1, now)
    assert quarantined.reason
    assert "\n" not in quarantined.reason
    assert quarantine_of(space) == {"bad.md": quarantined}


def test_an_unreadable_document_is_retried_up_to_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = set_hour(monkeypatch, 1)
    space = project(tmp_path, bad__md=BAD)
    tried = []
    for hour in range(1, LIMIT + 4):
        set_hour(monkeypatch, hour)
        read, library = run_cycle(space)
        tried.append("bad.md" in read)
        assert quarantine_of(space)["bad.md"].attempts == min(hour, LIMIT)
        assert library.retries == (hour < LIMIT)
    assert tried == [True] * LIMIT + [False] * 3
    assert quarantine_of(space)["bad.md"].since == first


def exhausted(root: Path) -> Workspace:
    """A project whose unreadable page has used up its attempts."""
    space = project(root, bad__md=BAD)
    for _ in range(LIMIT):
        run_cycle(space)
    assert "bad.md" not in DocumentReader(space, take_snapshot(space)).due
    return space


def test_changed_content_starts_without_failures(tmp_path: Path) -> None:
    space = exhausted(tmp_path)
    write(space.kb / "bad.md", BAD + b"more")
    run_cycle(space)
    assert quarantine_of(space)["bad.md"].attempts == 1


def test_a_repaired_document_leaves_the_quarantine(tmp_path: Path) -> None:
    space = exhausted(tmp_path)
    write(space.kb / "bad.md", "good now")
    read, library = run_cycle(space)
    assert read["bad.md"] is not None
    assert library.quarantined == ()
    assert quarantine_of(space) == {}


def test_a_deleted_document_leaves_the_quarantine(tmp_path: Path) -> None:
    space = exhausted(tmp_path)
    (space.kb / "bad.md").unlink()
    run_cycle(space)
    assert quarantine_of(space) == {}


def test_a_new_converter_resets_the_attempts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = exhausted(tmp_path)
    monkeypatch.setattr(module, "converter_signature", lambda: "convert-next")
    read, _ = run_cycle(space)
    assert "bad.md" in read
    assert quarantine_of(space)["bad.md"].attempts == 1
    assert Quarantine.read(space.quarantine_file).converter.startswith("convert-next")


def test_a_higher_limit_allows_further_attempts(tmp_path: Path) -> None:
    exhausted(tmp_path)
    patient = workspace(tmp_path, data={"max_attempts": LIMIT + 1})
    assert "bad.md" in DocumentReader(patient, take_snapshot(patient)).due


def test_a_document_that_was_too_large_is_read_after_the_limit_is_raised(tmp_path: Path) -> None:
    small = workspace(tmp_path, data={"max_document_bytes": 10})
    write(small.kb / "page.md", "longer than ten bytes")
    for _ in range(LIMIT + 1):
        run_cycle(small)
    large = workspace(tmp_path, data={"max_document_bytes": 1000})
    read, library = run_cycle(large)
    assert read.get("page.md")
    assert library.quarantined == ()


def test_a_document_is_read_after_its_missing_library_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"%PDF-1.4 ..."
    space = project(tmp_path, page__pdf=content)
    with monkeypatch.context() as patch:
        patch.setattr(module, "converter_signature", lambda: CONVERTER)
        for _ in range(LIMIT + 1):
            run_cycle(space)
    monkeypatch.setattr(module, "converter_signature", lambda: f"{CONVERTER}+formats")
    # As if the installed library had converted it.
    write(space.texts / f"{md5(content.decode())}-{CONVERTER}.pdf", "text")
    read, _ = run_cycle(space)
    assert read.get("page.pdf")
    assert quarantine_of(space) == {}


def test_reading_without_keep_uses_no_attempt(tmp_path: Path) -> None:
    space = project(tmp_path, bad__md=BAD)
    for _ in range(LIMIT + 2):
        library = DocumentReader(space, take_snapshot(space))
        assert list(library.read(["bad.md"])) == [("bad.md", None)]
    assert not space.quarantine_file.exists()


def test_reading_twice_in_a_cycle_counts_as_one_attempt(tmp_path: Path) -> None:
    space = project(tmp_path, bad__md=BAD)
    library = DocumentReader(space, take_snapshot(space))
    for _ in range(3):
        list(library.read(["bad.md"]))
    library.keep()
    assert quarantine_of(space)["bad.md"].attempts == 1


def test_earlier_failures_are_known_before_anything_is_read(tmp_path: Path) -> None:
    space = project(tmp_path, bad__md=BAD)
    run_cycle(space)
    assert [document.document for document in DocumentReader(space, take_snapshot(space)).quarantined] == ["bad.md"]


def test_an_unusable_file_is_quarantined_without_being_due(tmp_path: Path) -> None:
    space = project(tmp_path)
    (space.kb / "nowhere.md").symlink_to(tmp_path / "nothing")
    for _ in range(2):
        read, library = run_cycle(space)
        assert set(read) == {"good.md"}
        [quarantined] = library.quarantined
        assert (quarantined.document, quarantined.digest, quarantined.attempts) == ("nowhere.md", None, 0)
        assert quarantined.reason == "is a broken link"
    assert library.retries == 0


def test_a_repaired_link_is_read_at_once(tmp_path: Path) -> None:
    space = project(tmp_path)
    link = space.kb / "nowhere.md"
    link.symlink_to(tmp_path / "nothing")
    for _ in range(LIMIT + 1):
        run_cycle(space)
    link.unlink()
    write(link, "a page now")
    read, _ = run_cycle(space)
    assert read["nowhere.md"] is not None
    assert quarantine_of(space) == {}


def test_a_truncated_quarantine_file_is_named(tmp_path: Path) -> None:
    space = project(tmp_path)
    write(space.quarantine_file, '{"converter": ')
    with pytest.raises(UserError, match=r"quarantine\.json cannot be read as a Quarantine"):
        DocumentReader(space, take_snapshot(space))


def test_without_failures_there_is_no_quarantine_file(tmp_path: Path) -> None:
    space = project(tmp_path)
    run_cycle(space)
    assert not space.quarantine_file.exists()


PAGES = st.dictionaries(st.sampled_from(["a.md", "b.txt", "c.md"]), st.sampled_from([GOOD, "other", BAD]), max_size=3)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.lists(PAGES, min_size=1, max_size=6))
def test_every_document_is_either_read_or_quarantined(cycles: list[Any]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        space = project(Path(folder))
        for pages in cycles:
            for name in ("a.md", "b.txt", "c.md"):
                (space.kb / name).unlink(missing_ok=True)
            for name, content in pages.items():
                write(space.kb / name, content)
            read, library = run_cycle(space)
            readable = {path for path, document in read.items() if document}
            unreadable = {document.document for document in library.quarantined}
            assert readable | unreadable == {"good.md", *pages}
            assert not readable & unreadable
            assert unreadable == {name for name, content in pages.items() if content == BAD}
            assert all(document.attempts <= LIMIT for document in library.quarantined)


# --- an empty folder -----------------------------------------------------------------------------------------------


def test_one_readable_document_is_enough() -> None:
    require_documents(Path("kb"), {"a.md": md5("a")}, ())


def test_a_folder_without_documents_is_an_error_that_names_the_formats() -> None:
    with pytest.raises(UserError, match=r"^kb holds no documents: docs/own-data\.md"):
        require_documents(Path("kb"), {}, ())


def test_a_folder_of_unreadable_documents_is_an_error_with_a_reason() -> None:
    unreadable = QuarantinedDocument(document="a.pdf", digest=md5("a"), reason="is scanned", attempts=1, since="2030")
    with pytest.raises(UserError, match=r"2 documents can be read \(a\.pdf: is scanned\)"):
        require_documents(Path("kb"), {}, (unreadable, unreadable.model_copy(update={"document": "b.pdf"})))


def test_only_supported_formats_are_documents() -> None:
    assert supported_documents(snapshot({"a.md": "1", "b.png": "2", "c.pdf": "3"})) == {"a.md": "1", "c.pdf": "3"}
