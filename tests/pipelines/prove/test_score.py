"""Is an answer right only where it holds a whole value? And does a score say honestly how sure it is?"""

from __future__ import annotations

import json
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.params import ScoreParams
from pipelines.prove.score import difference, grade, holds, measure, well_formed
from pipelines.records import Measure
from tests.factories import question

law = settings(derandomize=True, deadline=None)
PARAMS = ScoreParams(resamples=200)
ANSWERS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
PARTS = st.lists(st.integers(0, 99), min_size=2, max_size=4)
DATES = st.dates(min_value=date(1000, 1, 1))
GRADES = st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=40)
PAIRS = st.lists(st.tuples(st.sampled_from([0.0, 1.0]), st.sampled_from([0.0, 1.0])), min_size=1, max_size=40)


def version(parts: list[int]) -> str:
    return ".".join(str(part) for part in parts)


@law
@given(ANSWERS)
def test_a_text_holds_the_answer_that_stands_alone_in_it(answer: str) -> None:
    for text in (answer, f"It is {answer} now.", f"({answer})", f"\n{answer}\n", f"it is {answer}, I think"):
        assert holds(text, [answer])


@law
@given(ANSWERS)
def test_a_part_of_a_longer_word_is_no_answer(answer: str) -> None:
    for text in (f"x{answer}x", f"7{answer}7", f"_{answer}_"):
        assert not holds(text, [answer])


@law
@given(PARTS, st.integers(0, 99))
def test_a_version_is_not_found_in_a_longer_one(parts: list[int], more: int) -> None:
    short = version(parts)
    assert holds(f"The latest release is {short}.", [short])
    assert not holds(f"The latest release is {short}.{more}", [short])
    assert not holds(f"The latest release is {more}.{short}.", [short])
    assert not holds(f"The latest release is {short}-rc{more}.", [short])
    assert not holds(f"The latest release is {short}x.", [short])


@law
@given(DATES, st.integers(0, 9))
def test_a_date_is_not_found_in_a_longer_number_and_not_in_part(day: date, digit: int) -> None:
    whole = day.isoformat()
    assert holds(f"Support ends on {whole}.", [whole])
    assert not holds(f"Support ends on {whole}{digit}.", [whole])
    assert not holds(f"Support ends on {digit}{whole}.", [whole])
    for part in (whole[:7], whole[:4], whole[5:], whole[8:]):
        assert not holds(f"Support ends on {whole}.", [part])


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
def test_an_answer_is_found_whatever_signs_stand_in_or_around_it(text: str, answer: str) -> None:
    assert holds(text, [answer])


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
def test_what_only_looks_like_the_answer_is_not_it(text: str, answer: str) -> None:
    assert not holds(text, [answer])


def test_one_of_several_answers_is_enough() -> None:
    assert holds("It is 42.", ["forty-two", "42"])
    assert not holds("It is 43.", ["forty-two", "42"])
    assert not holds("It is 42.", [])


@pytest.mark.parametrize(
    ("answer", "pattern", "formed"),
    [
        ("42", None, True),
        ("anything at all", None, True),
        ("", None, False),
        (" \n", None, False),
        ("42", r"\d+", True),
        ("It is 42", r"\d+", False),
        ("42 it is", r"\d+", False),
        ('{"value": "42"}', r'\{"value": "[^"]*"\}', True),
        ("", r"\d*", True),
    ],
)
def test_an_answer_is_well_formed_when_all_of_it_has_the_format(answer: str, pattern: str | None, formed: bool) -> None:
    assert well_formed(answer, question(format=pattern)) is formed


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        (json.dumps({"value": "42"}), 1.0),
        (json.dumps({"value": "43"}), 0.0),
        ("42", 0.0),
        (json.dumps({"value": "42.1"}), 0.0),
    ],
    ids=["right", "wrong value", "wrong form", "longer value"],
)
def test_an_answer_is_right_when_value_and_form_are(answer: str, score: float) -> None:
    assert grade(answer, question(answers=("42",), format=r'\{"value": "[^"]*"\}')) == score


