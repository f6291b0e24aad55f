"""How well does a release answer the questions of now? As a run of its own in MLflow, and a page for people."""

from __future__ import annotations

from collections.abc import Sequence

from ragtide.pipelines.evaluation.answers import AnswerRow
from ragtide.pipelines.records.evaluation import Scorecard
from ragtide.pipelines.reports.markdown import SHOWN, markdown_table
from ragtide.pipelines.reports.verdict import retrieval_metrics


def scorecard_metrics(scorecard: Scorecard) -> dict[str, float | None]:
    """The three measures, and what each way to search finds."""
    measures = {
        "answer_score": scorecard.answer_score.value,
        "retrieval_recall": scorecard.retrieval_recall.value,
        "malformed_share": scorecard.malformed_share.value,
    }
    return measures | {"questions": float(len(scorecard.graded))} | retrieval_metrics(scorecard)


def scorecard_markdown(scorecard: Scorecard, rows: Sequence[AnswerRow]) -> str:
    """The measures with their intervals, and what was answered worst; `rows` has it first."""
    measures = [
        ("answer score", str(scorecard.answer_score)),
        ("retrieval recall", str(scorecard.retrieval_recall)),
        ("malformed share", str(scorecard.malformed_share)),
    ]
    wrong = [row for row in rows if row.answered.score < 1]
    shown = [(row.question.question, row.expected, row.answered.answer, row.why) for row in wrong[:SHOWN]]
    answered = f"{len(rows) - len(wrong)} of {len(rows)} questions are answered in full."
    worst = ["## Answered worst", markdown_table(("question", "expected", "answer", "why"), shown)] if shown else []
    return "\n\n".join(["# Evaluation", markdown_table(("measure", "value"), measures), answered, *worst])
