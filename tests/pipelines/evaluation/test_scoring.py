"""Tests of grading by scorer and format, and of bootstrap intervals."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragtide.pipelines.errors import UserError
from ragtide.pipelines.evaluation.scoring import grade_answer, is_well_formed
from ragtide.pipelines.params import ScoreParams
from ragtide.pipelines.records.evaluation import ScorerName
from ragtide.pipelines.records.evidence import Measure
from ragtide.pipelines.sampling import measure_mean, paired_difference
from tests.factories import question

law = settings(derandomize=True, deadline=None)
PARAMS = ScoreParams(resamples=200)
GRADES = st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=40)
PAIRS = st.lists(st.tuples(st.sampled_from([0.0, 1.0]), st.sampled_from([0.0, 1.0])), min_size=1, max_size=40)


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
    assert is_well_formed(answer, question(format=pattern)) is formed


def test_a_format_that_would_take_years_is_an_error_that_names_the_question() -> None:
    slow = question("dates", format="(([a-z])+.)+[A-Z]([a-z])+")
    assert is_well_formed("abcX", slow) is False
    with pytest.raises(UserError, match=r"golden question 'dates' takes more than 1 s to match 2000 characters"):
        is_well_formed("a" * 2000, slow)


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
def test_an_answer_is_correct_when_value_and_format_are(answer: str, score: float) -> None:
    assert grade_answer(answer, question(answers=("42",), format=r'\{"value": "[^"]*"\}')) == score


@pytest.mark.parametrize(
    ("scorer", "answer", "right", "score"),
    [
        ("contains", "It is 42.", "42", 1.0),
        ("exact", "It is 42.", "42", 0.0),
        ("token_f1", "the black cat", "the cat", 2 / 3),
        ("json_f1", '{"a": 1, "b": 2}', '{"a": 1}', 2 / 3),
        ("command", "ls -al", "ls -la", 1.0),
    ],
)
def test_an_answer_is_graded_by_its_questions_scorer(scorer: ScorerName, answer: str, right: str, score: float) -> None:
    assert grade_answer(answer, question(answers=(right,), scorer=scorer)) == pytest.approx(score)


def test_the_nearest_accepted_answer_counts() -> None:
    golden = question(answers=("white dog", "black dog"), scorer="token_f1")
    assert grade_answer("black cat", golden) == 0.5


def test_a_malformed_answer_scores_0() -> None:
    golden = question(answers=("black dog",), scorer="token_f1", format=r"\w+ \w+")
    assert (grade_answer("black cat", golden), grade_answer("a black dog", golden)) == (0.5, 0.0)


def test_an_answer_for_the_judge_scores_0_before_it_is_judged() -> None:
    assert grade_answer("42", question(answers=("42",), scorer="judge")) == 0


@pytest.mark.parametrize(("answer", "formed"), [('{"a": 1}', True), ("[]", True), ('{"a": 1', False), ("a", False)])
def test_invalid_json_is_malformed_under_json_f1(answer: str, formed: bool) -> None:
    assert is_well_formed(answer, question(answers=("{}",), scorer="json_f1")) is formed


@law
@given(GRADES)
def test_an_interval_holds_the_mean(values: list[float]) -> None:
    measured = measure_mean(values, PARAMS)
    assert measured.value is not None
    assert measured.low is not None
    assert measured.high is not None
    assert measured.value == pytest.approx(sum(values) / len(values), abs=1e-6)
    assert min(values) <= measured.low <= measured.value <= measured.high <= max(values)
    assert measured.n == len(values)


@law
@given(GRADES)
def test_the_same_values_give_the_same_measure(values: list[float]) -> None:
    assert measure_mean(list(values), PARAMS).model_dump_json() == measure_mean(values, PARAMS).model_dump_json()


@law
@given(GRADES)
def test_a_higher_confidence_never_makes_an_interval_narrower(values: list[float]) -> None:
    loose, strict = (measure_mean(values, ScoreParams(resamples=200, confidence=share)) for share in (0.5, 0.99))
    assert (strict.low or 0) <= (loose.low or 0)
    assert (loose.high or 0) <= (strict.high or 0)
    assert strict.value == loose.value


def test_more_questions_make_an_interval_narrower() -> None:
    few, many = (measure_mean([0.0, 1.0] * pairs, PARAMS) for pairs in (5, 500))
    assert few.value == many.value == 0.5
    assert (many.high or 0) - (many.low or 0) < ((few.high or 0) - (few.low or 0)) / 5


@pytest.mark.parametrize(("confidence", "half_width"), [(0.9, 0.082), (0.5, 0.034)])
def test_the_width_of_an_interval_follows_from_its_confidence(confidence: float, half_width: float) -> None:
    # A hundred values 0 or 1: the standard error of their mean is 0.05, times the quantiles of the normal distribution.
    measured = measure_mean([0.0, 1.0] * 50, ScoreParams(confidence=confidence))
    assert (measured.low, measured.high) == pytest.approx((0.5 - half_width, 0.5 + half_width), abs=0.011)


def test_seed_and_resamples_are_parameters() -> None:
    values = [number / 37 for number in range(37)]
    others = [
        ScoreParams(resamples=200, seed=8),
        ScoreParams(resamples=150),
        ScoreParams(resamples=200, confidence=0.5),
    ]
    assert all(measure_mean(values, other) != measure_mean(values, PARAMS) for other in others)


@pytest.mark.parametrize("value", [0.0, 0.25, 1.0, -1.0])
def test_equal_values_have_an_interval_of_width_0(value: float) -> None:
    assert measure_mean([value] * 7, PARAMS) == Measure(value=value, n=7, low=value, high=value)


def test_a_mean_without_values_is_unmeasured() -> None:
    assert measure_mean([], PARAMS) == Measure.unmeasured("no questions")
    assert paired_difference([], [], PARAMS) == Measure.unmeasured("no questions")


@law
@given(PAIRS)
def test_a_difference_is_paired_by_question(pairs: list[tuple[float, float]]) -> None:
    before, after = [old for old, _ in pairs], [new for _, new in pairs]
    gain, loss = paired_difference(before, after, PARAMS), paired_difference(after, before, PARAMS)
    assert gain == measure_mean([new - old for old, new in pairs], PARAMS)
    assert (gain.value or 0) == -(loss.value or 0)
    assert paired_difference(before, before, PARAMS) == Measure(value=0, n=len(pairs), low=0, high=0)


def test_scores_of_different_numbers_of_questions_raise() -> None:
    with pytest.raises(ValueError, match="zip"):
        paired_difference([1.0, 0.0], [1.0], PARAMS)
