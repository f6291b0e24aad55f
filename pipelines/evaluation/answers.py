"""How did each question fare, live and candidate? A row a question, for MLflow's tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ragtide.pipelines.records.evaluation import GoldenQuestion, GradedAnswer, Scorecard, Verdict

Columns = Mapping[str, list[Any]]


@dataclass(frozen=True)
class AnswerRow:
    """One golden question with what is right, and what was answered; `live` is None where one release is scored."""

    question: GoldenQuestion
    answered: GradedAnswer
    live: GradedAnswer | None = None

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
        if self.answered.gold_retrieved is False:
            return "the right passage was not among those found"
        return "wrong, with the right passage found" if self.answered.gold_retrieved else "wrong"

    @property
    def expected(self) -> str:
        return " or ".join(self.question.answers)

    @property
    def marks(self) -> dict[str, float | bool]:
        """How the answer was judged, mark by mark; what was not measured is left out."""
        found = {} if self.answered.gold_retrieved is None else {"passage found": self.answered.gold_retrieved}
        return {"score": self.answered.score, "well-formed": self.answered.well_formed} | found


def answer_rows(
    scorecard: Scorecard, questions: Sequence[GoldenQuestion], live: Scorecard | None = None
) -> list[AnswerRow]:
    """What became worse first, then what is wrong; the rest in the order of asking."""
    asked = {one.id: one for one in questions}
    before = live.graded if live else (None,) * len(scorecard.graded)
    rows = [AnswerRow(asked[one.question], one, old) for one, old in zip(scorecard.graded, before, strict=True)]
    return sorted(rows, key=lambda row: (row.change != "worse", row.answered.score))


def verdict_rows(verdict: Verdict, questions: Sequence[GoldenQuestion]) -> list[AnswerRow]:
    """The golden questions as the live release and the candidate answered them."""
    return answer_rows(verdict.after, questions, verdict.before)


def answers_table(rows: Sequence[AnswerRow]) -> Columns:
    """A row a question, as columns; the first say what a reviewer looks for."""
    live = {"live answer": [row.live.answer if row.live else "" for row in rows]} if _compared(rows) else {}
    change = {"against live": [row.change for row in rows]} if live else {}
    return {
        "question": [row.question.question for row in rows],
        "expected": [row.expected for row in rows],
        **live,
        "answer": [row.answered.answer for row in rows],
        **change,
        "why": [row.why for row in rows],
        "score": [row.answered.score for row in rows],
        "sources": [", ".join(row.answered.sources) for row in rows],
        "id": [row.question.id for row in rows],
    }


def _compared(rows: Sequence[AnswerRow]) -> bool:
    return any(row.live is not None for row in rows)
