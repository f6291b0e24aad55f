"""Statements of documents, compared strictly: whether a change may have changed what the documents say.

The comparison of sentences (text_changes.py) forgives what is seldom a change of meaning, so that no gain is
overestimated. Here only form is forgiven: markup, punctuation, case, wrapping, the numbers of an outline, relative
links, and the order of sections and of items without a number. A refresh too many costs seconds; a fact that is taken
for a change of form is never live (invariant facts-are-due, docs/invariants.md).
"""

from __future__ import annotations

import html
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias
from unicodedata import normalize

import regex

from ragtide.pipelines.evidence.sentences import LineKind, Sentence, tidy_text
from ragtide.pipelines.records.data import Chunk

Tokens: TypeAlias = tuple[str, ...]
# The heading path of a section; below a path that several documents have, with the name of the document.
Place: TypeAlias = tuple[Tokens, ...]
Key: TypeAlias = tuple[str, Place]
# Numbers with their signs, words, single characters of scripts without spaces, and symbols, which have a meaning:
# currencies, operators, ticks. All else is punctuation or markup.
_TOKEN = regex.compile(
    r"(?<![\w.])-?\d[\w%]*(?:[.,:/-]\d[\w%]*)*|[\p{Han}\p{Hiragana}\p{Katakana}]"
    r"|[[\p{L}\p{M}\p{N}]--[\p{Han}\p{Hiragana}\p{Katakana}]]+[+#]*"
    r"|[<>!=]=|[<>](?=\s|\d)|~~|~(?=\d)|[[\p{Sm}\p{Sc}\p{So}%‰]--[<>|~^]]",
    flags=regex.VERSION1,
)
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")
_DASH = re.compile("[\u2010-\u2015\u2212]")
_BETWEEN_DIGITS = re.compile(r"(?<=\d)[,'’](?=\d{3}(?!\d))|(?<=\d)\s+(?=[%°])|\bv(?=\d)")
_LINK = re.compile(r"\[([^\[\]]*)\]\((?:https?://|(?=mailto:|tel:))([^()\s]+?)/?[)\s]", re.IGNORECASE)
_CELL_END = re.compile(r"(?<!\\)\|")
# A number or a letter with a sign behind it. A number alone belongs to an outline only where another heading has one.
_OUTLINE = re.compile(r"\s*(?:\d{1,3}(?:\.\d{1,3})*[.)]|\d{1,3}(?:\.\d{1,3})+|[A-Za-z][.)]|[IVX]+[.)])\s+(?=\S)")
_BARE_NUMBER = re.compile(r"\s*\d{1,3}\s+(?=\S)")


def count_differences(
    before: Mapping[str, Sequence[Chunk]],
    after: Mapping[str, Sequence[Chunk]],
    sentences: tuple[Sequence[Sentence], Sequence[Sentence]],
    held: Collection[str] = (),
) -> int:
    """How many statements only one side of the changed documents has, of the side that has more; 0 for the same ones.

    `sentences` are those of `before` and of `after`. What the `held` documents of `before` say is not new elsewhere,
    and not missing.
    """
    old, new = _read_pages(before, sentences[0]), _read_pages(after, sentences[1])
    for content in (_Page.streams, _Page.statements):
        old, new = _without_common(old, new, content)
    shared = _shared_places(old) | _shared_places(new)
    was, now = _by_key(old, shared), _by_key(new, shared)
    both = was.keys() & now.keys()
    same = {key for key in both if was[key].stream == now[key].stream}
    pending = _by_key([page for page in old if page.name not in held], shared)
    missing = _statements(pending, same) - _statements(now, same)
    added = _statements(now, same) - _statements(was, same)
    return max(missing.total(), added.total()) + sum(was[key].differs_inside(now[key]) for key in both)


@dataclass
class _Section:
    """The sentences below one heading; a heading with nothing below it has none, and is a statement itself."""

    sentences: list[Sentence] = field(default_factory=list)

    @cached_property
    def statements(self) -> list[Tokens]:
        return [tokens for sentence in self.sentences if (tokens := _statement(sentence))] or [()]

    @cached_property
    def stream(self) -> Tokens:
        """All statements as one: punctuation may have cut the same words into other sentences."""
        return tuple(token for tokens in self.statements for token in tokens)

    @cached_property
    def ordered(self) -> Sequence[Tokens]:
        """The statements whose order has a meaning: numbered steps and lines of code."""
        return [_statement(sentence) for sentence in self.sentences if sentence.kind in (LineKind.STEP, LineKind.CODE)]

    @cached_property
    def links(self) -> Mapping[Tokens, set[str]]:
        """The texts of links out of the documents -> their targets."""
        targets: dict[Tokens, set[str]] = defaultdict(set)
        for text, target in (link for sentence in self.sentences for link in _LINK.findall(sentence.raw)):
            targets[_tokens(text)].add(target)
        return dict(targets)

    def differs_inside(self, new: _Section) -> int:
        """How many links lead elsewhere, and one more where the same steps stand in another order."""
        elsewhere = sum(self.links[text] != new.links[text] for text in self.links.keys() & new.links.keys())
        return elsewhere + (self.ordered != new.ordered and Counter(self.ordered) == Counter(new.ordered))


