"""How did each question fare, live and candidate? A row a question, for MLflow's tables and its evaluation page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.records import Graded, Question, Scorecard, Verdict, digest_of

Columns = Mapping[str, list[Any]]


@dataclass(frozen=True)
class Row:
    """One golden question with what is right, and what was answered; `live` is None where one release is scored."""

    question: str
    expected: tuple[str, ...]
    answered: Graded
    live: Graded | None = None

    @property
    def change(self) -> str:
        """Against what is live."""
        if self.live is None or self.live.score == self.answered.score:
            return "same"
        return "better" if self.answered.score > self.live.score else "worse"

    @property
    def why(self) -> str:
        """Which half failed, as far as one answer tells."""
        if self.answered.score >= 1:
            return "right"
        if not self.answered.well_formed:
            return "not in the form that is asked for"
        if self.answered.hit is False:
            return "the right passage was not among those found"
        return "wrong, with the right passage found" if self.answered.hit else "wrong"


def rows_of(scorecard: Scorecard, questions: Sequence[Question], live: Scorecard | None = None) -> list[Row]:
    """What became worse first, then what is wrong; the rest in the order of asking."""
    expected = {one.question: one.answers for one in questions}
    before = live.graded if live else (None,) * len(scorecard.graded)
    pairs = zip(scorecard.graded, before, strict=True)
    rows = [Row(one.question, expected.get(one.question, ()), one, old) for one, old in pairs]
    return sorted(rows, key=lambda row: (row.change != "worse", row.answered.score))


def proof_rows(verdict: Verdict, questions: Sequence[Question]) -> list[Row]:
    """The golden questions as the live release and the candidate answered them."""
    return rows_of(verdict.after, questions, verdict.before)


def answers_table(rows: Sequence[Row]) -> Columns:
    """A row a question, as columns; the first say what a reviewer looks for."""
    live = {"live answer": [row.live.answer if row.live else "" for row in rows]} if _compared(rows) else {}
    change = {"against live": [row.change for row in rows]} if live else {}
    return {
        "question": [row.question for row in rows],
        "expected": [_told(row) for row in rows],
        **live,
        "answer": [row.answered.answer for row in rows],
        "score": [row.answered.score for row in rows],
        **change,
        "why": [row.why for row in rows],
        "sources": [", ".join(row.answered.sources) for row in rows],
    }


def evaluation_tables(rows: Sequence[Row]) -> Mapping[str, Columns]:
    """The three tables from which MLflow's evaluation page makes a row a question, by their file names.

    The form is that of mlflow.evaluate before traces; the page reads it still (docs/log.md).
    """
    ids = [digest_of(row.question) for row in rows]
    evaluations: Columns = {
        "evaluation_id": ids,
        "request_id": ids,
        "inputs_id": ids,
        "inputs": [{"request": row.question} for row in rows],
        "outputs": [{"response": row.answered.answer} for row in rows],
        "targets": [{"expected_response": _told(row)} for row in rows],
    }
    judged = [one for row, key in zip(rows, ids, strict=True) for one in _assessments(row, key)]
    metrics = [(key, "score", row.answered.score) for row, key in zip(rows, ids, strict=True)]
    return {
        "_evaluations.json": evaluations,
        "_assessments.json": {
            "evaluation_id": [one.evaluation for one in judged],
            "name": [one.name for one in judged],
            "source": [{"source_type": "CODE", "source_id": "ragtide", "source_metadata": {}} for _ in judged],
            "timestamp": [0] * len(judged),
            "boolean_value": [None] * len(judged),
            "numeric_value": [None] * len(judged),
            "string_value": [one.value for one in judged],
            "rationale": [one.rationale for one in judged],
            "metadata": [{}] * len(judged),
        },
        "_metrics.json": {
            "evaluation_id": [key for key, _, _ in metrics],
            "key": [name for _, name, _ in metrics],
            "value": [value for _, _, value in metrics],
            "timestamp": [0] * len(metrics),
        },
    }


@dataclass(frozen=True)
class _Assessment:
    evaluation: str
    name: str
    value: str
    rationale: str


def _assessments(row: Row, evaluation: str) -> list[_Assessment]:
    """What MLflow shows in columns of their own."""
    right = _Assessment(evaluation, "right", "yes" if row.answered.score >= 1 else "no", row.why)
    if row.live is None:
        return [right]
    said = f"the live release says: {row.live.answer}"
    return [
        right,
        _Assessment(evaluation, "right live", "yes" if row.live.score >= 1 else "no", said),
        _Assessment(evaluation, "against live", row.change, said),
    ]


def _told(row: Row) -> str:
    return " or ".join(row.expected)


def _compared(rows: Sequence[Row]) -> bool:
    return any(row.live is not None for row in rows)
