"""Which words does a text have, without the punctuation around them, and which of them say what it is about?"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

# Han and kana are written without spaces: each sign counts as a word.
_SIGN = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_WORD = re.compile(rf"[{_SIGN}]|[^\s{_SIGN}]+")
_SIGNS = "-+<>=≤≥$€£"
_MARKS = "+#%"


@dataclass(frozen=True)
class Word:
    """A word without the punctuation around it, by what it is compared, and where it stands in its text."""

    shown: str
    key: str
    start: int
    end: int


def words_of(text: str) -> Iterator[Word]:
    """The words of a text in their order; what is punctuation alone is none."""
    for match in _WORD.finditer(text):
        start, end = _core(match.group())
        if start < end:
            shown = match.group()[start:end]
            yield Word(shown, _key(shown), match.start() + start, match.start() + end)


def is_value(word: Word) -> bool:
    """Whether a word is a number, a date, a version or a name: with another one a sentence says something else."""
    return has_digit(word.key) or is_name(word)


def is_name(word: Word) -> bool:
    """Whether it has a capital that is not that of a text's first word."""
    return word.start > 0 and word.shown[:1].isupper()


def has_digit(word: str) -> bool:
    return any(map(str.isdigit, word))


def _core(word: str) -> tuple[int, int]:
    """Where a word's punctuation ends and begins again; signs before a number, and +, # and % behind, belong to it."""
    start, end = 0, len(word)
    if word.isalnum():
        return start, end
    while start < end and _is_edge(word[start]):
        start += 1
    while end > start and _is_edge(word[end - 1]):
        end -= 1
    if start == end:
        return start, end
    before = word[:start].rstrip(_SIGNS) if word[start].isdigit() else word[:start]
    behind = word[end:].lstrip(_MARKS)
    return len(before), len(word) - len(behind)


def _is_edge(sign: str) -> bool:
    """Punctuation, and signs other than pictures: a tick in a table says something."""
    return not sign.isalnum() and unicodedata.category(sign) not in ("So", "Mn", "Mc")


def _key(shown: str) -> str:
    key = unicodedata.normalize("NFC", shown.casefold()).replace("’", "'")
    return key[1:] if key[:1] == "v" and key[1:2].isdigit() else key
