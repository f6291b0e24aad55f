"""Tests of chunking: headings, length limits, completeness, and independence of line breaks."""

from __future__ import annotations

import re
import textwrap

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ragtide.pipelines.data.formats.converter import convert_document
from ragtide.pipelines.index.chunking import chunk_document, chunk_documents, text_digest
from ragtide.pipelines.params import ChunkParams
from ragtide.pipelines.records.data import OVERVIEW, Chunk
from tests.factories import document

WORD = st.text(alphabet="abcdeäß日", min_size=1, max_size=8)
LINE = st.lists(WORD, min_size=1, max_size=50).map(" ".join)
PARAGRAPH = st.lists(LINE, min_size=1, max_size=4).map("\n".join)
BODY = st.lists(PARAGRAPH, min_size=1, max_size=4).map("\n\n".join)
# The level of a heading and the text below it.
SECTIONS = st.lists(st.tuples(st.integers(1, 4), BODY), min_size=1, max_size=4)


def cut(text: str, name: str = "page.md", max_words: int = 160) -> list[Chunk]:
    """The passages of a page, without its overview."""
    return [
        chunk for chunk in chunk_document(document(name, text), ChunkParams(max_words=max_words)) if chunk.position >= 0
    ]


def body(chunk: Chunk) -> str:
    """A chunk's text without the line of its heading path."""
    heading, _, rest = chunk.text.partition("\n")
    return rest if heading == chunk.heading else chunk.text


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
        ("page.txt", "# a comment\nrun"),
        ("page.txt", "Name    Price\n-------------\nPump    12"),
        ("page.txt", "Name | Price\n------------\nPump | 12"),
        ("page.txt", "Name\tPrice\n-----------\nPump\t12"),
        ("page.txt", "Name   Price\n-----  -----\nPump   12"),
        ("page.txt", "a paragraph\nof two lines\n------------"),
        ("page.txt", "- an item\n---------"),
    ],
)
def test_text_that_resembles_a_heading_stays_in_the_body(name: str, block: str) -> None:
    title = "# Top\n\n" if name.endswith(".md") else "Top\n===\n\n"
    [chunk] = cut(f"{title}{block}\n", name)
    assert chunk.heading == "Top"
    assert words([block]) == words([chunk.text])[-len(block.split()) :]


def test_plain_text_that_is_restructuredtext_has_its_sections_and_other_text_has_none() -> None:
    text = "=====\nPumps\n=====\n\nintro\n\nPump 1\n------\n\n.. note:: It ends in 2030.\n\nParts\n~~~~~\n\nvalve\n"
    expected = ["Pumps", "Pumps > Pump 1", "Pumps > Pump 1 > Parts"]
    for name in ("page.txt", "page.text", "page.rst"):
        assert [chunk.heading for chunk in cut(text, name)] == expected
    assert {chunk.heading for chunk in cut("One paragraph.\n\nAnother one.\n", "page.txt")} == {""}


def test_a_table_is_unchanged() -> None:
    table = "| product | end of life |\n|---|---|\n| Quill 1 | 2030-01-01 |\n| Quill 2 | 2031-01-01 |"
    assert outline(cut(f"# Quill\n\n{table}\n")) == [("Quill", table)]


def test_lines_of_code_keep_their_indentation() -> None:
    code = "```python\ndef f():\n    return 1\n```"
    assert outline(cut(f"# Code\n\n{code}\n")) == [("Code", code)]


def test_converted_html_is_cut_at_its_headings() -> None:
    page = b"<h1>Top</h1><p>intro</p><h2>Sub</h2><ul><li>one</li><li>two</li></ul><pre># no heading</pre>"
    chunks = cut(convert_document("page.html", page), "page.html")
    assert [chunk.heading for chunk in chunks] == ["Top", "Top > Sub"]
    assert "intro" in chunks[0].text
    assert re.findall("one|two|# no heading", chunks[1].text) == ["one", "two", "# no heading"]


