"""Tests of words: stripping of punctuation, comparison keys, and recognition of values."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragtide.pipelines.data.text import is_value, split_words


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("It ends (soon).", ["It", "ends", "soon"]),
        ("“C++”, 5 % and -5!", ["C++", "5", "and", "-5"]),
        ("costs $5.00, or 7%", ["costs", "$5.00", "or", "7%"]),
        ("a/b.c don't end-of-life", ["a/b.c", "don't", "end-of-life"]),
        ("東京へ", ["東", "京", "へ"]),
        (" … -- ?! ", []),
    ],
)
def test_punctuation_is_not_part_of_a_word(text: str, shown: list[str]) -> None:
    assert [word.shown for word in split_words(text)] == shown


@pytest.mark.parametrize(
    ("first", "second"), [("V1.2", "1.2"), ("Don’t", "don't"), ("STRASSE", "straße"), ("Cafe\u0301", "caf\u00e9")]
)
def test_words_are_compared_without_case_and_notation(first: str, second: str) -> None:
    assert [word.key for word in split_words(first)] == [word.key for word in split_words(second)]


@settings(derandomize=True, deadline=None)
@given(st.text(max_size=40))
def test_a_word_knows_its_place_in_the_text(text: str) -> None:
    words = list(split_words(text))
    assert all(text[word.start : word.end] == word.shown != "" for word in words)
    assert all(word.end <= following.start for word, following in pairwise(words))


def test_numbers_and_names_are_values_and_the_first_word_is_no_name() -> None:
    values = [word.shown for word in split_words("When does Quill 1.2 end in May, or x64?") if is_value(word)]
    assert values == ["Quill", "1.2", "May", "x64"]
