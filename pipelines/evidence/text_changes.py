"""Text changes: what the changed documents say now compared with before, sentence by sentence, without a model.

An edited fact becomes a fact check (does the index still give the old value?), a removed sentence a deletion check
(does a search still find it?). A sentence that only moved, or only looks different, is no change.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product

from ragtide.pipelines.data.text import Word, is_name, is_value
from ragtide.pipelines.evidence.sentences import MASK, Sentence, read_sentences, tidy_text
from ragtide.pipelines.evidence.statements import count_differences
from ragtide.pipelines.records.data import Chunk

# The longest span, in words, that is a value and not a sentence of its own.
SPAN_WORDS = 6
# What a question keeps on each side of what is asked.
CONTEXT_WORDS = 30
# The least share of common words of two versions of one sentence.
ALIKE = 0.5
# Up to so many pairs a group is compared whole; beyond, each sentence with so many neighbours on either side.
PAIRS = 2500
NEIGHBOURS = 8
# Shorter words are not compared letter by letter.
PLAIN_WORD = 4


@dataclass(frozen=True)
class FactCheck:
    """A sentence in which a short span changed: a number, a date, a version, a name.

    `question` is the heading, if any, on a line of its own, and the new sentence with MASK in place of `new`; `old` is
    the value before.
    """

    document: str
    question: str
    old: str
    new: str


@dataclass(frozen=True)
class DeletionCheck:
    """A removed sentence: its document was deleted, or it is nowhere in the changed documents any more.

    `question` is its heading, if any, on a line of its own, and the sentence; `removed` is the sentence.
    """

    document: str
    question: str
    removed: str


@dataclass(frozen=True)
class TextChanges:
    """Changes counted in sentences (a list item, a row of a table and a line of code are one each).

    `sentences` counts those of the changed documents as they are now. A change of markup, link targets, punctuation,
    case or wrapping, and a spelling mistake, do not count. `edited_facts` mostly have a fact check: a sentence whose
    old version is still under the same heading has none. `removed` sentences have no counterpart; `absent` are those of
    them that none of the changed documents says any more. `differences` counts strictly (statements.py): a heading,
    one letter of a word or the target of a link may be a fact.
    """

    sentences: int
    edited_facts: int
    reworded: int
    added: int
    removed: int
    absent: int
    fact_checks: tuple[FactCheck, ...]
    deletion_checks: tuple[DeletionCheck, ...]
    differences: int = 0

    @property
    def changed(self) -> int:
        """Sentences that say something else or new."""
        return self.edited_facts + self.reworded + self.added

    @property
    def substantive(self) -> int:
        """Sentences that say something else or new, and those that are absent now; 0 where only form differs."""
        return max(1, self.changed + self.absent) if self.differences else 0


@dataclass(frozen=True)
class _Pair:
    """A sentence before and after; what differs lies between the first `head` and the last `tail` words."""

    old: Sentence
    new: Sentence

    @cached_property
    def head(self) -> int:
        both = zip(self.old.keys, self.new.keys, strict=False)
        return next((at for at, (a, b) in enumerate(both) if a != b), min(len(self.old.keys), len(self.new.keys)))

    @cached_property
    def tail(self) -> int:
        left = min(len(self.old.keys), len(self.new.keys)) - self.head
        both = zip(reversed(self.old.keys), reversed(self.new.keys), strict=False)
        return min(left, next((at for at, (a, b) in enumerate(both) if a != b), left))

    def span(self, side: Sentence) -> tuple[Word, ...]:
        return side.words[self.head : len(side.words) - self.tail]

    @property
    def close(self) -> bool:
        """Whether one short span apart, in a sentence that holds more than it."""
        spans = (self.span(self.old), self.span(self.new))
        return self.head + self.tail > 0 and all(len(span) <= SPAN_WORDS for span in spans)

    @property
    def cosmetic(self) -> bool:
        """Whether only spelling mistakes lie between the two."""
        if len(self.old.words) != len(self.new.words):
            return False
        return all(a.key == b.key or _is_slip(a, b) for a, b in zip(self.old.words, self.new.words, strict=True))

    @property
    def is_edited_fact(self) -> bool:
        """Whether a value took another's place."""
        old, new = self.span(self.old), self.span(self.new)
        return self.close and bool(old and new) and any(is_value(word) for word in (*old, *new))


@dataclass
class _Unmatched:
    """The sentences of either side that have no counterpart yet."""

    before: list[Sentence]
    after: list[Sentence]

    def cancel(self, key: Callable[[Sentence], Hashable]) -> None:
        """Remove pairs with the same key on both sides; a key of None is no key."""
        common = Counter(map(key, self.before)) & Counter(map(key, self.after))
        common.pop(None, None)
        self.before = _without(self.before, key, Counter(common))
        self.after = _without(self.after, key, common)

    def take(self, pairs: Sequence[_Pair]) -> list[_Pair]:
        """Remove the sentences of `pairs`, and return the pairs."""
        old, new = {pair.old.at for pair in pairs}, {pair.new.at for pair in pairs}
        self.before = [sentence for sentence in self.before if sentence.at not in old]
        self.after = [sentence for sentence in self.after if sentence.at not in new]
        return list(pairs)


