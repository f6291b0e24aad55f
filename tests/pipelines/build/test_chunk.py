"""Is a document cut along its headings, with nothing lost and nothing too long, and the same after a re-wrap?"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.build.chunk import chunk_document, chunk_documents, text_digest
from pipelines.observe.documents import as_text
from pipelines.params import ChunkParams
from pipelines.records import Chunk
from tests.factories import document

WORD = st.text(alphabet="abcdeäß日", min_size=1, max_size=8)
LINE = st.lists(WORD, min_size=1, max_size=50).map(" ".join)
PARAGRAPH = st.lists(LINE, min_size=1, max_size=4).map("\n".join)
BODY = st.lists(PARAGRAPH, min_size=1, max_size=4).map("\n\n".join)
# A level and what stands below the heading.
SECTIONS = st.lists(st.tuples(st.integers(1, 4), BODY), min_size=1, max_size=4)
SHORT = st.lists(st.lists(WORD, min_size=1, max_size=20).map(" ".join), min_size=1, max_size=5)


def cut(text: str, name: str = "page.md", max_words: int = 160) -> list[Chunk]:
    return chunk_document(document(name, text), ChunkParams(max_words=max_words))


def body(chunk: Chunk) -> str:
    """A chunk's text without the line that its heading path stands in."""
    return chunk.text.removeprefix(f"{chunk.heading}\n") if chunk.heading else chunk.text


def outline(chunks: list[Chunk]) -> list[tuple[str, str]]:
    return [(chunk.heading, body(chunk)) for chunk in chunks]


def words(texts: list[str]) -> list[str]:
    return [word for text in texts for word in text.split()]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("atx.md", "before\n\n# Top\n\nintro\n\n## Sub\n\nmore\n\n### Deep\n\ndeepest\n\n## Next\n\nlast\n"),
        ("closed.md", "before\n# Top #\nintro\n## Sub ##\nmore\n### Deep ###\ndeepest\n## Next\nlast"),
        ("setext.md", "before\n\nTop\n===\nintro\n\nSub\n---\nmore\n\n### Deep\ndeepest\n\nNext\n---\n\nlast\n"),
        ("page.MARKDOWN", "before\n\n# Top\n\nintro\n\n## Sub\n\nmore\n\n### Deep\n\ndeepest\n\n## Next\n\nlast\n"),
        (
            "page.rst",
            "before\n\nTop\n===\n\nintro\n\nSub\n---\n\nmore\n\nDeep\n~~~~\n\ndeepest\n\nNext\n----\n\nlast\n",
        ),
        (
            "over.rst",
            "before\n\n=====\n Top\n=====\nintro\n\nSub\n===\n\nmore\n\nDeep\n----\n\ndeepest\n\nNext\n====\n\nlast\n",
        ),
    ],
)
def test_headings_set_the_path(name: str, text: str) -> None:
    assert outline(cut(text, name)) == [
        ("", "before"),
        ("Top", "intro"),
        ("Top > Sub", "more"),
        ("Top > Sub > Deep", "deepest"),
        ("Top > Next", "last"),
    ]


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("page.md", "```sh\n# a comment\nrun\n```"),
        ("page.md", "~~~\n# a comment\n\n## another\n~~~"),
        ("page.md", "    # indented code\n    run"),
        ("page.md", "> # quoted"),
        ("page.md", "- # in a list\n  item"),
        ("page.md", "#no-space\n#1 in sales"),
        ("page.md", "| # | name |\n|---|------|\n| # 1 | a |"),
        ("page.rst", "# a comment\nrun"),
        ("page.rst", "::\n\n    Name\n    ----\n    x"),
        ("page.rst", "one paragraph\n\n----\n\nanother"),
        ("page.rst", "A title over its line\n-----"),
        ("page.rst", "  an item\n-----------"),
        ("page.txt", "# a comment\n\nName\n----\nx"),
    ],
)
def test_what_only_looks_like_a_heading_stays_in_the_body(name: str, block: str) -> None:
    title = "# Top\n\n" if name.endswith(".md") else "Top\n===\n\n"
    [chunk] = cut(f"{title}{block}\n", name)
    assert chunk.heading == ("" if name.endswith(".txt") else "Top")
    assert words([block]) == words([chunk.text])[-len(block.split()) :]


def test_a_table_stays_as_it_is_written() -> None:
    table = "| product | end of life |\n|---|---|\n| Quill 1 | 2030-01-01 |\n| Quill 2 | 2031-01-01 |"
    assert outline(cut(f"# Quill\n\n{table}\n")) == [("Quill", table)]


def test_lines_of_code_keep_their_indentation() -> None:
    code = "```python\ndef f():\n    return 1\n```"
    assert outline(cut(f"# Code\n\n{code}\n")) == [("Code", code)]


def test_converted_html_is_cut_at_its_headings() -> None:
    page = b"<h1>Top</h1><p>intro</p><h2>Sub</h2><ul><li>one</li><li>two</li></ul><pre># no heading</pre>"
    chunks = cut(as_text(Path("page.html"), page), "page.html")
    assert [chunk.heading for chunk in chunks] == ["Top", "Top > Sub"]
    assert "intro" in chunks[0].text
    assert re.findall("one|two|# no heading", chunks[1].text) == ["one", "two", "# no heading"]


def test_a_title_keeps_its_mark_up() -> None:
    assert outline(cut("# The `run` *command* & more\n\nx")) == [("The `run` *command* & more", "x")]


@pytest.mark.parametrize("text", ["", " ", "\n\n", "\t\n \n"])
@pytest.mark.parametrize("name", ["page.md", "page.rst", "page.txt", "page.html"])
def test_an_empty_document_gives_nothing(name: str, text: str) -> None:
    assert cut(text, name) == []


