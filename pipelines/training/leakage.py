"""Which training questions give a golden one away? Those that ask the same thing in almost the same words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from rapidfuzz import fuzz, process

from ragtide.pipelines.data.text import Word, is_value, split_words

# Rows of the table of similarities that are held at once: with a thousand golden questions 5 MB.
ROWS = 5000
_LETTERS = re.compile(r"\w+")
# A hyphen or an apostrophe joins words; any other sign inside makes a path, a pattern, a flag or an address.
_SIGN = re.compile(r"[^\w\-'’]")


@dataclass(frozen=True)
class Leak:
    """The golden question that a training question gives away, and how alike the two are, 0 to 1."""

    golden: str
    similarity: float


@dataclass(frozen=True)
class _Asked:
    """A question as it is compared."""

    text: str

    @cached_property
    def words(self) -> tuple[Word, ...]:
        return tuple(split_words(self.text))

    @cached_property
    def sorted(self) -> str:
        """Its words in order of the alphabet, without case and punctuation."""
        return " ".join(sorted(part for word in self.words for part in _LETTERS.findall(word.key)))

    @cached_property
    def keys(self) -> frozenset[str]:
        return frozenset(word.key for word in self.words)

    @cached_property
    def values(self) -> frozenset[str]:
        """What it is about: numbers, versions, dates, names, quoted words, paths and patterns."""
        return frozenset(word.key for word in self.words if is_value(word) or self._is_marked(word))

    def _is_marked(self, word: Word) -> bool:
        """Whether it is written as no common word is: with a sign in it or before it, or a capital within."""
        before, capital = self.text[: word.start][-1:], word.shown[1:] != word.shown[1:].lower()
        return capital or bool(_SIGN.search(word.shown) or before.strip(" \n\t([{"))

    def is_about(self, other: _Asked) -> bool:
        """Whether each says every value of the other."""
        return self.values <= other.keys and other.values <= self.keys


def find_leaks(questions: Sequence[str], golden: Sequence[str], similarity: float) -> list[Leak | None]:
    """For each of `questions` the golden one that it gives away, the most similar first; None where it is its own.

    Similarity is the share of letters that both have in one order (1 less the normalised Indel distance), word order,
    case and punctuation aside; at or over `similarity` it is a leak. But two that differ in a value are two questions,
    however alike they look: "When does Quill 1.2 end?" and "When does Quill 1.3 end?" (docs/log.md).
    """
    known = [_Asked(text) for text in dict.fromkeys(golden)]
    asked = [_Asked(text) for text in questions]
    return [leak for at in range(0, len(asked), ROWS) for leak in _leaks(asked[at : at + ROWS], known, similarity)]


def _leaks(asked: Sequence[_Asked], golden: Sequence[_Asked], similarity: float) -> list[Leak | None]:
    if not golden:
        return [None for _ in asked]
    sides = [[one.sorted for one in side] for side in (asked, golden)]
    alike = process.cdist(*sides, scorer=fuzz.ratio, score_cutoff=100 * similarity, dtype=np.float32)
    return [_first_leak(one, row, golden) for one, row in zip(asked, alike, strict=True)]


def _first_leak(one: _Asked, row: NDArray[np.float32], golden: Sequence[_Asked]) -> Leak | None:
    for at in np.argsort(-row, kind="stable")[: np.count_nonzero(row)].tolist():
        if one.is_about(golden[at]):
            return Leak(golden[at].text, float(row[at]) / 100)
    return None