@law
@given(GRADES)
def test_an_interval_holds_the_mean(values: list[float]) -> None:
    measured = measure(values, PARAMS)
    assert measured.value is not None
    assert measured.low is not None
    assert measured.high is not None
    assert measured.value == pytest.approx(sum(values) / len(values), abs=1e-6)
    assert min(values) <= measured.low <= measured.value <= measured.high <= max(values)
    assert measured.n == len(values)


@law
@given(GRADES)
def test_the_same_values_bring_the_same_measure(values: list[float]) -> None:
    assert measure(list(values), PARAMS).model_dump_json() == measure(values, PARAMS).model_dump_json()


@law
@given(GRADES)
def test_a_higher_confidence_never_makes_an_interval_narrower(values: list[float]) -> None:
    loose, strict = (measure(values, ScoreParams(resamples=200, confidence=share)) for share in (0.5, 0.99))
    assert (strict.low or 0) <= (loose.low or 0)
    assert (loose.high or 0) <= (strict.high or 0)
    assert strict.value == loose.value


def test_more_questions_make_an_interval_narrower() -> None:
    few, many = (measure([0.0, 1.0] * pairs, PARAMS) for pairs in (5, 500))
    assert few.value == many.value == 0.5
    assert (many.high or 0) - (many.low or 0) < ((few.high or 0) - (few.low or 0)) / 5


@pytest.mark.parametrize(("confidence", "half_width"), [(0.9, 0.082), (0.5, 0.034)])
def test_an_interval_is_as_wide_as_its_confidence_says(confidence: float, half_width: float) -> None:
    # A hundred fair coins: the standard error of their mean is 0.05, and the quantiles are those of the normal curve.
    measured = measure([0.0, 1.0] * 50, ScoreParams(confidence=confidence))
    assert (measured.low, measured.high) == pytest.approx((0.5 - half_width, 0.5 + half_width), abs=0.011)


def test_the_seed_and_the_resamples_are_those_of_the_params() -> None:
    values = [number / 37 for number in range(37)]
    others = [
        ScoreParams(resamples=200, seed=8),
        ScoreParams(resamples=150),
        ScoreParams(resamples=200, confidence=0.5),
    ]
    assert all(measure(values, other) != measure(values, PARAMS) for other in others)


@pytest.mark.parametrize("value", [0.0, 0.25, 1.0, -1.0])
def test_values_that_are_all_alike_have_an_interval_without_width(value: float) -> None:
    assert measure([value] * 7, PARAMS) == Measure(value=value, n=7, low=value, high=value)


def test_without_values_there_is_no_number() -> None:
    assert measure([], PARAMS) == Measure.unmeasured("no questions")
    assert difference([], [], PARAMS) == Measure.unmeasured("no questions")


@law
@given(PAIRS)
def test_a_difference_is_taken_question_by_question(pairs: list[tuple[float, float]]) -> None:
    before, after = [old for old, _ in pairs], [new for _, new in pairs]
    there, back = difference(before, after, PARAMS), difference(after, before, PARAMS)
    assert there == measure([new - old for old, new in pairs], PARAMS)
    assert (there.value or 0) == -(back.value or 0)
    assert difference(before, before, PARAMS) == Measure(value=0, n=len(pairs), low=0, high=0)


def test_scores_of_other_questions_cannot_be_paired() -> None:
    with pytest.raises(ValueError, match="zip"):
        difference([1.0, 0.0], [1.0], PARAMS)


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
def test_an_answer_is_found_however_it_is_set(text: str, answer: str) -> None:
    assert holds(text, [answer])


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
def test_a_part_of_a_longer_number_or_name_is_not_it(text: str, answer: str) -> None:
    assert not holds(text, [answer])
