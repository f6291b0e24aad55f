"""How is a document cut into passages? Along its headings, then by paragraphs up to a number of words.

A chunk's text begins with the document's title and heading path, so that it can be found and read on its own; the
file's path is not in it, so that a moved file needs no new vector.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from markdown_it import MarkdownIt

from pipelines.observe.documents import REST, TEXT
from pipelines.params import ChunkParams
from pipelines.records import Chunk, Document

# Changes whenever the same document would be cut in another way; part of the index's fingerprint.
CHUNKER = "structure-1"
_MARKDOWN = MarkdownIt("commonmark").enable("table")
_FRONT_MATTER = re.compile(r"\A---\n(.*\n)*?---\n")
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
    """The chunks of one document, numbered from 0. A document of only headings gives its headings as one chunk."""
    pieces = [
        (section.path, piece) for section in sections(document) for piece in _pieces(section.body, params.max_words)
    ]
    if not pieces and document.text.strip():
        pieces = [((), _squeeze(document.text))]
    return [_chunk(document, position, path, text) for position, (path, text) in enumerate(pieces)]


def _chunk(document: Document, position: int, path: tuple[str, ...], body: str) -> Chunk:
    heading = " > ".join(path)
    text = f"{heading}\n{body}" if heading else body
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


def sections(document: Document) -> Iterator[Section]:
    """Cut a document at its headings; a text without any is one section."""
    lines = document.text.split("\n")
    path: list[Heading] = []
    start = 0
    for heading in [*_headings(document, lines), None]:
        body = "\n".join(lines[start : heading.start if heading else len(lines)]).strip("\n")
        if body.strip():
            yield Section(path=tuple(step.title for step in path), body=body)
        if heading:
            path = [step for step in path if step.level < heading.level] + [heading]
            start = heading.end


def _headings(document: Document, lines: list[str]) -> list[Heading]:
    suffix = PurePosixPath(document.id).suffix.lower()
    if suffix in TEXT:
        return []
    return _rest_headings(lines) if suffix in REST else _markdown_headings(document.text)


def _markdown_headings(text: str) -> list[Heading]:
    tokens = _MARKDOWN.parse(text)
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
    """Paragraphs gathered up to `max_words`; longer paragraphs are cut between lines, longer lines between words."""
    gathered: list[str] = []
    words = 0
    for part in _parts(body, max_words):
        count = len(part.split())
        if gathered and words + count > max_words:
            yield "\n".join(gathered)
            gathered, words = [], 0
        gathered.append(part)
        words += count
    if gathered:
        yield "\n".join(gathered)


def _parts(body: str, max_words: int) -> Iterator[str]:
    for paragraph in re.split(r"\n\s*\n", body):
        if len(paragraph.split()) <= max_words:
            yield paragraph.strip("\n")
            continue
        for line in paragraph.split("\n"):
            words = line.split()
            if len(words) <= max_words:
                yield line
            else:
                yield from (" ".join(words[at : at + max_words]) for at in range(0, len(words), max_words))


def _squeeze(text: str) -> str:
    return " ".join(text.split())