def test_a_document_of_only_headings_is_one_chunk_with_all_of_them() -> None:
    [chunk] = cut("# Top\n\n## Sub\n\nOther\n-----\n")
    assert {"Top", "Sub", "Other"} <= set(chunk.text.split())
    assert (chunk.heading, chunk.position) == ("", 0)


def test_paragraphs_are_gathered_up_to_the_limit_and_not_across_headings() -> None:
    ten = " ".join(["word"] * 10)
    text = f"# A\n\n{ten}\n\n{ten}\n\n{ten}\n\n# B\n\n{ten}\n"
    assert [(chunk.heading, len(body(chunk).split())) for chunk in cut(text, max_words=20)] == [
        ("A", 20),
        ("A", 10),
        ("B", 10),
    ]


def test_a_paragraph_over_the_limit_is_cut_between_its_lines() -> None:
    rows = [f"| row {number} | a | b |" for number in range(12)]
    chunks = cut("# Table\n\n" + "\n".join(rows), max_words=20)
    assert len(chunks) > 1
    assert [line for chunk in chunks for line in body(chunk).split("\n")] == rows


def with_headings(sections: list[tuple[int, str]]) -> str:
    return "\n\n".join(f"{'#' * level} Title {at}\n\n{text}" for at, (level, text) in enumerate(sections))


@settings(derandomize=True, deadline=None)
@given(SECTIONS, st.integers(20, 60))
def test_every_word_of_the_body_is_in_one_chunk_and_none_is_too_long(
    sections: list[tuple[int, str]], max_words: int
) -> None:
    chunks = cut(with_headings(sections), max_words=max_words)
    assert words([body(chunk) for chunk in chunks]) == words([text for _, text in sections])
    assert max(len(body(chunk).split()) for chunk in chunks) <= max_words
    assert all(chunk.heading.split(" > ")[-1].startswith("Title ") for chunk in chunks)


@settings(derandomize=True, deadline=None)
@given(st.text(max_size=300))
def test_plain_text_keeps_every_word_whatever_it_is(text: str) -> None:
    chunks = cut(text, "page.txt", max_words=20)
    assert words([chunk.text for chunk in chunks]) == text.split()


@settings(derandomize=True, deadline=None)
@given(st.text(alphabet="#=-~`>|* \n\tab.:+_[]<!", max_size=120), st.sampled_from(["md", "rst", "txt", "html"]))
def test_no_document_breaks_the_chunker(text: str, suffix: str) -> None:
    chunks = cut(text, f"page.{suffix}", max_words=20)
    assert bool(chunks) is bool(text.strip())
    assert [chunk.position for chunk in chunks] == list(range(len(chunks)))
    assert all(chunk.text.strip() and chunk.text.startswith(chunk.heading) for chunk in chunks)


@settings(derandomize=True, deadline=None)
@given(SHORT, st.integers(1, 60), st.sampled_from(["page.md", "page.rst", "page.txt"]))
def test_a_re_wrap_of_the_paragraphs_gives_the_same_digests(paragraphs: list[str], width: int, name: str) -> None:
    def wrapped(columns: int) -> str:
        return "\n\n".join(textwrap.fill(text, columns, break_long_words=False) for text in paragraphs)

    before, after = cut(wrapped(10_000), name, max_words=20), cut(wrapped(width), name, max_words=20)
    assert [chunk.digest for chunk in before] == [chunk.digest for chunk in after]


def test_the_text_begins_with_the_heading_path_in_every_chunk_of_a_section() -> None:
    chunks = cut("# Top\n\n## Sub\n\n" + "\n\n".join(["word " * 15] * 3), max_words=20)
    assert [chunk.text.split("\n")[0] for chunk in chunks] == ["Top > Sub"] * 3


def test_a_moved_file_has_the_same_texts_and_digests() -> None:
    text = "intro\n\n# Top\n\nsome text\n"
    here, there = cut(text, "secret-folder/here.md"), cut(text, "there.md")
    assert [(chunk.text, chunk.digest) for chunk in here] == [(chunk.text, chunk.digest) for chunk in there]
    assert not [chunk for chunk in here if "here" in chunk.text or "secret" in chunk.text]
    assert {chunk.document for chunk in here} == {"secret-folder/here.md"}


def test_positions_count_from_0_in_each_document() -> None:
    pages = [document("a.md", "# A\n\none\n\n# B\n\ntwo"), document("empty.md", ""), document("b.md", "three")]
    chunks = chunk_documents(pages, ChunkParams())
    assert [chunk.key for chunk in chunks] == [("a.md", 0), ("a.md", 1), ("b.md", 0)]
    assert [chunk.document_digest for chunk in chunks] == [pages[0].digest, pages[0].digest, pages[2].digest]


@pytest.mark.parametrize("same", ["a b", " a  b ", "a\nb", "a\t\n b\n"])
def test_white_space_does_not_change_a_digest(same: str) -> None:
    assert text_digest(same) == text_digest("a b")
    assert len(text_digest(same)) == 32


@pytest.mark.parametrize("other", ["ab", "a b c", "A b", "a b.", "b a"])
def test_another_text_has_another_digest(other: str) -> None:
    assert text_digest(other) != text_digest("a b")


def test_the_same_section_under_another_heading_is_another_text() -> None:
    assert {chunk.digest for chunk in cut("# A\n\nsame\n")} != {chunk.digest for chunk in cut("# B\n\nsame\n")}


def test_front_matter_is_text_and_no_heading() -> None:
    text = "---\ntitle: Quill\nauthor: me\n---\n\n# Quill\n\nbody\n"
    first, last = chunk_document(document("page.md", text), ChunkParams())
    assert (first.heading, last.heading) == ("", "Quill")
    assert "author: me" in first.text