def test_a_title_keeps_its_mark_up() -> None:
    assert outline(cut("# The `run` *command* & more\n\nx")) == [("The `run` *command* & more", "x")]


@pytest.mark.parametrize("text", ["", " ", "\n\n", "\t\n \n"])
@pytest.mark.parametrize("name", ["page.md", "page.rst", "page.txt", "page.html"])
def test_an_empty_document_has_no_chunks(name: str, text: str) -> None:
    assert cut(text, name) == []


def test_a_heading_with_nothing_below_it_is_a_chunk_of_its_own() -> None:
    chunks = cut("# Top\n\n## No Sub\n\n## Sub\n\ntext\n\n# Other\n\n### Deep\n")
    assert outline(chunks) == [("Top > No Sub", ""), ("Top > Sub", "text"), ("Other > Deep", "")]
    assert chunks[0].text == "Top > No Sub"


@pytest.mark.parametrize(
    ("text", "headings"),
    [
        ("# Top\n\n## Sub\n\nOther\n-----\n", ["Top > Sub", "Top > Other"]),
        ("# Only", ["Only"]),
        ("# A\n# B\n# C", ["A", "B", "C"]),
        ("# A\n\n\n\n# B\n", ["A", "B"]),
        ("### Deep\n# Top", ["Deep", "Top"]),
    ],
)
def test_a_document_of_headings_alone_has_a_chunk_for_each_leaf(text: str, headings: list[str]) -> None:
    assert outline(cut(text)) == [(heading, "") for heading in headings]


def test_paragraphs_are_joined_up_to_the_limit_but_not_across_headings() -> None:
    ten = " ".join(["word"] * 10)
    text = f"# A\n\n{ten}\n\n{ten}\n\n{ten}\n\n# B\n\n{ten}\n"
    assert [(chunk.heading, len(body(chunk).split())) for chunk in cut(text, max_words=20)] == [
        ("A", 20),
        ("A", 10),
        ("B", 10),
    ]


# --- long blocks -----------------------------------------------------------------------------------------------------


def bodies(text: str, max_words: int = 20) -> list[str]:
    return [body(chunk) for chunk in cut(f"# Top\n\n{text}\n", max_words=max_words)]


def numbered(count: int, first: int = 0) -> str:
    return " ".join(f"w{number}" for number in range(first, first + count))


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([f"- item {at} of a list" for at in range(12)], id="list"),
        pytest.param([f"{at}. item of a list" for at in range(1, 13)], id="numbered list"),
        pytest.param([f"{at}) item of a list" for at in range(1, 13)], id="numbered in brackets"),
        pytest.param([f"  * item {at} further in" for at in range(12)], id="indented list"),
        pytest.param([f"| row {at} | a | b |" for at in range(12)], id="table without a head"),
        pytest.param([f"> line {at} of a quotation" for at in range(12)], id="quotation"),
        pytest.param([f"    call({at}, with, some, words)" for at in range(12)], id="indented code"),
        pytest.param([f"\tcall({at}, with, some, words)" for at in range(12)], id="code after a tab"),
    ],
)
def test_lists_and_quotations_are_cut_between_lines(lines: list[str]) -> None:
    parts = bodies("\n".join(lines))
    assert len(parts) > 1
    assert [line.strip() for part in parts for line in part.split("\n")] == [line.strip() for line in lines]


def test_a_long_block_of_code_is_cut_between_lines() -> None:
    code = ["```python", *(f"value_{at} = call({at}, 1)" for at in range(12)), "```"]
    parts = bodies("\n".join(code))
    assert len(parts) > 1
    assert [line for part in parts for line in part.split("\n")] == code


@pytest.mark.parametrize("end", [".", "!", "?", ":", ";", '."', ".)", "。"])
def test_a_long_paragraph_is_cut_after_a_sentence(end: str) -> None:
    sentences = [f"{numbered(13, at)}{end}" for at in range(0, 39, 13)]
    assert bodies(" ".join(sentences)) == sentences


