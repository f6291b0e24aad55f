"""Words, values and numbers in texts: which values an answer states, and whether a text contains them."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NoReturn, TypeAlias

KeyPath: TypeAlias = tuple[str | int, ...]
# A thousands separator in a number.
_JOINED = re.compile(r"(?<=\d)[,'’](?=\d{3}(?!\d))")
_NUMBER = re.compile(r"\d+")
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
# Of more marks on one letter, normalization takes quadratic time; no language has so many (UAX 15, Stream-Safe Text).
MAX_MARKS = 30
_FOREIGN_RUN = re.compile(rf"[^\x00-\u02ff]{{{MAX_MARKS + 1},}}")


def holds_answer(text: str, answers: Sequence[str]) -> bool:
    """Whether `text` contains one of `answers` as a whole: not as part of a longer word, number, version or date.

    Case, the kind of white space, and a `v` before a version do not matter.
    """
    text = normalize_text(text)
    # What is longer than the text is not searched for: its pattern would take as long to compile as it is.
    wanted = [words for answer in answers if sum(map(len, words := normalize_text(answer).split())) <= len(text)]
    return any(re.search(_whole_pattern(words), text, re.IGNORECASE) for words in wanted)


def normalize_text(text: str) -> str:
    """The text in Unicode's normal form C; of a run of combining marks, the first MAX_MARKS."""
    return text if text.isascii() else unicodedata.normalize("NFC", _FOREIGN_RUN.sub(_limit_marks, text))


def _limit_marks(run: re.Match[str]) -> str:
    kept: list[str] = []
    marks = 0
    for character in run.group():
        marks = marks + 1 if unicodedata.combining(character) else 0
        if marks <= MAX_MARKS:
            kept.append(character)
    return "".join(kept)


def _whole_pattern(answer: Sequence[str]) -> str:
    """A pattern for an answer's words with no letter or digit next to them, directly or across a sign in numbers."""
    words = r"\s+".join(map(re.escape, answer))
    version = "v?" if answer and answer[0][0].isdigit() else ""
    return rf"(?<![\w\-])(?<!\w[.,:/]){version}{words}(?![\w\-+#]|[.,:/]\w)"


def json_fields(text: str) -> dict[KeyPath, Any] | None:
    """Path -> leaf of a JSON text (an empty list or object is a leaf); None if the text is not JSON.

    Fractional numbers are Decimals, which keep trailing zeros: 1.10 may be a version.
    """
    try:
        require_whole_characters(text)
        return dict(_leaves(json.loads(text, parse_float=Decimal, parse_constant=_reject_constant), ()))
    except (ValueError, RecursionError):
        return None


def require_whole_characters(text: str) -> None:
    """Raise ValueError for a JSON text with an escape for half a character, such as \\ud800: no file can hold it."""
    if _SURROGATE_ESCAPE.search(text):
        try:
            json.dumps(json.loads(text), ensure_ascii=False).encode()
        except UnicodeEncodeError as problem:
            half = str(problem.object)[problem.start]
            raise ValueError(f"contains half a character (\\u{ord(half):04x}), which no file can hold") from problem


def _reject_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _leaves(value: Any, path: KeyPath) -> list[tuple[KeyPath, Any]]:
    if isinstance(value, dict) and value:
        return [leaf for key, member in value.items() for leaf in _leaves(member, (*path, key))]
    if isinstance(value, list) and value:
        return [leaf for index, item in enumerate(value) for leaf in _leaves(item, (*path, index))]
    return [(path, value)]


def stated_values(answer: str) -> list[str]:
    """The values that an answer states: the texts and numbers of a JSON object or list, any other answer as a whole."""
    fields = json_fields(answer)
    if fields is None or () in fields:
        return [answer]
    return [
        str(value)
        for value in fields.values()
        if isinstance(value, str | int | Decimal) and not isinstance(value, bool)
    ]


@dataclass(frozen=True)
class NumberSet:
    """The numbers in a text: those of each word together (a date, a version), and each on its own."""

    words: frozenset[tuple[str, ...]]
    alone: frozenset[str]

    @classmethod
    def of(cls, text: str) -> NumberSet:
        words = [_numbers(word) for word in split_words(text)]
        return cls(frozenset(words), frozenset(number for numbers in words for number in numbers))

    def lack(self, answer: str, question: str = "") -> str | None:
        """The first word with a number in `answer` (for JSON: in its fields) that this set does not contain; else None.

        Notation does not matter: 2026-05-01 equals 1.5.2026, v1.2 equals 1.2, 1,000 equals 1000. A single number is
        contained if it is part of a longer value. Numbers that `question` contains are ignored.
        """
        in_question = NumberSet.of(question).words
        for word in (word for text in stated_values(answer) for word in split_words(text)):
            numbers = _numbers(word)
            if numbers and numbers not in in_question and not self._contains(numbers):
                return word.shown
        return None

    def _contains(self, numbers: tuple[str, ...]) -> bool:
        return numbers in self.words or (len(numbers) == 1 and numbers[0] in self.alone)


def _numbers(word: Word) -> tuple[str, ...]:
    """A word's numbers without leading zeros, sorted, so that a date is the same in any notation."""
    return tuple(sorted(number.lstrip("0") for number in _NUMBER.findall(_JOINED.sub("", word.key))))


# Han and kana are written without spaces: each character counts as a word.
_SIGN = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_WORD = re.compile(rf"[{_SIGN}]|[^\s{_SIGN}]+")
_SIGNS = "-+<>=≤≥$€£"
_MARKS = "+#%"


@dataclass(frozen=True)
class Word:
    """A word without the punctuation around it: as written, as compared (`key`), and its place in the text."""

    shown: str
    key: str
    start: int
    end: int


def split_words(text: str) -> Iterator[Word]:
    """The words of a text in order, without those that are only punctuation."""
    for match in _WORD.finditer(text):
        start, end = _strip_punctuation(match.group())
        if start < end:
            shown = match.group()[start:end]
            yield Word(shown, _comparison_key(shown), match.start() + start, match.start() + end)


def is_value(word: Word) -> bool:
    """Whether a word is a number, date, version or name: replacing it changes what a sentence states."""
    return has_digit(word.key) or is_name(word)


def is_name(word: Word) -> bool:
    """Whether a word begins with a capital letter and is not the first of its text."""
    return word.start > 0 and word.shown[:1].isupper()


def has_digit(word: str) -> bool:
    return any(map(str.isdigit, word))


def _strip_punctuation(word: str) -> tuple[int, int]:
    """(start, end) of a word without its punctuation; signs before a number and a trailing +, # or % belong to it."""
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
    after = word[end:].lstrip(_MARKS)
    return len(before), len(word) - len(after)


def _is_edge(character: str) -> bool:
    """Whether a character is punctuation or a sign; pictographs are not, since a tick in a table has a meaning."""
    return not character.isalnum() and unicodedata.category(character) not in ("So", "Mn", "Mc")


def _comparison_key(shown: str) -> str:
    key = normalize_text(shown.casefold()).replace("’", "'")
    return key[1:] if key[:1] == "v" and key[1:2].isdigit() else key
