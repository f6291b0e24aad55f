"""Tests of HTML pages as Markdown."""

from __future__ import annotations

import pytest

from ragtide.pipelines.data.formats.converter import convert_document
from tests.pipelines.data.formats.samples import (
    PAGE,
)


@pytest.mark.parametrize("name", ["page.html", "page.HTM"])
def test_html_headings_become_markdown_headings(name: str) -> None:
    lines = convert_document(name, PAGE.encode()).splitlines()
    assert [line for line in lines if line] == ["# Ports", "## Web", "Listens on **8080**.", "* TLS"]


def test_html_in_a_markdown_file_is_unchanged() -> None:
    assert convert_document("page.md", PAGE.encode()) == PAGE


def test_invisible_html_elements_are_dropped() -> None:
    page = b"<style>body{color:red}</style><script>var s=1;</script><template>later</template><h1>Ports</h1>"
    assert convert_document("a.html", page).split() == ["#", "Ports"]


def test_a_page_that_consists_of_a_url_is_read() -> None:
    assert convert_document("a.html", b"https://example.org/page.html").strip() == "https://example.org/page.html"


def test_xhtml_is_read_as_html() -> None:
    assert convert_document("a.html", b'<?xml version="1.0"?>\n<html><p>Ports</p></html>').strip() == "Ports"
