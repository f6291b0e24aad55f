"""Is a document that cannot be read set aside with its reason, tried again when that may help, and never in the way?"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragtide.pipelines.data import documents as module
from ragtide.pipelines.data.documents import DocumentReader, require_documents, supported_documents
from ragtide.pipelines.data.formats import CONVERTER, MISSING, DocumentError
from ragtide.pipelines.data.snapshot import take_snapshot
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.records.data import Document, Quarantine, QuarantinedDocument
from ragtide.pipelines.workspace import Workspace
from tests.factories import md5, snapshot, workspace, write

GOOD, BAD = "# Pump\n\nA pump.\n", b"caf\xe9 \xff\x00"
LIMIT = 3


def project(root: Path, **pages: str | bytes) -> Workspace:
    """A project with those pages, named with `__` for the dot, and one that is good."""
    made = workspace(root, data={"max_attempts": LIMIT})
    for name, content in {"good__md": GOOD, **pages}.items():
        write(made.kb / name.replace("__", "."), content)
    return made


def turn(space: Workspace) -> tuple[dict[str, Document | None], DocumentReader]:
    """What one turn of the loop does: read all that is due, and write down what failed."""
    library = DocumentReader(space, take_snapshot(space))
    read = {path: library.read(path) for path in sorted(library.due)}
    library.keep()
    return read, library


def kept(space: Workspace) -> dict[str, QuarantinedDocument]:
    return {one.document: one for one in Quarantine.read(space.quarantine_file).documents}


def at(monkeypatch: pytest.MonkeyPatch, hour: int) -> str:
    """Let it be that hour."""

    class Clock:
        @staticmethod
        def now(_zone: object) -> datetime:
            return datetime(2030, 1, 1, hour, tzinfo=UTC)

    monkeypatch.setattr(module, "datetime", Clock)
    return f"2030-01-01T{hour:02}:00:00+00:00"


# --- reading -------------------------------------------------------------------------------------------------------


def test_a_document_has_the_digest_of_its_bytes(tmp_path: Path) -> None:
    text = "one\r\ntwo\n"
    read, _ = turn(project(tmp_path, page__md=text))
    assert read["page.md"] == Document(id="page.md", text="one\ntwo\n", digest=md5(text))


def test_a_file_of_another_kind_lies_there_unread(tmp_path: Path) -> None:
    space = project(tmp_path, picture__png=b"\xff\xd8\xff")
    read, library = turn(space)
    assert set(read) == set(supported_documents(take_snapshot(space))) == {"good.md"}
    assert library.quarantined == ()
    assert not space.quarantine_file.exists()


@pytest.mark.parametrize(("size", "fits"), [(10, True), (11, False)])
def test_a_document_may_be_as_large_as_the_limit_and_no_larger(size: int, fits: bool, tmp_path: Path) -> None:
    space = workspace(tmp_path, data={"max_document_bytes": 10})
    write(space.kb / "page.md", "x" * size)
    read, library = turn(space)
    assert (read["page.md"] is not None) is fits
    assert (
        [one.reason for one in library.quarantined] == []
        if fits
        else ["11 bytes, over data.max_document_bytes = 10: split it, or raise the limit"]
    )


@pytest.mark.parametrize(
    ("now", "said"), [("new", "changed while it was being read: run again"), (None, r"\(No such file or directory\)")]
)
def test_a_document_that_is_not_what_the_snapshot_knows_is_refused(now: str | None, said: str, tmp_path: Path) -> None:
    space = project(tmp_path, page__md="old")
    library = DocumentReader(space, take_snapshot(space))
    (space.kb / "page.md").unlink()
    if now is not None:
        write(space.kb / "page.md", now)
    with pytest.raises(UserError, match=rf"page\.md.* {said}"):
        library.read("page.md")


def test_a_page_that_is_slow_to_convert_is_converted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = project(tmp_path, page__html="<h1>Ports</h1>", twin__html="<h1>Ports</h1>", other__html="<h1>Tanks</h1>")
    converted: list[str] = []

    def counted(path: str, content: bytes) -> str:
        converted.append(path)
        return f"text of {content.decode()}"

    monkeypatch.setattr(module, "convert_document", counted)
    first, _ = turn(space)
    second, _ = turn(space)
    assert second == first
    assert sorted(converted) == ["good.md", "good.md", "other.html", "page.html"]
    assert first["twin.html"] is not None
    assert first["twin.html"].text == "text of <h1>Ports</h1>"


# --- set aside -----------------------------------------------------------------------------------------------------


def test_what_cannot_be_read_is_set_aside_and_the_rest_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = at(monkeypatch, 1)
    space = project(tmp_path, bad__md=BAD)
    read, library = turn(space)
    assert {path for path, document in read.items() if document} == {"good.md"}
    [aside] = library.quarantined
    assert (aside.document, aside.attempts, aside.since) == ("bad.md", 1, now)
    assert aside.reason
    assert "\n" not in aside.reason
    assert kept(space) == {"bad.md": aside}


def test_it_is_tried_as_often_as_the_limit_says_and_no_oftener(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = at(monkeypatch, 1)
    space = project(tmp_path, bad__md=BAD)
    tried = []
    for hour in range(1, LIMIT + 4):
        at(monkeypatch, hour)
        read, library = turn(space)
        tried.append("bad.md" in read)
        assert kept(space)["bad.md"].attempts == min(hour, LIMIT)
        assert library.retries == (hour < LIMIT)
    assert tried == [True] * LIMIT + [False] * 3
    assert kept(space)["bad.md"].since == first


def given_up(root: Path) -> Workspace:
    """A project whose bad page has been tried often enough."""
    space = project(root, bad__md=BAD)
    for _ in range(LIMIT):
        turn(space)
    assert "bad.md" not in DocumentReader(space, take_snapshot(space)).due
    return space


def test_other_content_is_a_new_document_and_may_fail_anew(tmp_path: Path) -> None:
    space = given_up(tmp_path)
    write(space.kb / "bad.md", BAD + b"more")
    turn(space)
    assert kept(space)["bad.md"].attempts == 1


def test_what_can_be_read_again_is_struck_off(tmp_path: Path) -> None:
    space = given_up(tmp_path)
    write(space.kb / "bad.md", "good now")
    read, library = turn(space)
    assert read["bad.md"] is not None
    assert library.quarantined == ()
    assert kept(space) == {}


def test_what_is_gone_is_struck_off(tmp_path: Path) -> None:
    space = given_up(tmp_path)
    (space.kb / "bad.md").unlink()
    turn(space)
    assert kept(space) == {}


def test_nothing_counts_against_a_document_that_another_converter_failed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = given_up(tmp_path)
    monkeypatch.setattr(module, "converter_signature", lambda: "convert-next")
    read, _ = turn(space)
    assert "bad.md" in read
    assert kept(space)["bad.md"].attempts == 1
    assert Quarantine.read(space.quarantine_file).converter.startswith("convert-next")


def test_a_higher_limit_gives_a_document_its_further_tries(tmp_path: Path) -> None:
    given_up(tmp_path)
    patient = workspace(tmp_path, data={"max_attempts": LIMIT + 1})
    assert "bad.md" in DocumentReader(patient, take_snapshot(patient)).due


def test_a_document_that_was_too_large_is_read_once_the_limit_is_raised(tmp_path: Path) -> None:
    small = workspace(tmp_path, data={"max_document_bytes": 10})
    write(small.kb / "page.md", "longer than ten bytes")
    for _ in range(LIMIT + 1):
        turn(small)
    large = workspace(tmp_path, data={"max_document_bytes": 1000})
    read, library = turn(large)
    assert read.get("page.md"), "what its reason says to do must help"
    assert library.quarantined == ()


def test_a_document_that_lacked_a_library_is_read_once_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = project(tmp_path, page__pdf=b"%PDF-1.4 ...")

    def without(path: str, _content: bytes) -> str:
        if path.endswith(".pdf"):
            raise DocumentError(MISSING)
        return "text"

    with monkeypatch.context() as patch:
        patch.setattr(module, "converter_signature", lambda: CONVERTER)
        patch.setattr(module, "convert_document", without)
        for _ in range(LIMIT + 1):
            turn(space)
    monkeypatch.setattr(module, "converter_signature", lambda: f"{CONVERTER}+formats")
    monkeypatch.setattr(module, "convert_document", lambda _path, _content: "text")
    read, _ = turn(space)
    assert read.get("page.pdf"), "what its reason says to do must help"
    assert kept(space) == {}


def test_looking_without_keeping_uses_up_no_try(tmp_path: Path) -> None:
    space = project(tmp_path, bad__md=BAD)
    for _ in range(LIMIT + 2):
        library = DocumentReader(space, take_snapshot(space))
        assert library.read("bad.md") is None
    assert not space.quarantine_file.exists()


def test_a_document_that_is_read_twice_in_a_turn_was_tried_once(tmp_path: Path) -> None:
    space = project(tmp_path, bad__md=BAD)
    library = DocumentReader(space, take_snapshot(space))
    for _ in range(3):
        library.read("bad.md")
    library.keep()
    assert kept(space)["bad.md"].attempts == 1


def test_what_was_set_aside_is_known_before_anything_is_read(tmp_path: Path) -> None:
    space = project(tmp_path, bad__md=BAD)
    turn(space)
    assert [one.document for one in DocumentReader(space, take_snapshot(space)).quarantined] == ["bad.md"]


def test_a_file_that_is_none_that_one_could_read_is_set_aside_without_being_due(tmp_path: Path) -> None:
    space = project(tmp_path)
    (space.kb / "nowhere.md").symlink_to(tmp_path / "nothing")
    for _ in range(2):
        read, library = turn(space)
        assert set(read) == {"good.md"}
        [aside] = library.quarantined
        assert (aside.document, aside.digest, aside.attempts) == ("nowhere.md", None, 0)
        assert aside.reason == "is a link to nothing"
    assert library.retries == 0


def test_a_link_that_is_mended_is_read_at_once(tmp_path: Path) -> None:
    space = project(tmp_path)
    link = space.kb / "nowhere.md"
    link.symlink_to(tmp_path / "nothing")
    for _ in range(LIMIT + 1):
        turn(space)
    link.unlink()
    write(link, "a page now")
    read, _ = turn(space)
    assert read["nowhere.md"] is not None
    assert kept(space) == {}


def test_a_quarantine_that_is_half_there_is_named(tmp_path: Path) -> None:
    space = project(tmp_path)
    write(space.quarantine_file, '{"converter": ')
    with pytest.raises(UserError, match=r"quarantine\.json cannot be read as a Quarantine"):
        DocumentReader(space, take_snapshot(space))


def test_a_good_folder_keeps_no_quarantine(tmp_path: Path) -> None:
    space = project(tmp_path)
    turn(space)
    assert not space.quarantine_file.exists()


PAGES = st.dictionaries(st.sampled_from(["a.md", "b.txt", "c.md"]), st.sampled_from([GOOD, "other", BAD]), max_size=3)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.lists(PAGES, min_size=1, max_size=6))
def test_whatever_happens_to_a_folder_every_document_is_read_or_set_aside(turns: list[Any]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        space = project(Path(folder))
        for pages in turns:
            for name in ("a.md", "b.txt", "c.md"):
                (space.kb / name).unlink(missing_ok=True)
            for name, content in pages.items():
                write(space.kb / name, content)
            read, library = turn(space)
            there = {path for path, document in read.items() if document}
            aside = {one.document for one in library.quarantined}
            assert there | aside == {"good.md", *pages}
            assert not there & aside
            assert aside == {name for name, content in pages.items() if content == BAD}
            assert all(one.attempts <= LIMIT for one in library.quarantined)


# --- an empty folder -----------------------------------------------------------------------------------------------


def test_what_can_be_read_is_not_refused() -> None:
    require_documents(Path("kb"), {"a.md": md5("a")}, ())


def test_a_folder_without_documents_is_refused_with_where_the_formats_stand() -> None:
    with pytest.raises(UserError, match=r"^kb holds no documents: README\.md lists the formats that are read$"):
        require_documents(Path("kb"), {}, ())


def test_a_folder_of_which_nothing_can_be_read_is_refused_with_a_reason() -> None:
    aside = QuarantinedDocument(document="a.pdf", digest=md5("a"), reason="is scanned", attempts=1, since="2030")
    said = r"^kb: none of its 2 documents can be read \(a\.pdf: is scanned\): `ragtide status` lists them$"
    with pytest.raises(UserError, match=said):
        require_documents(Path("kb"), {}, (aside, aside.model_copy(update={"document": "b.pdf"})))


def test_only_what_has_a_format_is_a_document() -> None:
    assert supported_documents(snapshot({"a.md": "1", "b.png": "2", "c.pdf": "3"})) == {"a.md": "1", "c.pdf": "3"}
