"""Answer rows: each golden question with its expected and actual answers, as tables and assessments for MLflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ragtide.pipelines.records.evaluation import GoldenQuestion, GradedAnswer, Scorecard, Verdict

Columns = Mapping[str, list[Any]]


@dataclass(frozen=True)
class AnswerRow:
    """One golden question and its graded answer; `live` is the live release's, None where one release is scored."""

    question: GoldenQuestion
    graded: GradedAnswer
    live: GradedAnswer | None = None

    @property
    def change(self) -> str:
        """How the answer compares with that of the live release: "same", "better" or "worse"."""
        if self.live is None or self.live.score == self.graded.score:
            return "same"
        return "better" if self.graded.score > self.live.score else "worse"

    @property
    def explanation(self) -> str:
        """Why the answer got its score, and whether the index or the model is the likely cause."""
        if self.graded.score >= 1:
            return "correct"
        if not self.graded.well_formed:
            return "not in the required format"
        if self.graded.gold_retrieved is False:
            return "wrong: no gold passage was retrieved"
        return "wrong although a gold passage was retrieved" if self.graded.gold_retrieved else "wrong"

    @property
    def expected(self) -> str:
        """The accepted answers."""
        return " or ".join(self.question.answers)

    @property
    def assessments(self) -> dict[str, float | bool]:
        """The answer's grades by name; what was not measured is missing."""
        grades: dict[str, float | bool] = {"score": self.graded.score, "well_formed": self.graded.well_formed}
        if self.graded.gold_retrieved is not None:
            grades["gold_retrieved"] = self.graded.gold_retrieved
        return grades


def answer_rows(
    scorecard: Scorecard, questions: Sequence[GoldenQuestion], live: Scorecard | None = None
) -> list[AnswerRow]:
    """Return one row per question: first those that became worse, then the lowest scores, else in their order."""
    by_id = {question.id: question for question in questions}
    before = live.graded if live else (None,) * len(scorecard.graded)
    rows = [
        AnswerRow(by_id[graded.question], graded, earlier)
        for graded, earlier in zip(scorecard.graded, before, strict=True)
    ]
    return sorted(rows, key=lambda row: (row.change != "worse", row.graded.score))


def verdict_rows(verdict: Verdict, questions: Sequence[GoldenQuestion]) -> list[AnswerRow]:
    """Return one row per golden question with the answers of the live release and of the candidate."""
    return answer_rows(verdict.after, questions, verdict.before)


def answers_table(rows: Sequence[AnswerRow]) -> Columns:
    """Return the rows as columns, those that a reviewer needs most first."""
    compared = any(row.live is not None for row in rows)
    live = {"live_answer": [row.live.answer if row.live else "" for row in rows]} if compared else {}
    change = {"change": [row.change for row in rows]} if compared else {}
    return {
        "question": [row.question.question for row in rows],
        "expected_answer": [row.expected for row in rows],
        **live,
        "answer": [row.graded.answer for row in rows],
        **change,
        "explanation": [row.explanation for row in rows],
        "score": [row.graded.score for row in rows],
        "sources": [", ".join(row.graded.sources) for row in rows],
        "question_id": [row.question.id for row in rows],
    }
