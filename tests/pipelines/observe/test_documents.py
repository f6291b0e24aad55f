"""Is a document's text what its file says? And is a file that cannot be read refused by name, before anything else?"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.errors import RefusalError
from pipelines.observe.documents import FORMATS, as_text, is_document, read_documents
from pipelines.observe.snapshot import compose, observe
from pipelines.records import Document
from tests.factories import md5, workspace, write

PAGE = "<html><body><h1>Ports</h1><h2>Web</h2><p>Listens on <b>8080</b>.</p><ul><li>TLS</li></ul></body></html>"
LINES = st.lists(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"])), max_size=6)


def read(root: Path, max_bytes: int = 1000, **pages: bytes) -> list[Document]:
    """The documents of a new project at `root`; `pages` are named with `__` for the dot."""
    project = workspace(root)
    for name, content in pages.items():
        write(project.kb / name.replace("__", "."), content)
    return read_documents(project.kb, observe(project), max_bytes)


@pytest.mark.parametrize("path", ["a.md", "deep/a.markdown", "a.TXT", "a.text", "a.rst", "a.html", "a.HTM", "a.b.md"])
def test_a_document_is_known_by_its_ending(path: str) -> None:
    assert is_document(path)


@pytest.mark.parametrize("path", ["a.pdf", "md", ".md", "a.md.bak", "a.md/b", "a", "a.jsonl", "README"])
def test_other_files_are_not_documents(path: str) -> None:
    assert not is_document(path)


def test_every_format_has_an_ending_that_is_lower_case() -> None:
    assert {ending for ending in FORMATS if ending == ending.lower() and ending.startswith(".")} == FORMATS


def test_documents_come_in_order_of_path_with_the_digest_of_their_bytes(tmp_path: Path) -> None:
    project = workspace(tmp_path)
    for name in ("a/b.txt", "m.rst", "z.md"):
        write(project.kb / name, f"text of {name}")
    turned = compose(dict(reversed(observe(project).documents.items())), {}, {})
    documents = read_documents(project.kb, turned, 1000)
    assert documents == [
        Document(id=name, text=f"text of {name}", digest=md5(f"text of {name}"))
        for name in ("a/b.txt", "m.rst", "z.md")
    ]


def test_a_file_of_another_kind_lies_there_unread(tmp_path: Path) -> None:
    assert [one.id for one in read(tmp_path, page__md=b"text", picture__png=b"\xff\xd8\xff")] == ["page.md"]


def test_a_folder_without_documents_is_refused_with_the_endings_that_count(tmp_path: Path) -> None:
    with pytest.raises(RefusalError, match=r"kb holds no documents: put .*\.html, .*\.md, .* files there"):
        read(tmp_path, picture__png=b"\xff\xd8\xff")


@pytest.mark.parametrize(("size", "fits"), [(10, True), (11, False)])
def test_a_document_may_be_as_large_as_the_limit_and_no_larger(size: int, fits: bool, tmp_path: Path) -> None:
    if fits:
        assert len(read(tmp_path, 10, page__md=b"x" * size)[0].text) == size
        return
    with pytest.raises(RefusalError, match=r"page\.md has 11 bytes, over observe\.max_document_bytes = 10: split it"):
        read(tmp_path, 10, page__md=b"x" * size)


def test_a_document_that_is_not_utf_8_is_named_with_the_byte(tmp_path: Path) -> None:
    with pytest.raises(RefusalError, match=r"kb/page\.md is not UTF-8 \(byte 3\): save it as UTF-8"):
        read(tmp_path, page__md="café".encode("latin-1"))


def test_a_document_that_changed_since_the_snapshot_is_refused(tmp_path: Path) -> None:
    project = workspace(tmp_path)
    page = write(project.kb / "page.md", "old")
    snapshot = observe(project)
    write(page, "new")
    with pytest.raises(RefusalError, match=r"page\.md changed while it was being read"):
        read_documents(project.kb, snapshot, 1000)


def test_a_document_that_is_gone_since_the_snapshot_is_refused(tmp_path: Path) -> None:
    project = workspace(tmp_path)
    page = write(project.kb / "page.md", "old")
    snapshot = observe(project)
    page.unlink()
    with pytest.raises(RefusalError, match=r"page\.md cannot be read \(No such file or directory\)"):
        read_documents(project.kb, snapshot, 1000)


@settings(derandomize=True, deadline=None)
@given(LINES)
def test_text_is_read_as_it_was_written(lines: list[str]) -> None:
    text = "\n".join(["first", *lines])
    assert as_text(Path("page.md"), text.encode()) == text


@settings(derandomize=True, deadline=None)
@given(LINES)
def test_line_ends_and_a_byte_order_mark_do_not_change_a_text(lines: list[str]) -> None:
    unix = "\n".join(["first", *lines]).encode()
    windows = b"\xef\xbb\xbf" + "\r\n".join(["first", *lines]).encode()
    assert as_text(Path("page.txt"), windows) == as_text(Path("page.txt"), unix)


@pytest.mark.parametrize("name", ["page.html", "page.HTM"])
def test_the_headings_of_a_web_page_become_headings_of_markdown(name: str) -> None:
    lines = as_text(Path(name), PAGE.encode()).splitlines()
    assert [line for line in lines if line] == ["# Ports", "## Web", "Listens on **8080**.", "* TLS"]


def test_html_in_a_markdown_file_stays_as_it_is() -> None:
    assert as_text(Path("page.md"), PAGE.encode()) == PAGE


def test_what_a_web_page_does_not_show_is_not_read() -> None:
    page = b"<style>body{color:red}</style><script>var s=1;</script><template>later</template><h1>Ports</h1>"
    assert as_text(Path("a.html"), page).split() == ["#", "Ports"]


def test_a_web_page_that_looks_like_the_name_of_one_is_read() -> None:
    assert as_text(Path("a.html"), b"https://example.org/page.html").strip() == "https://example.org/page.html"


def test_a_web_page_nested_beyond_reason_is_refused_by_name() -> None:
    with pytest.raises(RefusalError, match=r"a\.html is nested too deeply"):
        as_text(Path("a.html"), b"<div>" * 5000 + b"text")


def test_line_ends_of_every_system_are_line_ends() -> None:
    assert as_text(Path("a.md"), b"one\r\ntwo\rthree\n") == "one\ntwo\nthree\n"
