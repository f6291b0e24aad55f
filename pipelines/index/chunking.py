"""How is a document cut into passages? Along its headings, then by paragraphs up to a number of words.

A chunk's text begins with the document's title and heading path, so that it can be found and read on its own; the
file's path is not in it, so that a moved file needs no new vector.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from ragtide.pipelines.data.formats.text import REST, TEXT
from ragtide.pipelines.params import ChunkParams
from ragtide.pipelines.records.data import Chunk, Document

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

# Changes whenever the same document would be cut in another way; part of the index's fingerprint.
CHUNKER = "structure-3"
_FRONT_MATTER = re.compile(r"\A---\n(.*\n)*?---\n")
_WORD = re.compile(r"\S+")
_TABLE = re.compile(r"[^\n]*\|[^\n]*\n[ \t]*\|?[ \t:\-|]*-[ \t:\-|]*\n")
# A line that is no continuation of the one above it: of a list, a table, a quotation, or of indented code.
_LINE_THAT_STANDS = re.compile(r"^(?=[ \t]*[-*+|>] |[ \t]*\||[ ]{4}|\t)[ \t]*", flags=re.MULTILINE)
_NUMBERED = re.compile(r"^(?=[ \t]*\d+[.)] )[ \t]*", flags=re.MULTILINE)
_ANY_LINE = re.compile(r"^[ \t]*", flags=re.MULTILINE)
_FENCES = ("```", "~~~")
_SENTENCE_ENDS = (".", "!", "?", ":", ";", '."', ".)", "。")
_UNDERLINE = re.compile(r"^([=\-`:'\"~^_*+#<>.])\1{2,}\s*$")


@dataclass(frozen=True)
class Section:
    """What stands under one heading; `path` is the headings above it, outermost first."""

    path: tuple[str, ...]
    body: str


@dataclass(frozen=True)
class Heading:
    """A heading that covers the lines from `start` to before `end`."""

    level: int
    title: str
    start: int
    end: int


def chunk_documents(documents: Iterable[Document], params: ChunkParams) -> list[Chunk]:
    """The chunks of `documents`, in their order."""
    return [chunk for document in documents for chunk in chunk_document(document, params)]


def chunk_document(document: Document, params: ChunkParams) -> list[Chunk]:
    """The chunks of one document, numbered from 0."""
    pieces = [
        (section.path, piece)
        for section in split_sections(document)
        for piece in _pieces(section.body, params.max_words)
    ]
    return [_chunk(document, position, path, text) for position, (path, text) in enumerate(pieces)]


def _chunk(document: Document, position: int, path: tuple[str, ...], body: str) -> Chunk:
    heading = " > ".join(path)
    text = "\n".join(part for part in (heading, body) if part)
    return Chunk(
        document=document.id,
        position=position,
        heading=heading,
        text=text,
        digest=text_digest(text),
        document_digest=document.digest,
    )


def text_digest(text: str) -> str:
    """SHA-256 (32 hex digits) of a text whose runs of white space count as one, so that a re-wrap changes nothing."""
    return hashlib.sha256(" ".join(text.split()).encode()).hexdigest()[:32]


def split_sections(document: Document) -> Iterator[Section]:
    """Cut a document at its headings; a text without any is one section.

    A heading with nothing below it, no deeper heading either, is a section without a body: it says something itself.
    """
    lines = document.text.split("\n")
    path: list[Heading] = []
    start = 0
    for heading in [*_headings(document, lines), None]:
        body = "\n".join(lines[start : heading.start if heading else len(lines)]).strip("\n")
        ends = any(step.title.strip() for step in path) and (heading is None or heading.level <= path[-1].level)
        if body.strip() or ends:
            yield Section(path=tuple(step.title for step in path), body=body)
        if heading:
            path = [step for step in path if step.level < heading.level] + [heading]
            start = heading.end


def _headings(document: Document, lines: list[str]) -> list[Heading]:
    suffix = PurePosixPath(document.id).suffix.lower()
    if suffix in TEXT:
        return []
    return _rest_headings(lines) if suffix in REST else _markdown_headings(document.text)


@cache
def _markdown() -> MarkdownIt:
    # Imported when the first document is cut: whether anything has changed is asked far more often.
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark").enable("table")


def _markdown_headings(text: str) -> list[Heading]:
    tokens = _markdown().parse(text)
    # A front matter's closing mark would make a heading of the line above it.
    begin = _FRONT_MATTER.match(text)
    first = begin.group().count("\n") if begin else 0
    return [
        Heading(level=int(token.tag[1:]), title=tokens[at + 1].content, start=token.map[0], end=token.map[1])
        for at, token in enumerate(tokens)
        if token.type == "heading_open" and token.level == 0 and token.map and token.map[0] >= first
    ]


def _rest_headings(lines: list[str]) -> list[Heading]:
    """Titles with an underline (and perhaps an overline); the order in which the styles appear sets their level."""
    styles: list[str] = []
    found = []
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
        found.append(Heading(level=styles.index(style) + 1, title=title.strip(), start=start, end=at + 1))
    return found


def _pieces(body: str, max_words: int) -> Iterator[str]:
    """Paragraphs gathered up to `max_words`; longer ones are cut. A section without a body is one empty piece."""
    yield from _gathered(_parts(body, max_words), max_words)


def _gathered(parts: Iterable[str], max_words: int) -> Iterator[str]:
    gathered: list[str] = []
    words = 0
    for part in parts:
        count = _count(part)
        if gathered and words + count > max_words:
            yield "\n".join(gathered)
            gathered, words = [], 0
        gathered.append(part)
        words += count
    if gathered:
        yield "\n".join(gathered)


def _parts(body: str, max_words: int) -> Iterator[str]:
    for paragraph in (part.strip("\n") for part in re.split(r"\n\s*\n", body)):
        if _count(paragraph) <= max_words:
            yield paragraph
        elif _TABLE.match(paragraph):
            yield from _table_parts(paragraph.split("\n"), max_words)
        else:
            yield from _cut(paragraph, max_words)


def _count(text: str) -> int:
    """The words of a text; the bars of a table are none."""
    return sum(word != "|" for word in text.split())


def _table_parts(lines: list[str], max_words: int) -> Iterator[str]:
    """A table's rows, each part under the table's head, without which a row says nothing."""
    head, rows = lines[:2], lines[2:]
    room = max(1, max_words - sum(_count(line) for line in head))
    for gathered in _gathered(rows, room):
        yield "\n".join([*head, gathered])


def _cut(paragraph: str, max_words: int) -> Iterator[str]:
    """A long paragraph in parts of at most `max_words`, which a re-wrap of its lines does not move."""
    words = list(_WORD.finditer(paragraph))
    lines = {match.end() for match in _LINE_THAT_STANDS.finditer(paragraph)}
    if _NUMBERED.match(paragraph):
        lines |= {match.end() for match in _NUMBERED.finditer(paragraph)}
    if paragraph.startswith(_FENCES):
        lines = {match.end() for match in _ANY_LINE.finditer(paragraph)}
    start = 0
    while len(words) - start > max_words:
        end = _end(words, lines, start, max_words)
        yield paragraph[words[start].start() : words[end - 1].end()]
        start = end
    if start < len(words):
        yield paragraph[words[start].start() :]


def _end(words: list[re.Match[str]], lines: set[int], start: int, max_words: int) -> int:
    """Where to cut: before a line that stands for itself, else after a sentence, else at the limit.

    Told from the words alone, and looked for in the second half, so that parts are not too small.
    """
    limit = start + max_words
    half = range(limit, start + max_words // 2, -1)
    at_line = (at for at in half if words[at].start() in lines)
    at_sentence = (at for at in half if words[at - 1].group().endswith(_SENTENCE_ENDS))
    return next(at_line, next(at_sentence, limit))
