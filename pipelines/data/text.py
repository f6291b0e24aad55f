"""Which values does an answer state, and does a text hold them? What can be told without a model."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NoReturn, TypeAlias

KeyPath: TypeAlias = tuple[str | int, ...]
# A number as a page may write it: its thousands joined, its leading noughts gone.
_JOINED = re.compile(r"(?<=\d)[,'’](?=\d{3}(?!\d))")
_NUMBER = re.compile(r"\d+")


def holds_answer(text: str, answers: Sequence[str]) -> bool:
    """Whether `text` holds one of `answers` as a whole: not as part of a longer word, number, version or date.

    Case, the kind of white space, and a `v` before a version do not matter.
    """
    text = unicodedata.normalize("NFC", text)
    return any(re.search(_whole(unicodedata.normalize("NFC", answer)), text, re.IGNORECASE) for answer in answers)


def _whole(answer: str) -> str:
    """A pattern for `answer` that no letter or digit touches, be it across one of the marks that join numbers."""
    words = r"\s+".join(re.escape(word) for word in answer.split())
    version = "v?" if answer[:1].isdigit() else ""
    return rf"(?<![\w\-])(?<!\w[.,:/]){version}{words}(?![\w\-+#]|[.,:/]\w)"


def json_fields(text: str) -> dict[KeyPath, Any] | None:
    """The leaves of a JSON text by their paths, an empty list or object being one; None where it is no JSON.

    Numbers that are not whole are Decimals, which keep their noughts: 1.10 may be a version.
    """
    try:
        return dict(_leaves(json.loads(text, parse_float=Decimal, parse_constant=_no_json), ()))
    except (ValueError, RecursionError):
        return None


def _no_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _leaves(value: Any, path: KeyPath) -> list[tuple[KeyPath, Any]]:
    if isinstance(value, dict) and value:
        return [leaf for key, one in value.items() for leaf in _leaves(one, (*path, key))]
    if isinstance(value, list) and value:
        return [leaf for at, one in enumerate(value) for leaf in _leaves(one, (*path, at))]
    return [(path, value)]


def stated_values(answer: str) -> list[str]:
    """What an answer states: the texts and numbers of a JSON object or list, any other answer as it is."""
    found = json_fields(answer)
    if found is None or () in found:
        return [answer]
    return [str(one) for one in found.values() if isinstance(one, str | int | Decimal) and not isinstance(one, bool)]


@dataclass(frozen=True)
class NumberSet:
    """The numbers that a text holds: those of each word together (a date, a version), and each alone."""

    words: frozenset[tuple[str, ...]]
    alone: frozenset[str]

    @classmethod
    def of(cls, text: str) -> NumberSet:
        found = [_numbers(word) for word in split_words(text)]
        return cls(frozenset(found), frozenset(number for some in found for number in some))

    def lack(self, answer: str, question: str = "") -> str | None:
        """The first value with a number in `answer` (of a JSON answer: among its fields) that stands nowhere here.

        Written in another way it is the same: 2026-05-01 and 1.5.2026, v1.2 and 1.2, 1,000 and 1000; and one number
        alone stands wherever a longer value holds it. What the question says already is repeated, not stated.
        """
        known = NumberSet.of(question).words
        for word in (word for text in stated_values(answer) for word in split_words(text)):
            numbers = _numbers(word)
            if numbers and numbers not in known and not self._hold(numbers):
                return word.shown
        return None

    def _hold(self, numbers: tuple[str, ...]) -> bool:
        return numbers in self.words or (len(numbers) == 1 and numbers[0] in self.alone)


def _numbers(word: Word) -> tuple[str, ...]:
    """A word's numbers in an order of their own, so that a date is the same whichever way it is written."""
    return tuple(sorted(number.lstrip("0") for number in _NUMBER.findall(_JOINED.sub("", word.key))))


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


def split_words(text: str) -> Iterator[Word]:
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