@dataclass(frozen=True)
class _Page:
    """A document's sections, by their heading path."""

    name: str
    sections: Mapping[Place, _Section]

    def streams(self) -> Hashable:
        """All that the page says, in its order below each heading."""
        return self._content(lambda section: section.stream)

    def statements(self) -> Hashable:
        """All that the page says, in any order below each heading."""
        return self._content(lambda section: frozenset(Counter(section.statements).items()))

    def _content(self, read: Callable[[_Section], Hashable]) -> Hashable:
        return frozenset(
            (
                place,
                read(section),
                tuple(section.ordered),
                frozenset((key, *sorted(to)) for key, to in section.links.items()),
            )
            for place, section in self.sections.items()
        )


def _read_pages(documents: Mapping[str, Sequence[Chunk]], sentences: Iterable[Sentence]) -> list[_Page]:
    """The documents with their sections, those without a sentence as well."""
    sections: dict[str, dict[str, _Section]] = {
        name: {chunk.heading: _Section() for chunk in chunks if not chunk.is_overview}
        for name, chunks in documents.items()
    }
    for sentence in sentences:
        sections[sentence.document][sentence.heading].sentences.append(sentence)
    return [_Page(name, _by_place(below)) for name, below in sections.items()]


def _by_place(sections: Mapping[str, _Section]) -> dict[Place, _Section]:
    """Sections by their heading path as it is compared; those with the same path are one."""
    steps = {heading: heading.split(" > ") if heading.strip() else [] for heading in sections}
    numbered = {step for path in steps.values() for step in path if _BARE_NUMBER.match(step)}
    joined: dict[Place, _Section] = defaultdict(_Section)
    for heading, section in sections.items():
        place = tuple(_tokens(_without_number(step, len(numbered) > 1)) for step in steps[heading])
        joined[place].sentences.extend(section.sentences)
    return dict(joined)


def _without_number(heading: str, has_bare_numbers: bool) -> str:
    """A heading without its number in an outline, and without its anchor."""
    heading = _without_anchor(heading)
    number = _OUTLINE.match(heading) or (_BARE_NUMBER.match(heading) if has_bare_numbers else None)
    return heading[number.end() :] if number else heading


def _without_anchor(heading: str) -> str:
    """A heading without the `{#anchor}` at its end; a pattern would take quadratic time on blanks."""
    start, text = heading.rfind("{"), heading.rstrip()
    is_anchor = text.endswith("}") and text[start + 1 : start + 2] in ("#", ".", ":") and "}" not in text[start:-1]
    return text[:start].rstrip() if start >= 0 and is_anchor else heading


def _without_comments(text: str) -> str:
    """A text with a blank in the place of each comment; a pattern would take quadratic time on open ones."""
    kept, at = [], 0
    while (start := text.find("<!--", at)) >= 0 and (end := text.find("-->", start + len("<!--"))) >= 0:
        kept.append(text[at:start])
        at = end + len("-->")
    return " ".join([*kept, text[at:]])


def _without_common(
    old: list[_Page], new: list[_Page], content: Callable[[_Page], Hashable]
) -> tuple[list[_Page], list[_Page]]:
    """The pages of either side without those whose content the other side has, under whatever name."""
    before, after = ([content(page) for page in side] for side in (old, new))
    common = Counter(before) & Counter(after)
    return _drop(old, before, Counter(common)), _drop(new, after, Counter(common))


def _drop(pages: list[_Page], contents: Sequence[Hashable], surplus: Counter[Hashable]) -> list[_Page]:
    kept = []
    for page, content in zip(pages, contents, strict=True):
        if surplus[content] > 0:
            surplus[content] -= 1
        else:
            kept.append(page)
    return kept


def _shared_places(pages: Iterable[_Page]) -> set[Place]:
    """The heading paths that say nothing without the document's name: no heading, or one that several have."""
    counts = Counter(place for page in pages for place in page.sections)
    return {(), *(place for place, count in counts.items() if count > 1)}


def _by_key(pages: Iterable[_Page], shared: Collection[Place]) -> dict[Key, _Section]:
    return {
        (page.name if place in shared else "", place): section
        for page in pages
        for place, section in page.sections.items()
    }


def _statements(sections: Mapping[Key, _Section], without: Collection[Key]) -> Counter[tuple[Key, Tokens]]:
    return Counter((key, tokens) for key in sections if key not in without for tokens in sections[key].statements)


def _statement(sentence: Sentence) -> Tokens:
    """What a sentence says: code as it is, a row cell by cell, all else as tokens."""
    if sentence.kind is LineKind.CODE:
        return (" ".join(sentence.raw.split()),)
    if sentence.kind is LineKind.ROW:
        cells = _CELL_END.split(sentence.raw.strip().removeprefix("|").removesuffix("|"))
        return tuple(token for cell in cells for token in (*(_tokens(cell) or (cell.strip(),)), "|"))
    return _tokens(_without_comments(sentence.raw))


def _tokens(text: str) -> Tokens:
    """The words, numbers and symbols of a text, without markup, punctuation and capitals."""
    plain = normalize("NFKC", _INVISIBLE.sub("", html.unescape(tidy_text(text))))
    return tuple(_TOKEN.findall(_BETWEEN_DIGITS.sub("", _DASH.sub("-", plain.casefold()))))
