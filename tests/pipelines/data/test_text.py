"""Tests of values in texts: whole matches, JSON fields, and numbers in any notation."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragtide.pipelines.data.text import NumberSet, holds_answer, json_fields

law = settings(derandomize=True, deadline=None)
ANSWERS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8).map(str.strip).filter(bool)
PARTS = st.lists(st.integers(0, 99), min_size=2, max_size=4)
DATES = st.dates(min_value=date(1000, 1, 1))
LEAVES = st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
JSONS = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=2), inner, max_size=3)
)


# --- a whole value -------------------------------------------------------------------------------------------------


def version(parts: list[int]) -> str:
    return ".".join(str(part) for part in parts)


@law
@given(ANSWERS)
def test_a_text_contains_an_answer_that_is_a_whole_word(answer: str) -> None:
    for text in (answer, f"It is {answer} now.", f"({answer})", f"\n{answer}\n", f"it is {answer}, I think"):
        assert holds_answer(text, [answer])


@law
@given(ANSWERS)
def test_a_part_of_a_longer_word_does_not_match(answer: str) -> None:
    for text in (f"x{answer}x", f"7{answer}7", f"_{answer}_"):
        assert not holds_answer(text, [answer])


@law
@given(PARTS, st.integers(0, 99))
def test_a_version_does_not_match_in_a_longer_one(parts: list[int], more: int) -> None:
    short = version(parts)
    assert holds_answer(f"The latest release is {short}.", [short])
    assert not holds_answer(f"The latest release is {short}.{more}", [short])
    assert not holds_answer(f"The latest release is {more}.{short}.", [short])
    assert not holds_answer(f"The latest release is {short}-rc{more}.", [short])
    assert not holds_answer(f"The latest release is {short}x.", [short])


@law
@given(DATES, st.integers(0, 9))
def test_a_date_matches_neither_in_a_longer_number_nor_in_part(day: date, digit: int) -> None:
    whole = day.isoformat()
    assert holds_answer(f"Support ends on {whole}.", [whole])
    assert not holds_answer(f"Support ends on {whole}{digit}.", [whole])
    assert not holds_answer(f"Support ends on {digit}{whole}.", [whole])
    for part in (whole[:7], whole[:4], whole[5:], whole[8:]):
        assert not holds_answer(f"Support ends on {whole}.", [part])


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("1.2.", "1.2"),
        ("**1.2**", "1.2"),
        ("`1.2`", "1.2"),
        ("1.2, then 1.3", "1.3"),
        ("Is it 1.2? Yes", "1.2"),
        ("1.2.3 and 1.2", "1.2"),
        ('{"value": "1.2"}', "1.2"),
        ("1.2%", "1.2"),
        ("version=1.2", "1.2"),
        ("It runs C++.", "C++"),
        ("Use a.b*c[0] here", "a.b*c[0]"),
        ("costs $5 (net)", "$5"),
        ("it ends with ^top$ here", "^top$"),
        ("a\\d is no digit", "a\\d"),
        ("use .NET here", ".NET"),
        ("LONG TERM support", "long term"),
        ("Ärger mit Öl", "öl"),
        ("die Größe: 5 µm", "5 µm"),
        ("東京 が 首都", "東京"),
    ],
)
def test_an_answer_matches_with_any_punctuation_around_it(text: str, answer: str) -> None:
    assert holds_answer(text, [answer])


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("1.2.3", "1.2"),
        ("1.2.3", "2.3"),
        ("11.2", "1.2"),
        ("1.20", "1.2"),
        ("2025-01-011", "2025-01-01"),
        ("2025-01-01T00:00", "2025-01-01"),
        ("-5", "5"),
        ("$5.00", "5"),
        ("yesterday", "yes"),
        ("long-term", "long"),
        ("ASP.NET", "NET"),
        ("x64", "64"),
        ("1x2", "1.2"),
        ("abc", "a.c"),
        ("aaa", "a+"),
        ("", "1.2"),
        ("nothing of the kind", "1.2"),
    ],
)
def test_similar_texts_do_not_match(text: str, answer: str) -> None:
    assert not holds_answer(text, [answer])


def test_one_of_several_answers_is_enough() -> None:
    assert holds_answer("It is 42.", ["forty-two", "42"])
    assert not holds_answer("It is 43.", ["forty-two", "42"])
    assert not holds_answer("It is 42.", [])


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("in New\nYork today", "New York"),
        ("in New  York", "New York"),
        ("it is v22.1.0 now", "22.1.0"),
        ("caf\u0065\u0301 au lait", "caf\u00e9"),
        ("about 10, or so", "10"),
    ],
)
def test_an_answer_matches_whatever_its_markup(text: str, answer: str) -> None:
    assert holds_answer(text, [answer])


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("10,000", "10"),
        ("10,000", "000"),
        ("3,14", "14"),
        ("1:30", "30"),
        ("1/2/2025", "2025"),
        ("C++", "C"),
        ("C#", "C"),
        ("-5", "5"),
    ],
)
def test_a_part_of_a_longer_number_or_name_does_not_match(text: str, answer: str) -> None:
    assert not holds_answer(text, [answer])


# --- fields --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ('{"a": 1, "b": {"c": "x"}}', {("a",): 1, ("b", "c"): "x"}),
        ('{"a": [1, {"b": null}]}', {("a", 0): 1, ("a", 1, "b"): None}),
        ('{"a": [], "b": {}}', {("a",): [], ("b",): {}}),
        ("{}", {(): {}}),
        ("true", {(): True}),
        ('{"version": 1.10}', {("version",): Decimal("1.10")}),
    ],
)
def test_the_fields_of_a_json_text_are_its_leaves_by_their_paths(text: str, fields: dict[Any, Any]) -> None:
    assert json_fields(text) == fields


@pytest.mark.parametrize(
    "text", ["", "no JSON", '{"a": 1', "{'a': 1}", '{"a": NaN}', "[" * 100_000, r'{"a": "\ud800"}'], ids=repr
)
def test_text_that_is_not_json_has_no_fields(text: str) -> None:
    assert json_fields(text) is None


@law
@given(JSONS)
def test_fields_do_not_depend_on_the_layout_of_the_json(value: Any) -> None:
    plain = json_fields(json.dumps(value))
    assert plain is not None
    assert plain == json_fields(json.dumps(value, indent=3, ensure_ascii=False))
    assert json_fields(json.dumps([value])) == {(0, *path): leaf for path, leaf in plain.items()}


# --- numbers -------------------------------------------------------------------------------------------------------

PAGE = "# Quill 24.04\n\n- End of life: 2026-05-01\n- Latest release: v1.10.3\n- Seats: 12,500 (5 % free)\n"


@pytest.mark.parametrize(
    "answer",
    [
        "2026-05-01",
        "It ends on 2026-05-01.",
        "01.05.2026",
        "5/1/2026",
        "May 1, 2026",
        "1.10.3",
        "v1.10.3",
        "12500 seats",
        "12'500",
        "5%",
        '{"value": "2026-05-01"}',
        '{"seats": 12500, "release": ["1.10.3"]}',
        '{"2099": "a key says nothing"}',
        "no number at all",
        "",
    ],
)
def test_a_value_of_the_page_is_not_missing_in_any_notation(answer: str) -> None:
    assert NumberSet.of(PAGE).lack(answer) is None


@pytest.mark.parametrize(
    ("answer", "lacking"),
    [
        ("2026-05-02", "2026-05-02"),
        ("It ends on 2027-05-01.", "2027-05-01"),
        ("1.10.4", "1.10.4"),
        ("1.1.3", "1.1.3"),
        ("v1.10", "v1.10"),
        ("13,500", "13,500"),
        ("7 %", "7"),
        ("2026-05-01, and then 2028-05-01", "2028-05-01"),
        ('{"value": "2027-05-01"}', "2027-05-01"),
        ('{"value": 1.1}', "1.1"),
        ("1.1", "1.1"),
        ("x" + "9" * 5000, "x" + "9" * 5000),
    ],
)
def test_the_first_value_missing_from_the_page_is_returned(answer: str, lacking: str) -> None:
    assert NumberSet.of(PAGE).lack(answer) == lacking


def test_a_value_of_the_question_need_not_be_on_the_page() -> None:
    answer, page = "Release 7.2 ends on 2026-05-01.", NumberSet.of("End: 2026-05-01")
    assert page.lack(answer, "When does release v7.2 end?") is None
    assert page.lack(answer, "When does release 7.3 end?") == "7.2"


@law
@given(st.text(max_size=30), st.text(max_size=10), st.text(max_size=10))
def test_a_text_contains_all_its_own_values(answer: str, before: str, behind: str) -> None:
    # Values alone: a JSON answer is read by its fields.
    answer = f"- {answer}"
    assert NumberSet.of(f"{before}\n{answer}\n{behind}").lack(answer) is None
