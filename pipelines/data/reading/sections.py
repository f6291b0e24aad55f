"""Cutting of a document's text: along its headings, then by paragraphs up to a number of words.

Runs in the processes that read documents, so it imports no more than the formats do. Every step takes time in
proportion to the text, but for the Markdown parser, which the deadline of these processes bounds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from ragtide.pipelines.data.formats.text import REST, TEXT
from ragtide.pipelines.data.reading.outline import count_words, is_table_rule, outline_sections

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

_WORD = re.compile(r"\S+")
# The start of a line that does not continue the one above it: in a list, a table, a quotation, or indented code.
_OWN_LINE = re.compile(r"^(?=[ \t]*[-*+|>] |[ \t]*\||[ ]{4}|\t)[ \t]*", flags=re.MULTILINE)
_NUMBERED = re.compile(r"^(?=[ \t]*\d+[.)] )[ \t]*", flags=re.MULTILINE)
_ANY_LINE = re.compile(r"^[ \t]*", flags=re.MULTILINE)
_FENCES = ("```", "~~~")
_SENTENCE_ENDS = (".", "!", "?", ":", ";", '."', ".)", "。")
_UNDERLINE = re.compile(r"^([=\-`:'\"~^_*+#<>.])\1{2,}+\s*+$")
# What separates the columns of a table's header.
_COLUMNS = ("\t", "  ", "|")


@dataclass(frozen=True)
class Section:
    """The text below one heading; `path` is that heading with those above it, outermost first."""

    path: tuple[str, ...]
    body: str


@dataclass(frozen=True)
class Heading:
    """A heading that spans the lines from `start` to before `end`."""

    level: int
    title: str
    start: int
    end: int


@dataclass(frozen=True)
class Piece:
    """A part of a document's text below its heading path: the headings above it, outermost first, joined by " > ".

    An overview is no part of it: its body is the document's outline.
    """

    heading: str
    body: str
    is_overview: bool = False


def cut_text(name: str, text: str, max_words: int) -> Iterator[Piece]:
    """The pieces of a document's text, in order; of `name` only the ending matters.

    The overview comes last, of a document of several sections that is longer than a piece may be: a shorter one is read
    as a whole.
    """
    sections = list(split_sections(name, text))
    words = 0
    for section in sections:
        heading = " > ".join(section.path)
        for body in _split_body(section.body, max_words):
            words += count_words(heading) + count_words(body)
            yield Piece(heading, body)
    if words > max_words and (outline := outline_sections(sections, max_words)):
        yield Piece(outline.title, "\n".join(outline.lines), is_overview=True)


def split_sections(name: str, text: str) -> Iterator[Section]:
    """Cut a document at its headings; a text without headings is one section. Plain text may be reStructuredText.

    A heading with nothing below it, not even a deeper heading, is a section without a body: its title is content.
    """
    lines = text.split("\n")
    path: list[Heading] = []
    start = 0
    for heading in [*_headings(name, text, lines), None]:
        body = "\n".join(lines[start : heading.start if heading else len(lines)]).strip("\n")
        is_leaf = any(step.title.strip() for step in path) and (heading is None or heading.level <= path[-1].level)
        if body.strip() or is_leaf:
            yield Section(path=tuple(step.title for step in path), body=body)
        if heading:
            path = [step for step in path if step.level < heading.level] + [heading]
            start = heading.end


def _headings(name: str, text: str, lines: list[str]) -> list[Heading]:
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in TEXT:
        return [heading for heading in _rest_headings(lines) if _is_title(heading, lines)]
    return _rest_headings(lines) if suffix in REST else _markdown_headings(text, lines)


@cache
def _markdown() -> MarkdownIt:
    # Imported with the first document: most runs cut none.
    from markdown_it import MarkdownIt

    # Only the blocks are parsed: headings are taken as they are written, and hostile text inside of them costs nothing.
    return MarkdownIt("commonmark").enable("table").disable("inline")


def _markdown_headings(text: str, lines: list[str]) -> list[Heading]:
    tokens = _markdown().parse(text)
    first = _front_matter_lines(lines)
    return [
        Heading(level=int(token.tag[1:]), title=tokens[index + 1].content, start=token.map[0], end=token.map[1])
        for index, token in enumerate(tokens)
        if token.type == "heading_open" and token.level == 0 and token.map and token.map[0] >= first
    ]


def _front_matter_lines(lines: list[str]) -> int:
    """The number of lines of a front matter: its closing line would turn the line above it into a heading."""
    if lines[0] != "---" or "---" not in lines[1:-1]:
        return 0
    return lines.index("---", 1) + 1


def _rest_headings(lines: list[str]) -> list[Heading]:
    """Titles with an underline, perhaps an overline; their level is the order in which the styles first appear."""
    styles: list[str] = []
    headings = []
    for at in range(1, len(lines)):
        title, mark = lines[at - 1].rstrip(), _UNDERLINE.match(lines[at])
        if not mark or not title.strip() or _UNDERLINE.match(title) or len(lines[at].rstrip()) < len(title.strip()):
            continue
        overlined = at >= 2 and lines[at - 2].rstrip() == lines[at].rstrip()
        if title[:1].isspace() and not overlined:
            continue
        style = mark.group(1) * (2 if overlined else 1)
        if style not in styles:
            styles.append(style)
        start = at - 2 if overlined else at - 1
        headings.append(Heading(level=styles.index(style) + 1, title=title.strip(), start=start, end=at + 1))
    return headings


def _is_title(heading: Heading, lines: list[str]) -> bool:
    """Whether an underlined line of a plain text is a section's title, as in reStructuredText, and no table's header.

    A title stands alone, and has no columns.
    """
    above = lines[heading.start - 1] if heading.start else ""
    has_columns = any(separator in heading.title for separator in _COLUMNS)
    return not above.strip() and heading.title[:1].isalnum() and not has_columns


def _split_body(body: str, max_words: int) -> Iterator[str]:
    """Paragraphs joined up to `max_words`; longer ones are cut. A section without a body is one empty piece."""
    yield from _join_parts(_split_paragraphs(body, max_words), max_words)


def _join_parts(parts: Iterable[str], max_words: int) -> Iterator[str]:
    """Consecutive parts joined while they have at most `max_words` together."""
    joined: list[str] = []
    words = 0
    for part in parts:
        count = count_words(part)
        if joined and words + count > max_words:
            yield "\n".join(joined)
            joined, words = [], 0
        joined.append(part)
        words += count
    if joined:
        yield "\n".join(joined)


def _split_paragraphs(body: str, max_words: int) -> Iterator[str]:
    """Paragraphs of at most `max_words`; longer tables are cut between rows, other paragraphs at lines or sentences."""
    for paragraph in (part.strip("\n") for part in re.split(r"\n\s*\n", body)):
        if count_words(paragraph) <= max_words:
            yield paragraph
        elif _is_table(lines := paragraph.split("\n")):
            yield from _split_table(lines, max_words)
        else:
            yield from _split_long(paragraph, max_words)


def _is_table(lines: list[str]) -> bool:
    """Whether these are the header, the rule and at least one row of a table."""
    return len(lines) > 2 and "|" in lines[0] and is_table_rule(lines[1])


def _split_table(lines: list[str], max_words: int) -> Iterator[str]:
    """A table's rows in parts of at most `max_words`, each below the header, without which a row has no meaning."""
    header, rows = lines[:2], lines[2:]
    remaining_words = max(1, max_words - sum(count_words(line) for line in header))
    for part in _join_parts(rows, remaining_words):
        yield "\n".join([*header, part])


