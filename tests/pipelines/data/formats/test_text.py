"""Tests of plain text: encodings, line ends, empty and binary content."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragtide.pipelines.data.formats.converter import convert_document
from tests.pipelines.data.formats.samples import (
    error_of,
)

LINES = st.lists(st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs", "Cn", "Co"])), max_size=6)


@settings(derandomize=True, deadline=None)
@given(LINES)
def test_text_is_unchanged(lines: list[str]) -> None:
    text = "\n".join(["first", *lines])
    assert convert_document("page.md", text.encode()) == text


@settings(derandomize=True, deadline=None)
@given(LINES)
def test_line_ends_byte_order_mark_and_utf_16_do_not_change_a_text(lines: list[str]) -> None:
    text = "\n".join(["first", *lines])
    windows = "\r\n".join(["first", *lines])
    assert convert_document("page.txt", b"\xef\xbb\xbf" + windows.encode()) == text
    assert convert_document("page.txt", windows.encode("utf-16")) == text


@pytest.mark.parametrize(
    "content", [b"# Pump\n\nThe pump ends in 2027.\n\n", bytes(range(1, 255)), bytes(range(254, 0, -1)) * 3]
)
@pytest.mark.parametrize("mark", [b"\xff\xfe", b"\xfe\xff"])
def test_other_bytes_behind_a_mark_of_utf_16_are_no_text(mark: bytes, content: bytes) -> None:
    assert "UTF-16" in error_of("page.md", mark + content)


def test_a_text_in_utf_16_may_have_a_character_that_is_not_known_yet() -> None:
    text = "中文的一行文字，没有空格和换行符也是文本。" * 3 + "\U00018d09"
    assert convert_document("page.txt", text.encode("utf-16")) == text


def test_line_ends_of_every_system_become_newlines() -> None:
    assert convert_document("a.md", b"one\r\ntwo\rthree\n") == "one\ntwo\nthree\n"


@pytest.mark.parametrize("ending", [".md", ".rst", ".txt", ".html", ".csv", ".json", ".jsonl", ".ipynb"])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b" \n\t\r\n", "is empty"),
        (b"GIF89a\0\0\xff", "is binary, not text"),
        ("x\0y".encode("utf-16"), "is binary, not text"),
        ("text é".encode("latin-1"), "is not UTF-8 (byte 5): save it as UTF-8"),
        ("text".encode("utf-16")[:-1], "is not UTF-16 (byte 8): save it as UTF-8"),
    ],
)
def test_binary_content_and_other_encodings_are_errors(ending: str, content: bytes, reason: str) -> None:
    assert error_of(f"page{ending}", content) == reason


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("a.md", "\ufeff\u2003\n".encode()),
        ("a.html", b"<script>var port = 8080;</script><p> </p>"),
        ("a.csv", b",,\n,,\n"),
        ("a.json", b'{"a": null, "b": [], "c": ""}'),
        ("a.jsonl", b"null\n{}\n"),
        ("a.ipynb", b'{"cells": [{"cell_type": "code", "source": " "}]}'),
    ],
)
def test_a_document_without_text_is_an_error(path: str, content: bytes) -> None:
    assert error_of(path, content) == "holds no text"
