"""Tests of the release gate: tolerances, regression suites, and the numbers in each check."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragtide.pipelines.evaluation.gate import IndexRows, check_rows, check_suites, judge_candidate
from ragtide.pipelines.params import GateParams, Params, ScoreParams
from ragtide.pipelines.records.data import Chunk
from ragtide.pipelines.records.evaluation import Scorecard, SuiteScore, Verdict
from ragtide.pipelines.records.evidence import Measure
from ragtide.pipelines.sampling import paired_difference
from tests.factories import chunk, graded, measure, scorecard

law = settings(derandomize=True, deadline=None)
SCORE = ScoreParams(resamples=100)
CHUNKS = [chunk("a.md", "first"), chunk("a.md", "second", position=1), chunk("b.md", "third")]
ROWS = {item.key: (item.digest, item.document_digest) for item in CHUNKS}
UNMEASURED = Measure.unmeasured("no question names a document")
NAMES = [
    "same questions",
    "answer score",
    "retrieval recall",
    "well-formed share",
    "index equals a clean build",
]
KEYS = st.tuples(st.sampled_from(["a.md", "b.md"]), st.integers(0, 2))
TABLES = st.dictionaries(KEYS, st.tuples(st.sampled_from("xy"), st.sampled_from("xy")))


def card(scores: list[float], **fields: Any) -> Scorecard:
    """A scorecard of questions q0, q1, … with these scores."""
    return scorecard(*(graded(f"q{number}", score) for number, score in enumerate(scores)), **fields)


def verdict(
    before: Scorecard, after: Scorecard, rows: IndexRows = ROWS, chunks: list[Chunk] = CHUNKS, **gate: float
) -> Verdict:
    return judge_candidate(before, after, [check_rows(rows, chunks)], Params(gate=GateParams(**gate), score=SCORE))


def numbers(detail: str) -> list[str]:
    return re.findall(r"\d\.\d\d", detail)


def failed(result: Verdict) -> list[str]:
    return [check.name for check in result.checks if not check.passed]


def chunks_of(table: IndexRows) -> list[Chunk]:
    return [
        Chunk(document=name, position=place, heading="", text="", digest=digest, document_digest=whole)
        for (name, place), (digest, whole) in table.items()
    ]


def test_an_equal_candidate_passes_every_check() -> None:
    result = verdict(card([1, 0]), card([1, 0]))
    assert result.accepted
    assert [check.name for check in result.checks] == NAMES
    assert failed(result) == []


def test_a_verdict_keeps_both_scorecards_and_the_paired_difference() -> None:
    before, after = card([1, 0, 0, 1]), card([1, 1, 1, 0])
    result = verdict(before, after)
    assert (result.before, result.after) == (before, after)
    assert result.difference == paired_difference([1, 0, 0, 1], [1, 1, 1, 0], SCORE)
    assert result.difference.value == 0.25


def test_another_set_of_questions_is_rejected() -> None:
    result = verdict(card([1, 1]), card([1, 1], questions="set-2"))
    assert not result.accepted
    assert failed(result) == ["same questions"]
    assert {"set-1", "set-2"} <= set(re.findall(r"set-\d", result.checks[0].detail))


@law
@given(st.integers(1, 60), st.integers(0, 60), st.integers(0, 10))
def test_a_candidate_may_lose_up_to_the_tolerance(count: int, lost: int, percent: int) -> None:
    lost = min(lost, count)
    result = verdict(card([1] * count), card([0] * lost + [1] * (count - lost)), max_score_loss=percent / 100)
    one_question = lost == 1 and count >= 20 and percent > 0
    assert ("answer score" in failed(result)) is (100 * lost > percent * count and not one_question)


def test_a_gain_on_one_question_offsets_a_loss_on_another() -> None:
    assert verdict(card([1, 0]), card([0, 1]), max_score_loss=0).accepted


def test_without_questions_the_candidate_is_rejected() -> None:
    result = verdict(scorecard(graded=()), scorecard(graded=()))
    assert failed(result) == ["answer score"]
    assert "not measured (no questions)" in result.checks[1].detail


@pytest.mark.parametrize(
    ("before", "after", "passed"),
    [
        (measure(0.9), measure(0.95), True),
        (measure(0.9), measure(0.9), True),
        (measure(0.9), measure(0.89), True),
        (measure(0.9), measure(0.85), False),
        (UNMEASURED, measure(0.1), True),
        (UNMEASURED, UNMEASURED, True),
        (measure(0.9), UNMEASURED, False),
    ],
    ids=["better", "equal", "a little worse", "worse", "first index", "never measured", "no longer measured"],
)
def test_retrieval_recall_may_not_drop_below_its_tolerance(before: Measure, after: Measure, passed: bool) -> None:
    result = verdict(card([1], retrieval_recall=before), card([1], retrieval_recall=after), max_retrieval_loss=0.02)
    assert failed(result) == ([] if passed else ["retrieval recall"])
    assert result.accepted is passed


@pytest.mark.parametrize(
    ("before", "after", "passed"),
    [
        (measure(0.2), measure(0.0), True),
        (measure(0.2), measure(0.21), True),
        (measure(0.2), measure(0.25), False),
        (UNMEASURED, measure(0.5), True),
        (measure(0.2), UNMEASURED, False),
    ],
    ids=["better", "a little worse", "worse", "never measured", "no longer measured"],
)
def test_the_share_of_well_formed_answers_may_not_drop_below_its_tolerance(
    before: Measure, after: Measure, passed: bool
) -> None:
    result = verdict(card([1], malformed_share=before), card([1], malformed_share=after), max_score_loss=0.02)
    assert failed(result) == ([] if passed else ["well-formed share"])


@pytest.mark.parametrize(
    ("rows", "counts"),
    [
        (ROWS, (3, 0, 0)),
        ({key: ROWS[key] for key in list(ROWS)[1:]}, (2, 1, 0)),
        (ROWS | {("deleted.md", 0): ("d", "w")}, (4, 0, 1)),
        (ROWS | {("a.md", 2): ROWS["a.md", 0]}, (4, 0, 1)),
        (ROWS | {("a.md", 0): ("other", ROWS["a.md", 0][1])}, (3, 1, 0)),
        (ROWS | {("a.md", 0): (ROWS["a.md", 0][0], "other")}, (3, 1, 0)),
        ({}, (0, 3, 0)),
    ],
    ids=["equal", "missing", "of a removed page", "past the end", "other text", "other document", "empty"],
)
def test_an_index_that_differs_from_a_clean_build_is_rejected(rows: IndexRows, counts: tuple[int, int, int]) -> None:
    result = verdict(card([1]), card([1]), rows)
    assert result.accepted is (rows == ROWS)
    assert tuple(map(int, re.findall(r"\d+", result.checks[4].detail))) == counts


@law
@given(TABLES, TABLES)
def test_rows_pass_exactly_when_they_equal_the_chunks(rows: IndexRows, wanted: IndexRows) -> None:
    result = verdict(card([1]), card([1]), rows, chunks_of(wanted))
    assert result.accepted is (rows == wanted)


@law
@given(
    st.lists(st.tuples(st.sampled_from([0, 1]), st.sampled_from([0, 1])), min_size=1, max_size=10),
    st.lists(st.integers(0, 100), min_size=4, max_size=4),
    TABLES,
    st.sampled_from(["set-1", "set-2"]),
)
def test_every_check_shows_its_numbers_and_all_must_pass(
    pairs: list[tuple[int, int]], shares: list[int], rows: IndexRows, questions: str
) -> None:
    recall_before, recall_after, malformed_before, malformed_after = (measure(share / 100) for share in shares)
    before = card([old for old, _ in pairs], retrieval_recall=recall_before, malformed_share=malformed_before)
    fields = {"retrieval_recall": recall_after, "malformed_share": malformed_after, "questions": questions}
    result = verdict(before, card([new for _, new in pairs], **fields), rows)
    assert [check.name for check in result.checks] == NAMES
    assert all(re.search(r"\d", check.detail) for check in result.checks)
    assert result.accepted is all(check.passed for check in result.checks)


def test_the_numbers_of_a_check_are_those_that_were_compared() -> None:
    before = card([1] * 10, retrieval_recall=measure(0.9), malformed_share=measure(0.1))
    after = card([1] * 9 + [0], retrieval_recall=measure(0.8), malformed_share=measure(0.3))
    result = verdict(before, after, max_score_loss=0.03, max_retrieval_loss=0.04)
    _, score, recall, formed, _ = result.checks
    assert str(result.difference) in score.detail
    assert numbers(score.detail)[-1] == "0.03"
    assert (numbers(recall.detail), numbers(formed.detail)) == (["0.90", "0.80", "0.04"], ["0.90", "0.70", "0.03"])
    assert failed(result) == ["answer score", "retrieval recall", "well-formed share"]


def test_an_unmeasured_value_is_reported_with_its_reason() -> None:
    before, after = card([1], retrieval_recall=measure(0.9)), card([1], retrieval_recall=UNMEASURED)
    detail = verdict(before, after).checks[2].detail
    assert str(before.retrieval_recall) in detail
    assert "no question names a document" in detail


def test_other_questions_are_rejected_and_not_compared() -> None:
    verdict = judge_candidate(
        scorecard(graded("a"), graded("b")), scorecard(graded("a"), questions="set-2"), (), Params()
    )
    assert not verdict.accepted
    assert verdict.difference.value is None
    assert not verdict.checks[0].passed


def test_scores_are_compared_question_by_question_whatever_their_order() -> None:
    before = scorecard(graded("a", 1.0), graded("b", 0.0))
    after = scorecard(graded("b", 0.0), graded("a", 1.0))
    difference = judge_candidate(before, after, (), Params()).difference
    assert (difference.value, difference.low, difference.high) == (0.0, 0.0, 0.0)


# --- regression suites -----------------------------------------------------------------------------------------------


def suite(name: str, count: int, before: int, after: int) -> SuiteScore:
    """The scores of a suite of `count` questions, of which so many are answered correctly before and after."""
    cards = (
        scorecard(answer_score=paired_difference([0] * count, grades(count, correct), SCORE))
        for correct in (before, after)
    )
    return SuiteScore(name=name, before=next(cards), after=next(cards))


def grades(count: int, correct: int) -> list[float]:
    return [1.0] * correct + [0.0] * (count - correct)


def checked(*suites: SuiteScore, **gate: Any) -> Verdict:
    good = verdict(card([1]), card([1]))
    return check_suites(good, suites, Params(gate=GateParams(**gate), score=SCORE))


def test_without_suites_the_verdict_is_unchanged() -> None:
    assert checked() == verdict(card([1]), card([1]))


def test_each_suite_is_a_check_with_its_numbers_and_its_scorecards_are_kept() -> None:
    suites = suite("sgd", 20, 16, 15), suite("bash", 20, 10, 20)
    result = checked(*suites)
    assert result.accepted
    assert result.suites == suites
    assert [(check.name, numbers(check.detail)) for check in result.checks[-2:]] == [
        ("regression suite sgd", ["0.80", "0.75", "0.05"]),
        ("regression suite bash", ["0.50", "1.00", "0.05"]),
    ]


def test_a_gain_on_one_suite_does_not_offset_a_loss_on_another() -> None:
    result = checked(suite("sgd", 20, 16, 14), suite("bash", 20, 10, 20))
    assert failed(result) == ["regression suite sgd"]
    assert not result.accepted


def test_a_rejected_candidate_stays_rejected_whatever_the_suites() -> None:
    rejected = verdict(card([1]), card([0]))
    assert not check_suites(rejected, [suite("sgd", 20, 10, 20)], Params()).accepted


@law
@given(st.integers(1, 40), st.integers(0, 40), st.integers(0, 40), st.integers(0, 100))
def test_no_suite_may_lose_more_than_its_own_tolerance(count: int, before: int, after: int, percent: int) -> None:
    before, after = min(before, count), min(after, count)
    result = checked(suite("sgd", count, before, after), max_suite_loss=0.0, suites={"sgd": percent / 100})
    lost = before - after
    one_question = lost == 1 and count >= 20 and percent > 0
    assert (failed(result) == ["regression suite sgd"]) is (100 * lost > percent * count and not one_question)


def test_the_tolerance_of_another_suite_does_not_apply() -> None:
    worse = suite("sgd", 10, 8, 7)
    assert failed(checked(worse, max_suite_loss=0.05, suites={"bash": 0.2})) == ["regression suite sgd"]
    assert failed(checked(worse, max_suite_loss=0.05, suites={"sgd": 0.1})) == []
    assert failed(checked(worse, max_suite_loss=0.1)) == []
