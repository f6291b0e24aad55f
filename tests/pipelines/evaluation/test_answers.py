"""Tests of the answer rows: order, columns, explanations and assessments."""

from __future__ import annotations

import pytest

from ragtide.pipelines.evaluation.answers import AnswerRow, answer_rows, answers_table, verdict_rows
from ragtide.pipelines.records.evaluation import Verdict
from tests.factories import graded, measure, question, scorecard

QUESTIONS = [question(f"q{number}", answers=("8.2", "eight")) for number in range(4)]


def verdict(before: list[float], after: list[float]) -> Verdict:
    cards = [scorecard(*(graded(f"q{at}", score) for at, score in enumerate(scores))) for scores in (before, after)]
    return Verdict(accepted=True, checks=(), before=cards[0], after=cards[1], difference=measure(0.0))


def test_rows_that_became_worse_come_first_and_then_the_lowest_scores() -> None:
    rows = verdict_rows(verdict([1, 1, 0, 0], [1, 0.5, 0, 1]), QUESTIONS)
    assert [(row.question.id, row.change) for row in rows] == [
        ("q1", "worse"), ("q2", "same"), ("q0", "same"), ("q3", "better"),
    ]  # fmt: skip


def test_a_row_names_every_accepted_answer() -> None:
    [row, *_] = answer_rows(scorecard(graded("q0", 1.0)), QUESTIONS)
    table = answers_table([row])
    assert (table["question_id"], table["question"], table["expected_answer"]) == (
        ["q0"],
        ["What is q0?"],
        ["8.2 or eight"],
    )


@pytest.mark.parametrize(
    ("fields", "explanation"),
    [
        ({"score": 1.0}, "correct"),
        ({"score": 0.0, "well_formed": False, "gold_retrieved": True}, "not in the required format"),
        ({"score": 0.0, "gold_retrieved": False}, "wrong: no gold passage was retrieved"),
        ({"score": 0.5, "gold_retrieved": True}, "wrong although a gold passage was retrieved"),
        ({"score": 0.0, "gold_retrieved": None}, "wrong"),
    ],
)
def test_a_row_explains_its_score(fields: dict[str, object], explanation: str) -> None:
    assert AnswerRow(question(), graded(**fields)).explanation == explanation  # type: ignore[arg-type]


def test_a_single_release_has_no_columns_of_comparison() -> None:
    table = answers_table(answer_rows(scorecard(graded("q0", 0.0)), QUESTIONS))
    assert {"live_answer", "change"}.isdisjoint(table)


def test_the_columns_of_a_verdict_have_equal_lengths_and_both_answers() -> None:
    table = answers_table(verdict_rows(verdict([1, 0], [0, 1]), QUESTIONS))
    assert {len(column) for column in table.values()} == {2}
    assert {"live_answer", "answer", "change"} <= set(table)


def test_an_unmeasured_score_is_no_assessment() -> None:
    unmeasured, missed = (
        AnswerRow(question(), graded(score=0.5, well_formed=True, gold_retrieved=retrieved))
        for retrieved in (None, False)
    )
    assert unmeasured.assessments == {"score": 0.5, "well_formed": True}
    assert missed.assessments == {"score": 0.5, "well_formed": True, "gold_retrieved": False}
