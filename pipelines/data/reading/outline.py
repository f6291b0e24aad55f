"""Outline of a document: its headings and the rows of its tables, each with the start of what it says.

It takes time in proportion to the document, and no re-wrap of lines changes it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from itertools import chain, pairwise, zip_longest
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ragtide.pipelines.data.reading.sections import Section

# Words of detail that an entry has, at most, and the least with which rows of tables may crowd the details of headings.
DETAIL_WORDS, ROW_WORDS = 12, 3
# Characters of a label or a detail: a hostile word may be as long as its document.
CHARACTERS = 200
GAP = "…"
_TABLE_RULE_SIGNS = frozenset(" \t:-|")
_BULLET = re.compile(r"^[\s>]*[-*+•]\s+")
# Only at the start of a paragraph, or after such an item: a re-wrap may bring a number to the start of any line.
_NUMBERED = re.compile(r"^[\s>]*\d{1,3}[.)]\s+")


class Kind(IntEnum):
    """What an entry is, in the order in which entries are kept where not all fit."""

    HEADING = 0
    ROW = 1
    REPEATED_ROW = 2  # such as `Released | 2027-01-01` below every heading


@dataclass(frozen=True)
class Entry:
    """A heading or a row: how deep it stands, its label, and the start of what it says."""

    kind: Kind
    depth: int
    label: str
    detail: str

    @property
    def text(self) -> str:
        return ": ".join(part for part in (self.label, self.detail) if part)

    def line(self, words: int) -> str:
        """The entry with at most so many words of detail."""
        least = ROW_WORDS if self.kind is not Kind.HEADING and not self.label else 0
        detail = " ".join(self.detail.split()[: max(words, least)])
        return ": ".join(part for part in (self.label, detail) if part)


@dataclass(frozen=True)
class Outline:
    """The title of a document and the lines below it."""

    title: str
    lines: tuple[str, ...]


def count_words(text: str) -> int:
    """The number of words in a text; the bars of a table do not count."""
    return sum(word != "|" for word in text.split())


def is_table_rule(line: str) -> bool:
    """Whether a line separates the header of a table from its rows."""
    return "-" in line and _TABLE_RULE_SIGNS.issuperset(line)


def outline_sections(sections: Sequence[Section], max_words: int) -> Outline | None:
    """The outline of a document in at most `max_words`; None where it has fewer than two entries.

    What does not fit is left out, always in this order: rows, details a word at a time, deeper headings, the middle.
    """
    title = _title(sections)
    entries = list(chain.from_iterable(_section_entries(section, title) for section in sections))
    if sum(bool(entry.label) for entry in entries if entry.kind is Kind.HEADING) < 2:
        entries = list(chain.from_iterable(_section_entries(section, title, with_items=True) for section in sections))
    limit = max_words - count_words(title)
    shortest: list[str] = []
    for shown, details in _attempts(_mark_repeated(entries)):
        lines = _lines(shown, details)
        if len(lines) > 1 and sum(map(count_words, lines)) <= limit:
            return Outline(title, tuple(lines))
        shortest = lines if len(lines) > 1 else shortest
    ends = _keep_ends(shortest, limit)
    return Outline(title, tuple(ends)) if len(ends) > 1 else None


def _attempts(entries: Sequence[Entry]) -> Iterator[tuple[Sequence[Entry], int]]:
    """Ever fewer entries with ever shorter details, fullest first."""
    rows = [entry for entry in entries if entry.kind is not Kind.REPEATED_ROW]
    headings = [entry for entry in entries if entry.kind is Kind.HEADING]
    yield from ((entries, words) for words in range(DETAIL_WORDS, ROW_WORDS - 1, -1))
    yield from ((rows, words) for words in range(DETAIL_WORDS, -1, -1))
    labelled = [entry for entry in headings if entry.label]
    if len(labelled) < 2:
        return
    yield from ((headings, words) for words in range(DETAIL_WORDS, -1, -1))
    for depth in sorted({entry.depth for entry in labelled}, reverse=True)[1:]:
        yield [entry for entry in labelled if entry.depth <= depth], 0


def _lines(entries: Sequence[Entry], words: int) -> list[str]:
    """The lines of entries; a heading whose detail is the row that follows has none."""
    lines = [
        entry.label if below and below.kind is not Kind.HEADING and entry.detail == below.text else entry.line(words)
        for entry, below in zip_longest(entries, entries[1:])
    ]
    return [line for line in lines if line]


def _keep_ends(lines: Sequence[str], limit: int) -> list[str]:
    """The first and the last lines within `limit` words: a list is often sorted, so its extremes are at its ends."""
    first: list[str] = []
    last: list[str] = []
    words = count_words(GAP)
    for at in range(len(lines)):
        side, line = (first, lines[at // 2]) if at % 2 == 0 else (last, lines[-1 - at // 2])
        words += count_words(line)
        if words > limit:
            break
        side.append(line)
    return [*first, GAP, *reversed(last)] if first else []


def _title(sections: Iterable[Section]) -> str:
    """The first heading, if all others stand below it."""
    titles = {_clip(section.path[0]) for section in sections if section.path}
    return titles.pop() if len(titles) == 1 else ""


def _section_entries(section: Section, title: str, with_items: bool = False) -> Iterator[Entry]:
    """The entry of a section, then those of its tables' rows; `with_items`: of its list items, too.

    What a section begins with is the detail of its heading, and no entry of its own.
    """
    depth, parts = len(section.path), list(_parts(section.body))
    is_title = depth == 1 and bool(title)
    label = _clip(section.path[-1]) if depth and not is_title else ""
    first = parts[0] if parts else Part("", "")
    if label or (is_title and parts and not first.is_row):
        yield Entry(Kind.HEADING, depth, label, ": ".join(filter(None, (first.label, first.detail))))
        parts = parts if first.is_row else parts[1:]
    for part in parts:
        if part.label or (with_items and part.is_row):
            yield Entry(Kind.ROW, depth + 1, part.label, part.detail)


def _mark_repeated(entries: Sequence[Entry]) -> list[Entry]:
    """The entries; those of rows with a label that other rows have, too, are marked as such."""
    labels = Counter(entry.label for entry in entries if entry.kind is Kind.ROW and entry.label)
    return [
        replace(entry, kind=Kind.REPEATED_ROW) if entry.kind is Kind.ROW and labels[entry.label] > 1 else entry
        for entry in entries
    ]


@dataclass(frozen=True)
class Part:
    """A paragraph, an item of a list, or a row of a table, whose label is its first cell."""

    label: str
    detail: str
    is_row: bool = False


def _parts(body: str) -> Iterator[Part]:
    """The parts of a section that have a letter or a digit, without the headers of its tables."""
    lines = body.split("\n")
    gathered: list[str] = []
    is_item = is_numbered = in_table = False
    for line, below in pairwise([*lines, ""]):
        is_header = "|" in line and is_table_rule(below)
        in_table = bool(line.strip()) and (in_table or is_header)
        is_row = (in_table and "|" in line) or line.lstrip().startswith("|")
        number = _NUMBERED.match(line) if is_numbered or not gathered else None
        item = None if is_row else _BULLET.match(line) or number
        if item or is_row or not line.strip():
            yield from _part(gathered, is_item)
            gathered, is_item, is_numbered = [], bool(item), bool(number)
        if is_row and not is_header:
            yield from _row(line)
        elif not is_row:
            gathered.append(line[item.end() :] if item else line)
    yield from _part(gathered, is_item)


def _part(lines: Sequence[str], is_item: bool) -> Iterator[Part]:
    text = _clip(" ".join(lines))
    if _has_word(text):
        yield Part("", text, is_item)


def _row(line: str) -> Iterator[Part]:
    cells = [cell.strip() for cell in line.strip().strip("|").split("|") if _has_word(cell)]
    if cells:
        yield Part(_clip(cells[0]), _clip(", ".join(cells[1:])), is_row=True)


def _has_word(text: str) -> bool:
    return any(map(str.isalnum, text))


def _clip(text: str) -> str:
    """The beginning of a text in single blanks."""
    return " ".join(text.split())[:CHARACTERS].rstrip()
