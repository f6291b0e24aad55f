"""Sentences of documents as they are compared: without markup, under their heading, as words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from itertools import groupby, pairwise

from ragtide.pipelines.data.text import Word, has_digit, normalize_text, split_words
from ragtide.pipelines.records.data import Chunk

# Stands in a question for what is asked; sentences do not contain it otherwise, so that it is there once.
MASK = "…"
# A sentence of so many words says by itself what it is about; a shorter one may need the heading above it.
SELF_EXPLANATORY_WORDS = 8
# Fewer words than this, heading and all, are found in too many places to say that a sentence resurfaced.
FINDABLE_WORDS = 4
_LINK = re.compile(r"!?\[([^\[\]]*)\]\([^()\s]*(?:\s+\"[^\"\n]*\")?\)")
_TAGS = "a|b|br|code|details|div|em|hr|i|img|kbd|li|ol|p|s|small|span|strong|sub|summary|sup|table|td|th|tr|u|ul"
_MARKUP = re.compile(rf"</?(?:{_TAGS})(?:\s[^<>]*)?/?>|[|\n]", re.IGNORECASE)
_FENCE = re.compile(r"\s*(?:```|~~~)")
_QUOTED = re.compile(r"(?:\s*+>(?=\s|$))++ ?")
_BULLET = re.compile(r"\s*[-*+•](?:\s+|$)")
_NUMBERED = re.compile(r"\s*(\d{1,3})[.)]\s+")
_RULE = re.compile(r"\s*+([-=~^*_#+:.'\"])\1{2,}+\s*+$")
_TABLE_RULE = re.compile(r"[\s:|-]+$")
_ESCAPE = re.compile(r"\\(?=[!-/:-@\[-`{-~])")
_ALONE = re.compile(r"\s*(?:\||#{1,6}\s)")
_OUTLINE_NUMBER = re.compile(r"^\d{1,3}(?:\.\d{1,3})*\.? (?=\S)")
_FRONT_MATTER = ("---", "+++")
_RECORDS = (".json", ".jsonl", ".ndjson")
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"'”’)\]*_]*\s+|(?<=[。！？])")


class LineKind(Enum):
    """What a sentence stands in: running text or a list, a numbered list, a table, or code."""

    TEXT = "text"
    STEP = "step"
    ROW = "row"
    CODE = "code"


@dataclass(frozen=True)
class Sentence:
    """A sentence under its heading; `place` is the heading as it is compared, and `at` its number on its side.

    `raw` is the sentence with its markup.
    """

    document: str
    heading: str
    place: tuple[str, ...]
    at: int
    text: str
    words: tuple[Word, ...] = field(repr=False)
    raw: str = ""
    kind: LineKind = LineKind.TEXT

    @cached_property
    def keys(self) -> tuple[str, ...]:
        return tuple(word.key for word in self.words)

    @cached_property
    def vocabulary(self) -> frozenset[str]:
        return frozenset(self.keys)

    @cached_property
    def shape(self) -> tuple[str, ...]:
        """The sentence without its numbers."""
        return tuple("0" if has_digit(key) else key for key in self.keys)

    @cached_property
    def outline_place(self) -> tuple[str, ...]:
        """The heading without the numbers of an outline: `2.1 Setup` and `3.1 Setup` are the same place."""
        return tuple(_OUTLINE_NUMBER.sub("", step, count=1) for step in self.place)

    @property
    def leaf(self) -> str:
        return self.place[-1] if self.place else ""

    @property
    def numbers(self) -> tuple[str, ...]:
        """The numbers that its heading names."""
        return tuple(word for word in self.leaf.split() if has_digit(word))

    @property
    def self_explanatory(self) -> bool:
        return is_self_explanatory(self.keys)

    @property
    def is_findable(self) -> bool:
        return sum(len(step.split()) for step in self.place) + len(self.words) >= FINDABLE_WORDS


def is_self_explanatory(words: Sequence[str]) -> bool:
    """Whether a sentence of `words` says by itself what it is about, without its heading; numbers do not help."""
    return sum(not has_digit(word) for word in words) >= SELF_EXPLANATORY_WORDS


def plain_text(text: str) -> str:
    """The words of `text` as they are compared: no markup, no punctuation around them, no capitals, single spaces."""
    return " ".join(word.key for word in split_words(tidy_text(text)))


def plain_heading_path(heading: str) -> tuple[str, ...]:
    """The steps of a heading path as they are compared; a passage without a heading has none."""
    return tuple(plain_text(step) for step in heading.split(" > ")) if heading.strip() else ()


def read_sentences(documents: Mapping[str, Sequence[Chunk]]) -> list[Sentence]:
    """All sentences with a word in them, in order of document and place."""
    sentences: list[Sentence] = []
    for document in sorted(documents):
        passages = [
            chunk for chunk in sorted(documents[document], key=lambda chunk: chunk.position) if not chunk.is_overview
        ]
        for heading, under in groupby(passages, key=lambda chunk: chunk.heading):
            place = plain_heading_path(heading)
            # Joined, since a sentence may begin in one passage and end in the next.
            lines = "\n".join(map(_body, under)).splitlines()
            for kind, text in _fields(lines) if document.endswith(_RECORDS) else _sentences(lines):
                tidy = tidy_text(text)
                words = tuple(split_words(tidy))
                if words:
                    sentences.append(Sentence(document, heading, place, len(sentences), tidy, words, text, kind))
    return sentences


def _body(chunk: Chunk) -> str:
    return chunk.text.removeprefix(chunk.heading).removeprefix("\n") if chunk.heading else chunk.text


def _fields(lines: Sequence[str]) -> Iterator[tuple[LineKind, str]]:
    """The fields of records, one a line: their order says nothing."""
    return ((LineKind.TEXT, line) for line in lines)


def _sentences(lines: Sequence[str]) -> Iterator[tuple[LineKind, str]]:
    """List items, rows, lines of code or of metadata as they are; others are joined, then split into sentences."""
    front = _front_matter_lines(lines)
    yield from ((LineKind.TEXT, line) for line in lines[:front])
    gathered: list[str] = []
    fenced = numbered = False
    kind = LineKind.TEXT
    for line in _without_repeats(lines[front:]):
        item, fence = _item(line, numbered), bool(_FENCE.match(line))
        alone = not fence and (fenced or bool(_ALONE.match(line)))
        if alone or fence or item is not None or not line.strip() or _RULE.match(line):
            yield from ((kind, sentence) for sentence in _SENTENCE_END.split(" ".join(gathered)))
            gathered, kind = [], LineKind.TEXT
        if item is not None and not fenced:
            numbered = bool(_NUMBERED.match(line))
            kind = LineKind.STEP if numbered else LineKind.TEXT
        fenced ^= fence
        if alone:
            yield LineKind.CODE if fenced else LineKind.ROW, line
        elif not fence and not _RULE.match(line):
            gathered.append(line if item is None else item)
    yield from ((kind, sentence) for sentence in _SENTENCE_END.split(" ".join(gathered)))


def _front_matter_lines(lines: Sequence[str]) -> int:
    """The number of lines of the metadata that a text begins with; their order says nothing."""
    if not lines or lines[0].rstrip() not in _FRONT_MATTER:
        return 0
    return next((number for number, line in enumerate(lines[1:], 2) if line.rstrip() == lines[0].rstrip()), 0)


def _item(line: str, numbered: bool) -> str | None:
    """The text of a list item; None where the line begins none. A re-wrap may bring any number to a line's start."""
    bullet, number = _BULLET.match(line), _NUMBERED.match(line)
    if number and (numbered or number.group(1) == "1"):
        return line[number.end() :]
    return line[bullet.end() :] if bullet else None


def _without_repeats(lines: Sequence[str]) -> Iterator[str]:
    """Lines without quotation marks, and without the head that each passage of a long table repeats."""
    heads: set[str] = set()
    for line, below in pairwise([*lines, ""]):
        if "|" in line and _TABLE_RULE.match(below) and "-" in below:
            if line in heads:
                continue
            heads.add(line)
        quoted = _QUOTED.match(line)
        yield line[quoted.end() :] if quoted else line


def tidy_text(text: str) -> str:
    """Text without markup, in single spaces; a link is its text."""
    # Twice, for the picture in a link.
    text = _LINK.sub(r"\1", _LINK.sub(r"\1", normalize_text(text.replace(MASK, "..."))))
    text = _ESCAPE.sub("", _MARKUP.sub(" ", text))
    return " ".join(text.replace("**", "").replace("`", "").split())
