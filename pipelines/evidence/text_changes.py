"""What did the changed documents say before, and what do they say now? Told sentence by sentence, by no model.

An edited fact becomes a probe: does the index still give the old value? A sentence that went becomes a canary: does it
come back? What only moved, or only looks different, is no news.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby, pairwise, product

from ragtide.pipelines.data.text import Word, has_digit, is_name, is_value, split_words
from ragtide.pipelines.records.data import Chunk

# Stands in a question for what is asked; sentences are rid of it, so that it stands there once.
MASK = "…"
# A sentence of so many words says by itself what it is about; a shorter one may need the heading above it.
TELLING_WORDS = 8
# The longest span, in words, that is a value and not a sentence of its own.
SPAN_WORDS = 6
# What a question keeps on each side of what is asked.
CONTEXT_WORDS = 30
# The least share of common words of two sentences that are versions of one.
ALIKE = 0.5
# Up to so many pairs a group is compared whole; beyond, each sentence with so many neighbours on either side.
PAIRS = 2500
NEIGHBOURS = 8
# Fewer words than this, heading and all, are found in too many places to say that something came back.
CANARY_WORDS = 4
PLAIN_WORD = 4
_LINK = re.compile(r"!?\[([^\[\]]*)\]\([^()\s]*(?:\s+\"[^\"\n]*\")?\)")
_TAGS = "a|b|br|code|details|div|em|hr|i|img|kbd|li|ol|p|s|small|span|strong|sub|summary|sup|table|td|th|tr|u|ul"
_MARKUP = re.compile(rf"</?(?:{_TAGS})(?:\s[^<>]*)?/?>|[|\n]", re.IGNORECASE)
_FENCE = re.compile(r"\s*(?:```|~~~)")
_QUOTED = re.compile(r"(?:\s*>(?=\s|$))+ ?")
_BULLET = re.compile(r"\s*[-*+•](?:\s+|$)")
_NUMBERED = re.compile(r"\s*(\d{1,3})[.)]\s+")
_RULE = re.compile(r"\s*([-=~^*_#+:.'\"])\1{2,}\s*$")
_TABLE_RULE = re.compile(r"[\s:|-]+$")
_ESCAPE = re.compile(r"\\(?=[!-/:-@\[-`{-~])")
_ALONE = re.compile(r"\s*(?:\||#{1,6}\s)")
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"'”’)\]*_]*\s+|(?<=[。！？])")


@dataclass(frozen=True)
class FactCheck:
    """A sentence in which a short span moved: a number, a date, a version, a name.

    `question` is the heading, where there is one, on a line of its own, and the new sentence with MASK where `new`
    stands; `old` is what stood there before.
    """

    document: str
    question: str
    old: str
    new: str


@dataclass(frozen=True)
class DeletionCheck:
    """A sentence that went: its document was removed, or it is found nowhere among the changed documents any more.

    `question` is its heading, where there is one, on a line of its own, and the sentence; `gone` is the sentence.
    """

    document: str
    question: str
    gone: str


@dataclass(frozen=True)
class TextChanges:
    """What changed, counted in sentences (a list item, a row of a table and a line of code are one each).

    `sentences` counts those of the changed documents as they now are. A change of markup, link targets, punctuation,
    case or wrapping, and a slip of the pen, count as nothing. `moved` pairs mostly have a probe: one whose old sentence
    still stands under the same heading has none.
    """

    sentences: int
    moved: int
    reworded: int
    added: int
    removed: int
    probes: tuple[FactCheck, ...]
    canaries: tuple[DeletionCheck, ...]

    @property
    def told(self) -> int:
        """Sentences whose content is other or new."""
        return self.moved + self.reworded + self.added


@dataclass(frozen=True)
class _Sentence:
    """A sentence under its heading; `place` is the heading as it is compared, and `at` its number on its side."""

    document: str
    heading: str
    place: tuple[str, ...]
    at: int
    text: str
    words: tuple[Word, ...] = field(repr=False)

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

    @property
    def leaf(self) -> str:
        return self.place[-1] if self.place else ""

    @property
    def numbers(self) -> tuple[str, ...]:
        """The numbers that its heading names."""
        return tuple(word for word in self.leaf.split() if has_digit(word))

    @property
    def telling(self) -> bool:
        return is_self_explanatory(self.keys)

    @property
    def findable(self) -> bool:
        return sum(len(step.split()) for step in self.place) + len(self.words) >= CANARY_WORDS


@dataclass(frozen=True)
class _Pair:
    """A sentence before and after; what differs lies between the first `head` and the last `tail` words."""

    old: _Sentence
    new: _Sentence

    @cached_property
    def head(self) -> int:
        both = zip(self.old.keys, self.new.keys, strict=False)
        return next((at for at, (a, b) in enumerate(both) if a != b), min(len(self.old.keys), len(self.new.keys)))

    @cached_property
    def tail(self) -> int:
        left = min(len(self.old.keys), len(self.new.keys)) - self.head
        both = zip(reversed(self.old.keys), reversed(self.new.keys), strict=False)
        return min(left, next((at for at, (a, b) in enumerate(both) if a != b), left))

    def span(self, side: _Sentence) -> tuple[Word, ...]:
        return side.words[self.head : len(side.words) - self.tail]

    @property
    def close(self) -> bool:
        """Whether one short span apart, in a sentence that holds more than it."""
        spans = (self.span(self.old), self.span(self.new))
        return self.head + self.tail > 0 and all(len(span) <= SPAN_WORDS for span in spans)

    @property
    def cosmetic(self) -> bool:
        """Whether nothing but slips of the pen lies between the two."""
        if len(self.old.words) != len(self.new.words):
            return False
        return all(a.key == b.key or _is_slip(a, b) for a, b in zip(self.old.words, self.new.words, strict=True))

    @property
    def moved(self) -> bool:
        """Whether a value took another's place."""
        old, new = self.span(self.old), self.span(self.new)
        return self.close and bool(old and new) and any(is_value(word) for word in (*old, *new))