def compare_texts(
    before: Mapping[str, Sequence[Chunk]], after: Mapping[str, Sequence[Chunk]], held: Collection[str] = ()
) -> TextChanges:
    """Compare the changed documents (document -> passages), as indexed and as they are now.

    A new document is in `after` alone, a deleted one in `before` alone; the deletion of those that are `held` is
    pending: what they say is not new elsewhere, and not removed. The same input gives the same changes in
    the same order; before and after swapped give the same pairs the other way round. Takes seconds for 10,000
    sentences.
    """
    old, new = read_sentences(before), read_sentences(after)
    unmatched = _Unmatched(list(old), list(new))
    _cancel_in_place(unmatched)
    pairs = unmatched.take(_pairs(unmatched, lambda sentence: (sentence.document, sentence.place), close=True))
    _cancel_elsewhere(unmatched)
    pairs += unmatched.take(_pairs(unmatched, lambda sentence: (sentence.document, sentence.place)))
    pairs += unmatched.take(_pairs(unmatched, lambda sentence: (sentence.document, sentence.outline_place)))
    pairs += unmatched.take(_pairs(unmatched, lambda sentence: (sentence.document, sentence.numbers)))
    # A document that was renamed and edited at once.
    pairs += unmatched.take(_pairs(unmatched, lambda sentence: sentence.place or None))
    unmatched.before = [sentence for sentence in unmatched.before if sentence.document not in held]
    changes = _text_changes(old, new, pairs, unmatched)
    return replace(changes, differences=count_differences(before, after, (old, new), held))


def _text_changes(old: list[Sentence], new: list[Sentence], pairs: list[_Pair], left: _Unmatched) -> TextChanges:
    changed = sorted((pair for pair in pairs if not pair.cosmetic), key=lambda pair: pair.new.at)
    edited = [pair for pair in changed if pair.is_edited_fact]
    before, after = ({(sentence.place, sentence.keys) for sentence in side} for side in (old, new))
    checked = [
        pair
        for pair in edited
        if (pair.old.place, pair.old.keys) not in after and (pair.new.place, pair.new.keys) not in before
    ]
    removed = [
        sentence for sentence in left.before if (sentence.place, sentence.keys) not in after and sentence.is_findable
    ]
    present = {sentence.keys for sentence in new}
    return TextChanges(
        sentences=len(new),
        edited_facts=len(edited),
        reworded=len(changed) - len(edited),
        added=len(left.after),
        removed=len(left.before),
        absent=sum(sentence.keys not in present for sentence in left.before),
        fact_checks=tuple(_fact_check(pair) for pair in checked),
        deletion_checks=tuple(map(_deletion_check, removed)),
    )


def _fact_check(pair: _Pair) -> FactCheck:
    new, span = pair.new, pair.span(pair.new)
    first, last = pair.head - CONTEXT_WORDS, pair.head + len(span) - 1 + CONTEXT_WORDS
    start = new.words[first].start if first > 0 else 0
    end = new.words[last].end if last < len(new.words) else len(new.text)
    masked = new.text[start : span[0].start] + MASK + new.text[span[-1].end : end]
    return FactCheck(new.document, _under(new.heading, masked), _shown(pair.span(pair.old)), _shown(span))


def _deletion_check(sentence: Sentence) -> DeletionCheck:
    return DeletionCheck(sentence.document, _under(sentence.heading, sentence.text), sentence.text)


def _under(heading: str, text: str) -> str:
    return f"{tidy_text(heading)}\n{text}" if heading.strip() else text


def _shown(span: Iterable[Word]) -> str:
    return " ".join(word.shown for word in span)


# --- unchanged sentences ----------------------------------------------------------------------------------------------


def _cancel_in_place(unmatched: _Unmatched) -> None:
    """Whole documents first, wherever they went; then sections that say the same in order, then single sentences."""
    whole = {**_wholes(unmatched.before), **_wholes(unmatched.after)}
    unmatched.cancel(lambda sentence: (sentence.document, whole[id(sentence)], sentence.place, sentence.keys))
    unmatched.cancel(lambda sentence: (whole[id(sentence)], sentence.place, sentence.keys))
    before, after = _streams(unmatched.before), _streams(unmatched.after)
    # Punctuation alone may have cut a section into other sentences.
    same = {key for key, stream in before.items() if after.get(key) == stream}
    unmatched.before = [sentence for sentence in unmatched.before if (sentence.document, sentence.place) not in same]
    unmatched.after = [sentence for sentence in unmatched.after if (sentence.document, sentence.place) not in same]
    unmatched.cancel(lambda sentence: (sentence.document, sentence.place, sentence.keys))