def test_a_long_paragraph_without_sentences_is_cut_at_the_limit() -> None:
    assert bodies(numbered(45)) == [numbered(20), numbered(20, 20), numbered(5, 40)]


def test_an_early_sentence_end_makes_no_small_part() -> None:
    assert bodies(f"Yes. {numbered(30)}") == [f"Yes. {numbered(19)}", numbered(11, 19)]


def test_a_long_word_is_not_cut() -> None:
    assert bodies("x" * 5000) == ["x" * 5000]


def table(columns: int, rows: int, title: str = "c") -> tuple[list[str], list[str]]:
    """A Markdown table's header and its rows."""
    head = ["| " + " | ".join(f"{title}{at}" for at in range(columns)) + " |", "|" + " --- |" * columns]
    return head, ["| " + " | ".join(f"r{row}v{at}" for at in range(columns)) + " |" for row in range(rows)]


def test_a_cut_table_repeats_its_header() -> None:
    head, rows = table(2, 12)
    parts = [part.split("\n") for part in bodies("\n".join([*head, *rows]))]
    assert len(parts) > 1
    assert [part[:2] for part in parts] == [head] * len(parts)
    assert [row for part in parts for row in part[2:]] == rows


@pytest.mark.parametrize("rule", ["|---|---|", "| :-- | --: |", "--- | ---", "  |-|-|"])
def test_a_table_header_is_recognised_with_any_delimiter_row(rule: str) -> None:
    rows = [f"| row {at} | value |" for at in range(12)]
    parts = bodies("\n".join(["| name | value |", rule, *rows]))
    assert len(parts) > 1
    assert all(part.startswith("| name | value |\n") for part in parts)


def test_a_table_that_fits_is_not_cut() -> None:
    head, rows = table(2, 2)
    assert bodies("\n".join([*head, *rows]), max_words=40) == ["\n".join([*head, *rows])]


@pytest.mark.parametrize("columns", [4, 12, 30, 60, 100])
def test_a_row_of_a_wide_table_is_not_cut_to_pieces(columns: int) -> None:
    head, rows = table(columns, 10)
    parts = [part.split("\n") for part in bodies("\n".join([*head, *rows]), max_words=160)]
    assert [part[:2] for part in parts] == [head] * len(parts)
    assert [row for part in parts for row in part[2:]] == rows


# --- completeness and limits -----------------------------------------------------------------------------------------


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
def test_plain_text_keeps_every_word(text: str) -> None:
    chunks = cut(text, "page.txt", max_words=20)
    assert words([chunk.text for chunk in chunks]) == text.split()


@settings(derandomize=True, deadline=None)
@given(st.text(alphabet="#=-~`>|* \n\tab.:+_[]<!", max_size=120), st.sampled_from(["md", "rst", "txt", "html"]))
@example("#", "md")
@example("# \n\n## \n", "md")
@example("# a\n\n##\n", "md")
@example("- ", "md")
def test_no_document_breaks_the_chunker(text: str, suffix: str) -> None:
    chunks = cut(text, f"page.{suffix}", max_words=20)
    assert chunks or not any(letter.isalnum() for letter in text)
    assert text.strip() or not chunks
    assert [chunk.position for chunk in chunks] == list(range(len(chunks)))
    assert all(chunk.text.strip() and chunk.text.startswith(chunk.heading) for chunk in chunks)


WIDTHS = (1, 20, 33, 60, 79, 100, 10_000)
PROSE_WORD = st.sampled_from(
    ["on", "a", "harbour", "the", "lantern", "light.", "(oil)", "post:", "日本。", '"so."', "v1.2"]
)
# Some wraps put a year from the end of a sentence at the start of a line, where it looks like a list item.
DATED_WORD = st.sampled_from(["on", "the", "lantern", "light.", "2030.", "4)", "12."])


def wrapped(paragraphs: list[str], columns: int) -> str:
    fill = textwrap.TextWrapper(columns, break_long_words=False, break_on_hyphens=False).fill
    return "\n\n".join(fill(text) for text in paragraphs)


