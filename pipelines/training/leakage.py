"""Detection of training questions that repeat a golden question in almost the same words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from rapidfuzz import fuzz, process

from ragtide.pipelines.data.text import Word, is_value, split_words

# Rows of the similarity matrix computed at a time: 20 MB with a thousand golden questions.
ROWS = 5000
_LETTERS = re.compile(r"\w+")
# A hyphen or an apostrophe joins words; any other sign inside makes a path, a pattern, a flag or an address.
_SIGN = re.compile(r"[^\w\-'’]")


@dataclass(frozen=True)
class Leak:
    """The golden question that a training question repeats, and their similarity, 0 to 1."""

    golden: str
    similarity: float


@dataclass(frozen=True)
class _Question:
    """A question with the forms in which it is compared."""

    text: str

    @cached_property
    def words(self) -> tuple[Word, ...]:
        return tuple(split_words(self.text))

    @cached_property
    def sorted_words(self) -> str:
        """The words in alphabetical order, without case and punctuation."""
        return " ".join(sorted(part for word in self.words for part in _LETTERS.findall(word.key)))

    @cached_property
    def keys(self) -> frozenset[str]:
        return frozenset(word.key for word in self.words)

    @cached_property
    def values(self) -> frozenset[str]:
        """The values it is about: numbers, versions, dates, names, quoted words, paths and patterns."""
        return frozenset(word.key for word in self.words if is_value(word) or self._is_marked(word))

    def _is_marked(self, word: Word) -> bool:
        """Whether the word is not an ordinary one: a symbol in it or before it, or a capital after the first letter."""
        before, capital = self.text[: word.start][-1:], word.shown[1:] != word.shown[1:].lower()
        return capital or bool(_SIGN.search(word.shown) or before.strip(" \n\t([{"))

    def shares_values_with(self, other: _Question) -> bool:
        """Whether each of the two questions contains every value of the other."""
        return self.values <= other.keys and other.values <= self.keys


def find_leaks(questions: Sequence[str], golden: Sequence[str], similarity: float) -> list[Leak | None]:
    """For each of `questions`, the most similar golden question that it leaks; None if it leaks none.

    Similarity is 1 minus the normalised Indel distance of the alphabetically sorted words, without case and
    punctuation; a leak has at least `similarity`. Two questions that differ in a value are never a leak, however
    similar: "When does Quill 1.2 end?" and "When does Quill 1.3 end?" (docs/log.md).
    """
    golden_questions = [_Question(text) for text in dict.fromkeys(golden)]
    asked = [_Question(text) for text in questions]
    blocks = (asked[start : start + ROWS] for start in range(0, len(asked), ROWS))
    return [leak for block in blocks for leak in _block_leaks(block, golden_questions, similarity)]


def _block_leaks(questions: Sequence[_Question], golden: Sequence[_Question], similarity: float) -> list[Leak | None]:
    if not golden:
        return [None for _ in questions]
    sides = [[question.sorted_words for question in side] for side in (questions, golden)]
    similarities = process.cdist(*sides, scorer=fuzz.ratio, score_cutoff=100 * similarity, dtype=np.float32)
    return [_first_leak(question, row, golden) for question, row in zip(questions, similarities, strict=True)]


def _first_leak(question: _Question, row: NDArray[np.float32], golden: Sequence[_Question]) -> Leak | None:
    """The most similar golden question with the same values; `row` holds the similarities to `golden`, 0 to 100."""
    for column in np.argsort(-row, kind="stable")[: np.count_nonzero(row)].tolist():
        if question.shares_values_with(golden[column]):
            return Leak(golden[column].text, float(row[column]) / 100)
    return None