@dataclass
class _Open:
    """The sentences of either side that are not accounted for yet."""

    before: list[_Sentence]
    after: list[_Sentence]

    def cancel(self, key: Callable[[_Sentence], Hashable]) -> None:
        """Take away what has the same key on both sides, one for one; a key of None is no key."""
        common = Counter(map(key, self.before)) & Counter(map(key, self.after))
        common.pop(None, None)
        self.before = _without(self.before, key, Counter(common))
        self.after = _without(self.after, key, common)

    def take(self, pairs: Sequence[_Pair]) -> list[_Pair]:
        """Take the sentences of `pairs` away."""
        old, new = {pair.old.at for pair in pairs}, {pair.new.at for pair in pairs}
        self.before = [one for one in self.before if one.at not in old]
        self.after = [one for one in self.after if one.at not in new]
        return list(pairs)


def compare_texts(before: Mapping[str, Sequence[Chunk]], after: Mapping[str, Sequence[Chunk]]) -> TextChanges:
    """What the changed documents say that they did not: document -> passages, as indexed and as they now are.

    A document that is new stands in `after` alone, a removed one in `before` alone. The same input gives the same news
    in the same order; before and after swapped give the same pairs the other way round. Takes seconds for 10,000
    sentences.
    """
    old, new = _read(before), _read(after)
    unsettled = _Open(list(old), list(new))
    _cancel_in_place(unsettled)
    pairs = unsettled.take(_pairs(unsettled, lambda one: (one.document, one.place), close=True))
    _cancel_elsewhere(unsettled)
    pairs += unsettled.take(_pairs(unsettled, lambda one: (one.document, one.place)))
    pairs += unsettled.take(_pairs(unsettled, lambda one: (one.document, one.numbers)))
    # A document that was renamed and edited at once.
    pairs += unsettled.take(_pairs(unsettled, lambda one: one.place or None))
    return _news(old, new, pairs, unsettled)


def is_self_explanatory(words: Sequence[str]) -> bool:
    """Whether a sentence of `words` says by itself what it is about, without its heading; numbers do not help."""
    return sum(not has_digit(word) for word in words) >= TELLING_WORDS


def plain_text(text: str) -> str:
    """The words of `text` as they are compared: no markup, no punctuation around them, no capitals, single spaces."""
    return " ".join(word.key for word in split_words(_tidy(text)))


def plain_heading_path(heading: str) -> tuple[str, ...]:
    """The steps of a heading path as they are compared; a passage without a heading has none."""
    return tuple(plain_text(step) for step in heading.split(" > ")) if heading.strip() else ()


def _news(old: list[_Sentence], new: list[_Sentence], pairs: list[_Pair], left: _Open) -> TextChanges:
    told = sorted((pair for pair in pairs if not pair.cosmetic), key=lambda pair: pair.new.at)
    moved = [pair for pair in told if pair.moved]
    stood, stands = ({(one.place, one.keys) for one in side} for side in (old, new))
    asked = [
        pair
        for pair in moved
        if (pair.old.place, pair.old.keys) not in stands and (pair.new.place, pair.new.keys) not in stood
    ]
    gone = [one for one in left.before if (one.place, one.keys) not in stands and one.findable]
    return TextChanges(
        sentences=len(new),
        moved=len(moved),
        reworded=len(told) - len(moved),
        added=len(left.after),
        removed=len(left.before),
        probes=tuple(_probe(pair) for pair in asked),
        canaries=tuple(map(_canary, gone)),
    )


