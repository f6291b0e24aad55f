"""Statement of an answer by a text: word for word, item by item, or as a date or number in another notation."""

from __future__ import annotations

import re

from ragtide.pipelines.data.text import NumberSet, holds_answer, split_words, stated_values

# Answers of a closed set: a page that supports one of them does not say it word for word.
CLOSED = frozenset(
    (
        *("yes", "no", "true", "false", "y", "n", "correct", "incorrect", "right", "wrong"),
        *("ja", "nein", "oui", "non", "sí", "si", "não", "sim", "はい", "いいえ", "是", "否"),
    )
)
_ITEMS = re.compile(r",\s|[;\n•]|\s(?:and|or|und|oder|et|ou|&)\s")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = rf"({'|'.join(_MONTHS)})[a-z]*\.?"
_DAY_FIRST = re.compile(rf"\b(\d{{1,2}})(?:st|nd|rd|th)?\.?\s+(?:of\s+)?{_MONTH},?\s+(\d{{4}})\b", re.IGNORECASE)
_MONTH_FIRST = re.compile(rf"\b{_MONTH}\s+(\d{{1,2}})(?:st|nd|rd|th)?,?\s+(\d{{4}})\b", re.IGNORECASE)
_DATE = re.compile(r"\d{4}([-./])\d{1,2}\1\d{1,2}|\d{1,2}([-./])\d{1,2}\2\d{4}")
_THOUSANDS = re.compile(r"\d{1,3}(?:[,'’]\d{3})+|\d{4,}")


def is_closed_answer(answer: str) -> bool:
    """Whether an answer is yes or no, true or false."""
    return "".join(word.key for word in split_words(answer)) in CLOSED


def states_answer(text: str, answer: str) -> bool:
    """Whether a text states each value and each item of an answer, in any order and place.

    The values are those of a JSON text; the items are those between commas, semicolons, line breaks and "and". A date
    or a large number may have another notation.
    """
    if holds_answer(text, [answer]):
        return True
    values = [_plain_dates(value) for value in stated_values(answer)]
    items = [item.strip() for value in values for item in _ITEMS.split(value) if item.strip()]
    numbers = NumberSet.of(_plain_dates(text))
    return bool(items) and all(holds_answer(text, [item]) or _states_number(numbers, item) for item in items)


def _states_number(numbers: NumberSet, item: str) -> bool:
    return bool(_DATE.fullmatch(item) or _THOUSANDS.fullmatch(item)) and numbers.lack(item) is None


def _plain_dates(text: str) -> str:
    """The text with its written dates in numbers: 3 January 2025 as 3.1.2025."""
    text = _DAY_FIRST.sub(lambda date: f"{date[1]}.{_month(date[2])}.{date[3]}", text)
    return _MONTH_FIRST.sub(lambda date: f"{date[2]}.{_month(date[1])}.{date[3]}", text)


def _month(name: str) -> int:
    return _MONTHS.index(name[:3].lower()) + 1