def digests(paragraphs: list[str], columns: int, name: str) -> list[str]:
    """The digests of all chunks, the overview among them."""
    page = document(name, wrapped(paragraphs, columns))
    return [chunk.digest for chunk in chunk_document(page, ChunkParams(max_words=20))]


def paragraphs_of(word: st.SearchStrategy[str]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.lists(word, min_size=1, max_size=90).map(" ".join), min_size=1, max_size=3)


@settings(derandomize=True, deadline=None)
@given(paragraphs_of(PROSE_WORD | WORD), st.sampled_from(["page.md", "page.rst", "page.txt"]))
def test_a_re_wrap_of_the_paragraphs_gives_the_same_digests(paragraphs: list[str], name: str) -> None:
    assert len({tuple(digests(paragraphs, width, name)) for width in WIDTHS}) == 1


@settings(derandomize=True, deadline=None)
@given(paragraphs_of(DATED_WORD), st.sampled_from(["page.rst", "page.txt", "page.md"]))
def test_a_number_at_the_start_of_a_wrapped_line_is_no_list_item(paragraphs: list[str], name: str) -> None:
    # A paragraph that begins with a number may be a list.
    prose = [f"So {text}" for text in paragraphs]
    assert len({tuple(digests(prose, width, name)) for width in WIDTHS}) == 1


def test_a_year_at_the_start_of_a_wrapped_line_does_not_change_the_cut() -> None:
    text = f"{numbered(15)} ends in 2030. {numbered(15, 20)}"
    re_wrapped = bodies(text.replace(" 2030.", "\n2030."))
    assert [part.split() for part in re_wrapped] == [part.split() for part in bodies(text)]


@settings(derandomize=True, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 8), st.integers(1, 30)), min_size=1, max_size=4), st.integers(20, 60))
def test_no_part_of_a_table_is_too_long_unless_its_header_is(tables: list[tuple[int, int]], max_words: int) -> None:
    text = "\n\n".join("\n".join(line for part in table(*size) for line in part) for size in tables)
    parts = bodies(text, max_words)
    rows = [word for part in parts for word in part.split() if word.startswith("r")]
    assert rows == [f"r{row}v{at}" for columns, count in tables for row in range(count) for at in range(columns)]
    # A table cannot be shorter than header, delimiter row and one row.
    least = max(3 * columns for columns, _ in tables)
    assert max(sum(word != "|" for word in part.split()) for part in parts) <= max(max_words, least)


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


def test_a_heading_path_holds_all_headings_above() -> None:
    chunks = cut("# A\n\n### C\n\ndeep\n\n## B\n\nless deep\n")
    assert [chunk.heading for chunk in chunks] == ["A > C", "A > B"]


def test_a_long_heading_is_in_every_part_of_its_section_beyond_the_limit() -> None:
    title = numbered(30)
    chunks = cut(f"# {title}\n\n{numbered(50, 100)}\n", max_words=20)
    assert [len(body(chunk).split()) for chunk in chunks] == [20, 20, 10]
    assert {chunk.heading for chunk in chunks} == {title}


# --- the overview ----------------------------------------------------------------------------------------------------


def overview(text: str, name: str = "page.md", max_words: int = 160) -> Chunk | None:
    chunks = chunk_document(document(name, text), ChunkParams(max_words=max_words))
    assert all(chunk.position >= 0 for chunk in chunks[1:])
    return chunks[0] if chunks and chunks[0].is_overview else None


def lines_of(text: str, name: str = "page.md", max_words: int = 160) -> list[str]:
    chunk = overview(text, name, max_words)
    return body(chunk).split("\n") if chunk else []


FILLER = "It is a boiler among boilers. " * 20


def sections(count: int, filler: str = FILLER) -> str:
    return "\n\n".join(f"## Boiler {n}\n\n- Released: 20{n}-01-01\n\n{filler}" for n in range(10, 10 + count))