def _cancel_elsewhere(unmatched: _Unmatched) -> None:
    """The same words in another place are no change, unless they are few and under another number.

    "Latest release: 3.1" under "Version 4" and under "Version 5" are two facts.
    """
    unmatched.cancel(lambda sentence: (sentence.document, sentence.outline_place, sentence.keys))
    unmatched.cancel(lambda sentence: (sentence.place, sentence.keys))
    unmatched.cancel(lambda sentence: (sentence.leaf, sentence.keys))
    unmatched.cancel(lambda sentence: (sentence.document, sentence.numbers, sentence.keys))
    unmatched.cancel(lambda sentence: sentence.keys if sentence.self_explanatory else None)


def _wholes(side: Sequence[Sentence]) -> dict[int, int]:
    """Sentence (by its identity) -> hash of everything that its document says, in any order."""
    lines_of: dict[str, list[tuple[tuple[str, ...], tuple[str, ...]]]] = defaultdict(list)
    for sentence in side:
        lines_of[sentence.document].append((sentence.place, sentence.keys))
    hashes = {document: hash(tuple(sorted(lines))) for document, lines in lines_of.items()}
    return {id(sentence): hashes[sentence.document] for sentence in side}


def _streams(side: Sequence[Sentence]) -> dict[Hashable, list[str]]:
    """(document, place) -> all words under that heading."""
    streams: dict[Hashable, list[str]] = defaultdict(list)
    for sentence in side:
        streams[(sentence.document, sentence.place)].extend(sentence.keys)
    return streams


def _without(
    side: Sequence[Sentence], key: Callable[[Sentence], Hashable], surplus: Counter[Hashable]
) -> list[Sentence]:
    kept = []
    for sentence in side:
        if surplus[key(sentence)] > 0:
            surplus[key(sentence)] -= 1
        else:
            kept.append(sentence)
    return kept


# --- versions of a sentence -------------------------------------------------------------------------------------


def _pairs(unmatched: _Unmatched, group: Callable[[Sentence], Hashable], close: bool = False) -> list[_Pair]:
    """Versions of one sentence, within each group; with `close` only those that are one short span apart."""
    old, new = _grouped(unmatched.before, group), _grouped(unmatched.after, group)
    return [pair for key in old if key in new for pair in _matched(old[key], new[key], close)]


def _grouped(side: Sequence[Sentence], group: Callable[[Sentence], Hashable]) -> dict[Hashable, list[Sentence]]:
    groups: dict[Hashable, list[Sentence]] = defaultdict(list)
    for sentence in side:
        groups[group(sentence)].append(sentence)
    groups.pop(None, None)
    return groups


def _matched(old: Sequence[Sentence], new: Sequence[Sentence], close: bool) -> Iterator[_Pair]:
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


def _alike(old: Sentence, new: Sentence) -> float:
    """Dice's coefficient of two sentences' words, 0 to 1."""
    return 2 * len(old.vocabulary & new.vocabulary) / (len(old.vocabulary) + len(new.vocabulary))


def _candidates(old: Sequence[Sentence], new: Sequence[Sentence]) -> Iterable[tuple[int, int]]:
    """Pairs to compare: all of a small group; of a large one neighbours, by rank and among those of one shape."""
    if len(old) * len(new) <= PAIRS:
        return product(range(len(old)), range(len(new)))
    pairs = set(_neighbours(range(len(old)), range(len(new))))
    old_shapes, new_shapes = _shapes(old), _shapes(new)
    for shape in old_shapes:
        pairs.update(_neighbours(old_shapes[shape], new_shapes.get(shape, [])))
    return pairs


def _neighbours(old: Sequence[int], new: Sequence[int]) -> Iterator[tuple[int, int]]:
    for rank, i in enumerate(old):
        yield from ((i, j) for j in new[max(0, rank - NEIGHBOURS) : rank + NEIGHBOURS + 1])


def _shapes(side: Sequence[Sentence]) -> dict[tuple[str, ...], list[int]]:
    shapes: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for at, sentence in enumerate(side):
        shapes[sentence.shape].append(at)
    return shapes


def _is_slip(old: Word, new: Word) -> bool:
    """Whether two plain words are one letter apart, or two letters changed places."""
    a, b = sorted((old.key, new.key), key=lambda key: (len(key), key))
    if len(a) < PLAIN_WORD or not (a.isalpha() and b.isalpha()) or is_name(old) or is_name(new):
        return False
    head = next((at for at in range(len(a)) if a[at] != b[at]), len(a))
    a, b = a[head:], b[head:]
    return b[1:] in (a, a[1:]) or (a[:2] == b[:2][::-1] and a[2:] == b[2:])