def _probe(pair: _Pair) -> FactCheck:
    new, span = pair.new, pair.span(pair.new)
    first, last = pair.head - CONTEXT_WORDS, pair.head + len(span) - 1 + CONTEXT_WORDS
    start = new.words[first].start if first > 0 else 0
    end = new.words[last].end if last < len(new.words) else len(new.text)
    masked = new.text[start : span[0].start] + MASK + new.text[span[-1].end : end]
    return FactCheck(new.document, _under(new.heading, masked), _shown(pair.span(pair.old)), _shown(span))


def _canary(one: _Sentence) -> DeletionCheck:
    return DeletionCheck(one.document, _under(one.heading, one.text), one.text)


def _under(heading: str, sentence: str) -> str:
    return f"{_tidy(heading)}\n{sentence}" if heading.strip() else sentence


def _shown(span: Iterable[Word]) -> str:
    return " ".join(word.shown for word in span)


# --- what is the same ----------------------------------------------------------------------------------------------


def _cancel_in_place(unsettled: _Open) -> None:
    """Whole documents first, wherever they went; then sections that say the same in order, then single sentences."""
    whole = {**_wholes(unsettled.before), **_wholes(unsettled.after)}
    unsettled.cancel(lambda one: (one.document, whole[id(one)], one.place, one.keys))
    unsettled.cancel(lambda one: (whole[id(one)], one.place, one.keys))
    before, after = _streams(unsettled.before), _streams(unsettled.after)
    # Punctuation alone may have cut a section into other sentences.
    same = {key for key, stream in before.items() if after.get(key) == stream}
    unsettled.before = [one for one in unsettled.before if (one.document, one.place) not in same]
    unsettled.after = [one for one in unsettled.after if (one.document, one.place) not in same]
    unsettled.cancel(lambda one: (one.document, one.place, one.keys))


def _cancel_elsewhere(unsettled: _Open) -> None:
    """The same words in another place are no news, unless they are few and stand under another number.

    "Latest release: 3.1" under "Version 4" and under "Version 5" are two facts.
    """
    unsettled.cancel(lambda one: (one.place, one.keys))
    unsettled.cancel(lambda one: (one.leaf, one.keys))
    unsettled.cancel(lambda one: (one.document, one.numbers, one.keys))
    unsettled.cancel(lambda one: one.keys if one.telling else None)


def _wholes(side: Sequence[_Sentence]) -> dict[int, int]:
    """For each sentence (by its identity) the hash of all that its document says, in whatever order."""
    said: dict[str, list[tuple[tuple[str, ...], tuple[str, ...]]]] = defaultdict(list)
    for one in side:
        said[one.document].append((one.place, one.keys))
    hashes = {document: hash(tuple(sorted(lines))) for document, lines in said.items()}
    return {id(one): hashes[one.document] for one in side}


def _streams(side: Sequence[_Sentence]) -> dict[Hashable, list[str]]:
    """(document, place) -> all words under that heading."""
    streams: dict[Hashable, list[str]] = defaultdict(list)
    for one in side:
        streams[(one.document, one.place)].extend(one.keys)
    return streams


def _without(
    side: Sequence[_Sentence], key: Callable[[_Sentence], Hashable], surplus: Counter[Hashable]
) -> list[_Sentence]:
    kept = []
    for one in side:
        if surplus[key(one)] > 0:
            surplus[key(one)] -= 1
        else:
            kept.append(one)
    return kept


# --- what became of a sentence -------------------------------------------------------------------------------------


def _pairs(unsettled: _Open, group: Callable[[_Sentence], Hashable], close: bool = False) -> list[_Pair]:
    """Versions of one sentence, within each group; `close` asks that one short span lies between them."""
    old, new = _grouped(unsettled.before, group), _grouped(unsettled.after, group)
    return [pair for key in old if key in new for pair in _matched(old[key], new[key], close)]


def _grouped(side: Sequence[_Sentence], group: Callable[[_Sentence], Hashable]) -> dict[Hashable, list[_Sentence]]:
    groups: dict[Hashable, list[_Sentence]] = defaultdict(list)
    for one in side:
        groups[group(one)].append(one)
    groups.pop(None, None)
    return groups


def _matched(old: Sequence[_Sentence], new: Sequence[_Sentence], close: bool) -> Iterator[_Pair]:
    """The most alike first, then the nearest. Not by difflib: its pairs differ when the sides are swapped."""
    ranked = []
    for i, j in _candidates(old, new):
        share = _alike(old[i], new[j])
        if share >= ALIKE and (not close or _Pair(old[i], new[j]).close):
            ranked.append((-share, abs(i - j), i + j, i, j))
    taken_old: set[int] = set()
    taken_new: set[int] = set()
    for *_, i, j in sorted(ranked):
        if i not in taken_old and j not in taken_new:
            taken_old.add(i)
            taken_new.add(j)
            yield _Pair(old[i], new[j])


