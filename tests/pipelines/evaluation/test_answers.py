"""Has every question its row, with what is right, what was said, and why it is wrong?"""

from __future__ import annotations

import pytest

from ragtide.pipelines.evaluation.answers import AnswerRow, answer_rows, answers_table, verdict_rows
from ragtide.pipelines.records.evaluation import Verdict
from tests.factories import graded, measure, question, scorecard

QUESTIONS = [question(f"q{number}", answers=("8.2", "eight")) for number in range(4)]


def proof(before: list[float], after: list[float]) -> Verdict:
    cards = [scorecard(*(graded(f"q{at}", score) for at, score in enumerate(one))) for one in (before, after)]
    return Verdict(accepted=True, checks=(), before=cards[0], after=cards[1], difference=measure(0.0))


def test_what_became_worse_comes_first_and_then_what_is_wrong() -> None:
    rows = verdict_rows(proof([1, 1, 0, 0], [1, 0.5, 0, 1]), QUESTIONS)
    assert [(row.question.id, row.change) for row in rows] == [
        ("q1", "worse"), ("q2", "same"), ("q0", "same"), ("q3", "better"),
    ]  # fmt: skip


def test_a_row_names_every_answer_that_would_be_right() -> None:
    [row, *_] = answer_rows(scorecard(graded("q0", 1.0)), QUESTIONS)
    table = answers_table([row])
    assert (table["id"], table["question"], table["expected"]) == (["q0"], ["What is q0?"], ["8.2 or eight"])


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"score": 1.0}, "right"),
        ({"score": 0.0, "well_formed": False, "gold_retrieved": True}, "not in the form that is asked for"),
        ({"score": 0.0, "gold_retrieved": False}, "the right passage was not among those found"),
        ({"score": 0.5, "gold_retrieved": True}, "wrong, with the right passage found"),
        ({"score": 0.0, "gold_retrieved": None}, "wrong"),
    ],
)
def test_a_row_says_which_half_failed(fields: dict[str, object], why: str) -> None:
    assert AnswerRow(question(), graded(**fields)).why == why  # type: ignore[arg-type]


def test_one_release_alone_is_compared_with_nothing() -> None:
    table = answers_table(answer_rows(scorecard(graded("q0", 0.0)), QUESTIONS))
    assert {"live answer", "against live"}.isdisjoint(table)


def test_the_columns_of_a_proof_are_alike_long_and_hold_both_answers() -> None:
    table = answers_table(verdict_rows(proof([1, 0], [0, 1]), QUESTIONS))
    assert {len(column) for column in table.values()} == {2}
    assert {"live answer", "answer", "against live"} <= set(table)


def test_what_was_not_measured_is_no_mark() -> None:
    unmeasured, missed = (
        AnswerRow(question(), graded(score=0.5, well_formed=True, gold_retrieved=hit)) for hit in (None, False)
    )
    assert unmeasured.marks == {"score": 0.5, "well-formed": True}
    assert missed.marks == {"score": 0.5, "well-formed": True, "passage found": False}
