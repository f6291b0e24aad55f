"""Lost content: edited documents that no longer say what the live index holds of them.

The deletion guard counts a document that loses most of it as a deletion, and so it does those that lose parts which
together are as much as many documents (invariant no-mass-deletion, docs/invariants.md).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from ragtide.pipelines.data.text import has_digit, split_words
from ragtide.pipelines.records.data import Chunk

# The least share of its words, or of its pairs of neighbouring words, without which a document has lost most of what it
# said (docs/log.md). Texts on other subjects have many words in common, and hardly any pairs.
LOST_WORDS, LOST_PAIRS = 0.5, 0.75
# In fewer words than these, a fact is a large part of the pairs.
PAIRED_WORDS = 20
# The least share of its words that a document must lose to count among those that are cut together (docs/log.md).
CUT = 0.05
# So many words in a row that stand in another new or edited document were moved there.
PHRASE = 6
_BETWEEN = ">"


@dataclass(frozen=True)
class LostContent:
    """What a snapshot no longer says of the live index.

    `emptied` are the documents that lose most of their text, or much of it with many others (document -> digest of the
    removal), `rows` counts the live rows of these and of deleted documents whose text no changed document has any more,
    and `texts` is what the emptied documents say now.
    """

    emptied: Mapping[str, str] = field(default_factory=dict)
    rows: int = 0
    texts: Mapping[str, str] = field(default_factory=dict)


def removal_digest(live: str, now: str) -> str:
    """The digest of an emptied document: it names what is lost and what replaces it, so that no other edit is meant."""
    return f"{live}{_BETWEEN}{now}"


def removed_content(digest: str) -> str:
    """The digest of the live rows that a removal is about, of a deleted or of an emptied document."""
    return digest.partition(_BETWEEN)[0]


def names_emptied(digest: str) -> bool:
    """Whether the digest of a removal is that of an emptied document, and not of a deleted one."""
    return _BETWEEN in digest


def find_emptied(before: Mapping[str, Sequence[Chunk]], after: Mapping[str, Sequence[Chunk]]) -> list[str]:
    """The documents of `before` that lose most of their text, by name.

    `before` has the live passages of edited documents, `after` those of edited and added ones. What moved to another of
    these is not lost; numbers may change, and neither markup nor the wrapping of lines matters.
    """
    now = {name: _words(chunks) for name, chunks in after.items()}
    suspects = {name: words for name, chunks in sorted(before.items()) if _is_lost(words := _words(chunks), now[name])}
    places = _phrase_places({phrase for words in suspects.values() for phrase in _phrases(words)}, now)
    return [name for name, words in suspects.items() if _is_lost(words, now[name], _moved(name, words, places))]


def find_cut(before: Mapping[str, Sequence[Chunk]], after: Mapping[str, Sequence[Chunk]], allowed: float) -> list[str]:
    """The documents of `before` that lose a part of their text, where the parts are more than `allowed` documents.

    A part is the share of its words by which a document is shorter, as far as no other document has them now. What
    several lose alike, such as a footer, counts once. Text in other words is no loss.
    """
    now = {name: _words(chunks) for name, chunks in after.items()}
    shorter = {
        name: words for name, chunks in sorted(before.items()) if _shrinkage(words := _words(chunks), now[name]) >= CUT
    }
    if sum(_shrinkage(words, now[name]) for name, words in shorter.items()) <= allowed:
        return []
    known = {*_phrase_places({phrase for words in shorter.values() for phrase in _phrases(words)}, now)}
    parts: dict[str, float] = {}
    for name, words in shorter.items():
        phrases = {*_phrases(words)}
        lost = phrases - known
        known |= lost
        parts[name] = min(_shrinkage(words, now[name]), len(lost) / max(1, len(phrases)))
    return [name for name, part in parts.items() if part >= CUT] if sum(parts.values()) > allowed else []


def _shrinkage(old: Sequence[str], new: Sequence[str]) -> float:
    """The share of a text's words by which its new version is shorter."""
    return max(0, len(old) - len(new)) / max(1, len(old))


def count_lost_rows(before: Iterable[Chunk], after: Mapping[str, Sequence[Chunk]]) -> int:
    """The live rows whose text is in none of the changed documents; an overview is lost only with a passage."""
    present = {chunk.digest for chunks in after.values() for chunk in chunks}
    lost = [chunk for chunk in before if chunk.digest not in present]
    documents = {chunk.document for chunk in lost if not chunk.is_overview}
    return sum(chunk.document in documents for chunk in lost)


def _words(chunks: Sequence[Chunk]) -> list[str]:
    """The words of passages without their headings; numbers are alike."""
    bodies = (chunk.text.removeprefix(chunk.heading) for chunk in chunks if not chunk.is_overview)
    keys = (word.key for body in bodies for word in split_words(body))
    return ["0" if has_digit(key) else key for key in keys]


def _is_lost(old: Sequence[str], new: Sequence[str], moved: frozenset[int] = frozenset()) -> bool:
    """Whether most of a text is missing in its new version; `moved` are positions of words that stand elsewhere."""
    if not old:
        return False
    rest = [word for at, word in enumerate(old) if at not in moved]
    words = (Counter(rest) - Counter(new)).total() / len(old)
    pairs = (Counter(pairwise(rest)) - Counter(pairwise(new))).total() / len(old)
    return words > LOST_WORDS or (pairs > LOST_PAIRS and len(old) >= PAIRED_WORDS)


def _phrases(words: Sequence[str]) -> Iterator[tuple[str, ...]]:
    return (tuple(words[at : at + PHRASE]) for at in range(len(words) - PHRASE + 1))


def _phrase_places(wanted: set[tuple[str, ...]], texts: Mapping[str, Sequence[str]]) -> dict[tuple[str, ...], set[str]]:
    """Phrase -> the documents that hold it."""
    places: dict[tuple[str, ...], set[str]] = {}
    for name, words in texts.items() if wanted else ():
        for phrase in wanted.intersection(_phrases(words)):
            places.setdefault(phrase, set()).add(name)
    return places


def _moved(name: str, words: Sequence[str], places: Mapping[tuple[str, ...], set[str]]) -> frozenset[int]:
    """The positions of words that another document holds in the same order."""
    starts = (at for at, phrase in enumerate(_phrases(words)) if places.get(phrase, set()) - {name})
    return frozenset(position for at in starts for position in range(at, at + PHRASE))