def test_a_long_page_has_an_overview_of_its_headings_with_their_first_lines() -> None:
    chunk = overview(f"# Boiler\n\nA boiler heats.\n\n{sections(3)}")
    assert chunk is not None
    assert (chunk.heading, chunk.position) == ("Boiler", OVERVIEW)
    assert chunk.text.split("\n") == [
        "Boiler",
        "A boiler heats.",
        *(f"Boiler {n}: Released: 20{n}-01-01" for n in (10, 11, 12)),
    ]


def test_the_overview_of_restructuredtext_and_of_markdown_are_alike() -> None:
    rest = "\n\n".join(f"Boiler {n}\n----------\n\nReleased in 20{n}.\n\n{FILLER}" for n in range(10, 13))
    expected = [f"Boiler {n}: Released in 20{n}." for n in range(10, 13)]
    assert lines_of(f"Boiler\n======\n\n{rest}\n", "page.rst") == expected


@pytest.mark.parametrize(
    "text",
    ["", "# Top\n\ntext\n", "# Top\n\n## A\n\nshort\n\n## B\n\nshort\n", "word " * 500, f"# Top\n\n{'word ' * 500}"],
)
def test_a_short_page_and_one_without_several_sections_have_no_overview(text: str) -> None:
    assert overview(text) is None


def test_the_rows_of_a_long_table_are_in_the_overview() -> None:
    rows = "\n".join(f"| Boiler {n} | 20{n}-01-01 | {FILLER} |" for n in range(10, 40))
    lines = lines_of(f"# Boiler\n\n| Line | Released | Notes |\n|---|---|---|\n{rows}\n")
    assert [line.split(", ")[0] for line in lines] == [f"Boiler {n}: 20{n}-01-01" for n in range(10, 40)]


def test_rows_that_every_section_has_give_way_to_the_headings() -> None:
    fields = "| Released | {0} |\n| Ends | {0} |\n| Support | {0} |\n| Notes | {1} |"
    text = "\n\n".join(
        f"## Boiler {n}\n\n| Field | Value |\n|---|---|\n{fields.format(n, FILLER)}" for n in range(10, 40)
    )
    assert lines_of(f"# Boiler\n\n{text}\n") == [f"Boiler {n}: Released: {n}" for n in range(10, 40)]


def test_the_items_of_a_long_list_are_in_the_overview() -> None:
    items = "\n".join(f"- Boiler {n} came in 20{n}. {FILLER}" for n in range(10, 30))
    lines = lines_of(f"# Boiler\n\n{items}\n")
    assert [line[:23] for line in lines] == [f"Boiler {n} came in 20{n}." for n in range(10, 30)]


@pytest.mark.parametrize("max_words", [20, 40, 80, 160])
@pytest.mark.parametrize("count", [2, 5, 20, 60])
def test_an_overview_is_shortened_in_words_before_it_loses_headings(count: int, max_words: int) -> None:
    chunk = overview(f"# Boiler\n\n{sections(count)}", max_words=max_words)
    assert chunk is not None
    assert len(chunk.text.split()) <= max_words
    listed = [line.split(": ")[0] for line in chunk.text.split("\n")[1:]]
    names = [f"Boiler {n}" for n in range(10, 10 + count)]
    if 2 * count + 1 <= max_words:
        assert listed == names
    else:
        gap = listed.index("…")
        assert listed[:gap] == names[:gap]
        assert listed[gap + 1 :] == names[gap - len(listed) + 1 :]


@settings(derandomize=True, deadline=None)
@given(st.text(alphabet=st.sampled_from("a1b |-#\n:*>`~=.")), st.sampled_from(["md", "txt", "rst"]))
def test_an_overview_is_never_too_long(text: str, suffix: str) -> None:
    chunk = overview(f"# T\n\n## S\n\n{'word ' * 30}\n\n## U\n\n{text}", f"page.{suffix}", max_words=20)
    assert chunk is None or len(chunk.text.replace("|", " ").split()) <= 20 + len(chunk.heading.split())