def _alike(old: _Sentence, new: _Sentence) -> float:
    """Dice's coefficient of two sentences' words, 0 to 1."""
    return 2 * len(old.vocabulary & new.vocabulary) / (len(old.vocabulary) + len(new.vocabulary))


def _candidates(old: Sequence[_Sentence], new: Sequence[_Sentence]) -> Iterable[tuple[int, int]]:
    """Which to compare: all of a small group; of a large one neighbours, by rank and among those of one shape."""
    if len(old) * len(new) <= PAIRS:
        return product(range(len(old)), range(len(new)))
    found = set(_neighbours(range(len(old)), range(len(new))))
    old_shapes, new_shapes = _shapes(old), _shapes(new)
    for shape in old_shapes:
        found.update(_neighbours(old_shapes[shape], new_shapes.get(shape, [])))
    return found


def _neighbours(old: Sequence[int], new: Sequence[int]) -> Iterator[tuple[int, int]]:
    for rank, i in enumerate(old):
        yield from ((i, j) for j in new[max(0, rank - NEIGHBOURS) : rank + NEIGHBOURS + 1])


def _shapes(side: Sequence[_Sentence]) -> dict[tuple[str, ...], list[int]]:
    shapes: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for at, one in enumerate(side):
        shapes[one.shape].append(at)
    return shapes


def _is_slip(old: Word, new: Word) -> bool:
    """Whether two plain words are one letter apart, or two letters changed places."""
    a, b = sorted((old.key, new.key), key=lambda key: (len(key), key))
    if len(a) < PLAIN_WORD or not (a.isalpha() and b.isalpha()) or is_name(old) or is_name(new):
        return False
    head = next((at for at in range(len(a)) if a[at] != b[at]), len(a))
    a, b = a[head:], b[head:]
    return b[1:] in (a, a[1:]) or (a[:2] == b[:2][::-1] and a[2:] == b[2:])


# --- reading -------------------------------------------------------------------------------------------------------


def _read(documents: Mapping[str, Sequence[Chunk]]) -> list[_Sentence]:
    """All sentences, in order of document and place; those without a word are left out."""
    found: list[_Sentence] = []
    for document in sorted(documents):
        passages = sorted(documents[document], key=lambda chunk: chunk.position)
        for heading, under in groupby(passages, key=lambda chunk: chunk.heading):
            place = plain_heading_path(heading)
            # Joined, since a sentence may begin in one passage and end in the next.
            for text in _sentences("\n".join(map(_body, under))):
                tidy = _tidy(text)
                words = tuple(split_words(tidy))
                if words:
                    found.append(_Sentence(document, heading, place, len(found), tidy, words))
    return found


def _body(chunk: Chunk) -> str:
    return chunk.text.removeprefix(chunk.heading).removeprefix("\n") if chunk.heading else chunk.text


def _sentences(text: str) -> Iterator[str]:
    """List items, rows and lines of code as they stand; other lines are joined, then cut where sentences end."""
    gathered: list[str] = []
    fenced = numbered = False
    for line in _rid_of_repeats(text.splitlines()):
        item, fence = _item(line, numbered), bool(_FENCE.match(line))
        alone = not fence and (fenced or bool(_ALONE.match(line)))
        if alone or fence or item is not None or not line.strip() or _RULE.match(line):
            yield from _SENTENCE_END.split(" ".join(gathered))
            gathered = []
        if item is not None and not fenced:
            numbered = bool(_NUMBERED.match(line))
        fenced ^= fence
        if alone:
            yield line
        elif not fence and not _RULE.match(line):
            gathered.append(line if item is None else item)
    yield from _SENTENCE_END.split(" ".join(gathered))


def _item(line: str, numbered: bool) -> str | None:
    """What a list item says; None where the line begins none. A re-wrap may bring any number to a line's start."""
    bullet, number = _BULLET.match(line), _NUMBERED.match(line)
    if number and (numbered or number.group(1) == "1"):
        return line[number.end() :]
    return line[bullet.end() :] if bullet else None


def _rid_of_repeats(lines: list[str]) -> Iterator[str]:
    """Lines without the marks of a quotation, and without the head that each passage of a long table repeats."""
    heads: set[str] = set()
    for line, below in pairwise([*lines, ""]):
        if "|" in line and _TABLE_RULE.match(below) and "-" in below:
            if line in heads:
                continue
            heads.add(line)
        quoted = _QUOTED.match(line)
        yield line[quoted.end() :] if quoted else line


def _tidy(text: str) -> str:
    """Text without markup, in single spaces; a link is its text."""
    # Twice, for the picture in a link.
    text = _LINK.sub(r"\1", _LINK.sub(r"\1", unicodedata.normalize("NFC", text.replace(MASK, "..."))))
    text = _ESCAPE.sub("", _MARKUP.sub(" ", text))
    return " ".join(text.replace("**", "").replace("`", "").split())