def _split_long(paragraph: str, max_words: int) -> Iterator[str]:
    """A long paragraph in parts of at most `max_words`, at the same places whatever its line breaks."""
    words = list(_WORD.finditer(paragraph))
    lines = {match.end() for match in _OWN_LINE.finditer(paragraph)}
    if _NUMBERED.match(paragraph):
        lines |= {match.end() for match in _NUMBERED.finditer(paragraph)}
    if paragraph.startswith(_FENCES):
        lines = {match.end() for match in _ANY_LINE.finditer(paragraph)}
    start = 0
    while len(words) - start > max_words:
        end = _choose_end(words, lines, start, max_words)
        yield paragraph[words[start].start() : words[end - 1].end()]
        start = end
    if start < len(words):
        yield paragraph[words[start].start() :]


def _choose_end(words: list[re.Match[str]], lines: set[int], start: int, max_words: int) -> int:
    """The index of the word to cut before: at a line of its own, else after a sentence, else at the limit.

    Searched backwards from the limit to its half, so that parts are not too small.
    """
    limit = start + max_words
    candidates = range(limit, start + max_words // 2, -1)
    at_line = (index for index in candidates if words[index].start() in lines)
    at_sentence = (index for index in candidates if words[index - 1].group().endswith(_SENTENCE_ENDS))
    return next(at_line, next(at_sentence, limit))
